"""Several seeds of one recipe as one run, which predicts by the mean of their predictions (Lakshminarayanan 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.errors import OptionError
from mmreg.files import as_path
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.recipe.form import Form, Fractions
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.runs.fuse import combine, tell_end
from mmreg.runs.notebook_bar import follower
from mmreg.studies.compare.jobs import device_slots
from mmreg.studies.ensembles.members import Ensemble, claim_members, figures, open_members, spread, train_members
from mmreg.studies.predicting import expect_target


def train_seeds(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int],
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    device: str | torch.device | None = None,
    jobs: int | None = None,
    callback: Callback | None = None,
) -> Ensemble:
    """Train a recipe with each of several seeds on the same rows, and combine them by the mean of their predictions.

    Each training is an ordinary run in `out/seed-N`, and `out` the run that they are combined to. A split at random is
    that of the recipe's own seed in all of them.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        out: the folder to write to.
        seeds: at least two, all different.
        overrides: keys to change, such as "training.epochs=3".
        overwrite: whether to replace what is there.
        resume: whether to go on with what is there: finished trainings are kept.
        device: where to compute; the best one there is if it is not given.
        jobs: how many trainings at the same time, each in a process of its own; as for `compare` if it is not given.
        callback: who is told how it goes.

    Raises:
        OptionError: there are fewer than two seeds, the same one twice, or fewer than one job.
        RecipeError, TableError, TargetError, DataError: as for a training.
        RunError: `out` holds something else, or trainings of another recipe.
        TrainingError: one training failed; the others are kept.
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        found = ", ".join(map(str, seeds)) or "none"
        raise OptionError(f"seeds must be at least two different numbers from 0 on, found {found}")
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs must be at least 1, found {jobs}")
    slots, folder, told = device_slots(device, jobs), as_path(out, "out"), follower(callback)
    base = read_recipe(recipe, overrides)
    expect_target(base, "a mean over seeds")
    resolve_precision(base.form.training.precision, resolve_device(slots[0]))
    fixed = fixed_split(base.form)
    trainings = open_members(base, {f"seed-{seed}": {**fixed, "training.seed": seed} for seed in seeds}, folder)
    with runs.writing(folder):
        claim_members(folder, "seed", trainings[0].plan, overwrite=overwrite, resume=resume)
        train_members(trainings, slots, folder, told)
        measured = {split: each for split in ("validation", "test") if (each := figures(trainings, split))}
        metrics = spread(next(reversed(measured.values()))) if measured else {}
        loaded = [runs.load(job.folder, "cpu") for job in trainings]
        run = combine(loaded, {"name": "mean"}, folder, resolve_device(device), further={"seeds": measured})
        tell_end(run)
    return Ensemble(run, {job.variant: job.folder for job in trainings}, metrics)


def fixed_split(form: Form) -> dict[str, Any]:
    """The change of a recipe that makes its split, where it is at random, the same whatever the training's seed."""
    files = form.files()
    if isinstance(form.split, str) or (form.split is None and "" not in files):
        return {}
    split = form.split.model_dump(exclude_unset=True) if isinstance(form.split, Fractions) else {}
    return {"split": {**split, "seed": form.training.seed if split.get("seed") is None else split["seed"]}}
