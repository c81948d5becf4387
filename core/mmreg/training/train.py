"""A training from recipe to run folder, new or gone on with, and the end of one that was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.errors import OptionError, RunError
from mmreg.experiment import checked_plan, open_experiment
from mmreg.files import as_path
from mmreg.messages import to_type
from mmreg.model.allocator import freed_memory_kept
from mmreg.model.devices import deterministic, resolve_device, resolve_precision, tuned
from mmreg.model.seeding import random_state_kept
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.runs.followers import Followers
from mmreg.runs.notebook_bar import follower
from mmreg.training.checkpoint import has_checkpoint
from mmreg.training.joining import joined
from mmreg.training.peers import Peers, check_plan
from mmreg.training.profiling import Profile
from mmreg.training.resuming import Resumption, check_recipe, resumption
from mmreg.training.session import Session
from mmreg.training.stopping import Stop
from mmreg.training.validation_rows import check_validation


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    accept_changes: bool = False,
    device: str | torch.device | None = None,
    shard: bool = False,
    callback: Callback | None = None,
    stop: Stop | None = None,
    profile: bool = False,
    test: bool = True,
) -> Run:
    """Train the model of a recipe.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        out: the folder to write the run to.
        overrides: keys to change, such as "training.epochs=3".
        overwrite: whether to replace a run that is there.
        resume: whether to go on with a training that was stopped; with none there, it starts. The recipe may say
            otherwise when to end (epochs, max_steps, max_minutes, early_stopping), but nothing else.
        accept_changes: whether to resume although components or versions have changed since.
        device: where to compute; the best one there is if it is not given.
        shard: whether each of several processes, as torchrun starts them, is to have a share of the weights, gradients
            and the optimizer's state alone, for a model that does not fit one device.
        callback: who is told how it goes, besides the callbacks that plugins bring. Without one, a notebook shows a bar
            and anything else nothing; `mmreg.Callback()` is silent in both.
        stop: the wish that it end, which another thread may set by `stop.wanted = True`; a new one for each call.
        profile: whether to measure where the time goes, into the run's folder `profile`; the training is the same.
        test: whether the test rows are measured at the end; a search that trains many times leaves them alone, and
            measures its last training alone.

    Returns:
        The run, with the best weights.

    Raises:
        RecipeError: the recipe is wrong; names every problem.
        TableError, TargetError, DataError: the data are wrong; name the place.
        RunError: a run is there already, or cannot be resumed.
        TrainingError: the loss is no longer finite.
        Stopped: `stop` was wanted; all steps are kept, and `resume` goes on with the next one.
    """
    if stop is not None and not isinstance(stop, Stop):
        raise OptionError(f"stop must be a mmreg.Stop, found {type(stop).__name__}")
    folder = as_path(out, "out")
    shared: Callable[[torch.device], Any] | None = None
    if shard:
        from mmreg.training.sharding import Sharded  # which takes half a second

        shared = Sharded
    with joined(device, shared) as (peers, target):
        plan = checked_plan(read_recipe(recipe, overrides))
        resolve_precision(plan.recipe.form.training.precision, target)
        check_plan(peers, plan)
        if not peers.leads:
            begun = peers.from_first(lambda: False)
            goes_on = resumption(folder, plan, accept_changes=accept_changes) if begun else None
            _run(folder, plan, target, Followers.nobody(), goes_on, stop=stop, peers=peers)
            peers.wait()  # until it is measured and written
            return runs.load(folder, target)
        with runs.writing(folder) as check:
            goes_on = _begun(folder, plan, overwrite=overwrite, resume=resume, accept_changes=accept_changes)
            peers.from_first(lambda: goes_on is not None)
            profiled = Profile(folder, target) if profile else None
            followers = Followers(follower(callback), plan.callbacks, profiled)
            if peers.shards and followers.has("on_gradients"):
                raise OptionError(
                    "a callback follows the gradients, and with --shard a process has a share of them; leave one out"
                )
            run = _run(folder, plan, target, followers, goes_on, check, stop, profiled, test, peers)
            assert run is not None
        peers.wait()
        return run


def _begun(folder: Path, plan: Plan, *, overwrite: bool, resume: bool, accept_changes: bool) -> Resumption | None:
    """What there is to go on with in a folder that is held for writing; None for a new training."""
    if not resume or overwrite or not runs.is_run(folder):
        runs.claim(folder, overwrite=overwrite)
        if overwrite:
            runs.keep_sources([folder], plan)
        return None
    if has_checkpoint(folder):
        return resumption(folder, plan, accept_changes=accept_changes)
    if (folder / runs.WEIGHTS).is_file():
        raise RunError(
            f"there is no checkpoint in {str(folder)!r} to go on from; the run there is whole: train anew by "
            "--overwrite, or into another folder"
        )
    check_recipe(folder, plan)
    return None


def finish(
    folder: str | Path,
    table: Any = None,
    *,
    accept_changes: bool = False,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> Run:
    """Make a run of a training that was stopped: with its best weights so far, measured as at the end of any.

    Args:
        folder: where the training wrote to.
        table: its table, if that is in memory or elsewhere by now.
        accept_changes: as for `train`.
        device: where to compute; the best one there is if it is not given.
        callback: who is told how it goes.

    Raises:
        RunError: there is no training, it has ended, or there is no checkpoint of it.
        TableError: the table is not there, or cannot be read.
    """
    folder = as_path(folder, "folder")
    target = resolve_device(device)
    facts = runs.read_facts(folder)
    recipe = read_recipe(runs.run_file(folder, runs.RECIPE))
    plan = checked_plan(recipe if table is None else recipe.with_table(table))
    cells = Path(facts["table"].get("folder", folder))  # what those of scheme://... are relative to
    plan.recipe.folder = cells if cells.is_dir() else None
    with runs.writing(folder) as check:
        if runs.has_ended(folder) or ((folder / runs.WEIGHTS).is_file() and not has_checkpoint(folder)):
            raise RunError(f"the training in {str(folder)!r} has ended, and is a run: mmreg evaluate {to_type(folder)}")
        if not has_checkpoint(folder):
            raise RunError(
                f"the training in {str(folder)!r} was stopped before an epoch had ended or a checkpoint was due; "
                "go on with it by --resume, which begins anew"
            )
        ends = resumption(folder, plan, accept_changes=accept_changes, finishes=True)
        run = _run(folder, plan, target, Followers(follower(callback), plan.callbacks), ends, check)
        assert run is not None
        return run


def _run(
    folder: Path,
    plan: Plan,
    device: torch.device,
    followers: Followers,
    goes_on: Resumption | None,
    check: Callable[[], None] = lambda: None,
    stop: Stop | None = None,
    profiled: Profile | None = None,
    test: bool = True,
    peers: Peers | None = None,
) -> Run | None:
    """Train in a folder that is held for writing, for as long as `check` finds it there; None for who only helps."""
    if peers is None or peers.leads:
        runs.remove_leftovers(folder)
    experiment = open_experiment(plan, None if goes_on is None else goes_on.restoring.modalities())
    check_validation(plan, experiment)
    training = plan.recipe.form.training
    arithmetic = tuned(device, resolve_precision(training.precision, device), deterministic=training.deterministic)
    with deterministic(training.deterministic), arithmetic, random_state_kept(device), freed_memory_kept():
        session = Session(folder, experiment, device, followers, goes_on, stop, check, test, peers)
        try:
            with nullcontext() if profiled is None else profiled.active(followers.message):
                return session.run()
        except FileNotFoundError:
            check()  # says so where it is the folder that is gone
            raise
