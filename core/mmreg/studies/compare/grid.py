"""The grid of a comparison: every fusion, choice of encoders, balance and seed, and each modality alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.data.cache import cache_dir
from mmreg.errors import MmregError, OptionError, RecipeError, RunError, TrainingError, ValidationRowsError
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.files import as_path, unwritable
from mmreg.messages import listed, plural, shown
from mmreg.model.build import build
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.recipe.diff import comparable, recipe_differences
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.runs.notebook_bar import follower
from mmreg.studies.compare.analysis import chosen_metric, compare_variants
from mmreg.studies.compare.comparison import RESAMPLES, Comparison
from mmreg.studies.compare.jobs import Job, device_slots, is_finished, run_jobs
from mmreg.studies.compare.predictions import TrainedRun, trained_run
from mmreg.studies.compare.results import FailedTraining
from mmreg.studies.compare.variants import BALANCE, Choice, GridVariant, folder_names, grid_variants
from mmreg.studies.predicting import expect_target
from mmreg.training.validation_rows import check_validation

RUNS = "runs"
SEEDS = (0, 1, 2)
Member = TypeVar("Member")


def run_grid(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    fusions: Sequence[Choice] | None = None,
    level: Literal["feature", "model"] | None = None,
    encoders: Mapping[str, Sequence[Choice]] | None = None,
    balances: Sequence[Choice] | None = None,
    seeds: Sequence[int] = SEEDS,
    singles: bool = True,
    overrides: Iterable[str] = (),
    metric: str | None = None,
    split: Literal["validation", "test"] | None = None,
    device: str | torch.device | None = None,
    jobs: int | None = None,
    resamples: int = RESAMPLES,
    callback: Callback | None = None,
) -> Comparison:
    """Train every variant with every seed, as far as that is not done yet, and compare them.

    Each training is an ordinary run in `out/runs/VARIANT/seed-N`. Called again, finished ones are kept, one that was
    stopped goes on, and new variants or seeds are added. All variants are checked before anything is trained. One
    that fails does not stop the others.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        out: the folder of the comparison.
        fusions: operators by name or as mappings of `name` and options; "all" for every one that takes the recipe's
            task and number of modalities. The recipe's own if not given.
        level: with "all", only those of this level; alone, the same as "all" with it.
        encoders: for each modality, encoders by name or as mappings; the recipe's own where not given.
        balances: by name or as mappings, "none" for training without one; the recipe's own if not given. With
            operators that do not take it, one that others do take is left out.
        seeds: of each variant's trainings.
        singles: whether to train each modality alone, too, as the baseline.
        overrides: keys of the recipe to change, such as "training.epochs=3".
        metric: what to compare by; what the recipe chooses weights by if it is not given.
        split: which rows to compare by; those of test if it is not given, or of validation if there are none.
        device: where to compute; the best one there is if it is not given.
        jobs: how many trainings at the same time, each in a process of its own; one on a CPU, one for each
            accelerator, if it is not given. Components registered in this process, or a table in memory, need one.
        resamples: how many bootstrap draws.
        callback: who is told how it goes.

    Raises:
        RecipeError: a variant is wrong, or fewer than two fit the recipe; names every problem of all variants.
        TableError, TargetError, DataError: the data are wrong.
        OptionError: the same seed twice, no seed, or fewer than one job.
        RunError: `out` holds something else, or trainings of another recipe.
        TrainingError: fewer than two variants are left, as the others failed; says why.
    """
    callback = follower(callback)
    check_numbers(seeds, jobs)
    slots = device_slots(device, jobs)
    base = read_recipe(recipe, overrides)
    expect_target(base, "a comparison")
    variants = grid_variants(base, fusions, level, encoders or {}, singles, balances)
    resolve_precision(base.form.training.precision, resolve_device(slots[0]))
    folder = as_path(out, "out")
    trainings, notes = check_grid(base, variants, seeds, folder / RUNS, callback)
    chosen_metric(trainings[0].plan, metric)
    errors = train_in(folder, trainings, notes, slots, callback, "a comparison")
    comparison = _compare(trainings, errors, metric, resamples, split)
    comparison.notes += notes
    return comparison


def train_in(
    folder: Path, trainings: Sequence[Job], notes: list[str], slots: Sequence[str], callback: Callback, what: str
) -> dict[Job, str]:
    """Train in a study's folder what is not trained there yet; why those that failed did.

    Args:
        folder: the folder.
        trainings: all that the study needs.
        notes: what a reader should know, which is told and added to.
        slots: the device of each of the trainings that run side by side.
        callback: who is told how it goes.
        what: what the study is called.

    Raises:
        RunError: the folder holds something else, or trainings of another recipe or table.
    """
    with runs.writing(folder):
        _check_folder(folder, what)
        check_unchanged(trainings, folder)
        notes += _not_asked_for(folder, trainings)
        for text in notes:
            callback.on_message(text)
        return _train(trainings, slots, callback)


def _train(trainings: Sequence[Job], slots: Sequence[str], callback: Callback) -> dict[Job, str]:
    """Train what is not trained yet; why those that failed did."""
    todo = [job for job in trainings if not is_finished(job.folder)]
    if todo:
        prepare_grid(todo, callback)
        if len(todo) < len(trainings):
            callback.on_message(f"trainings that are done already: {len(trainings) - len(todo)} of {len(trainings)}")
    return run_jobs(todo, slots, callback)


def _compare(
    trainings: Sequence[Job], errors: dict[Job, str], metric: str | None, resamples: int, split: str | None
) -> Comparison:
    """Compare those that did not fail."""
    trained: dict[str, list[TrainedRun]] = {}
    for job in trainings:
        if job not in errors:
            try:
                run = trained_run(job.folder)
                # What is damaged or gone is refused here, before it ends the whole comparison.
                if runs.read_predictions(job.folder, split or "test") is None:
                    runs.read_predictions(job.folder, "validation")
            except MmregError as error:
                errors[job] = f"{error} ({job.anew})"
            else:
                trained.setdefault(job.variant, []).append(run)
    failed = [FailedTraining(job.variant, job.seed, errors[job]) for job in trainings if job in errors]
    if len(trained) < 2:
        count = len({job.variant for job in trainings})
        reasons = "".join(f"\n  {each.variant}, seed {each.seed}: {each.reason}" for each in failed)
        raise TrainingError(f"{len(trained)} of {count} variants could be trained, too few to compare{reasons}")
    comparison = compare_variants(trained, metric=metric, split=split, resamples=resamples)
    comparison.failed += failed
    return comparison


def check_numbers(seeds: Sequence[int], jobs: int | None) -> None:
    """Refuse seeds and numbers of jobs that have no meaning.

    Raises:
        OptionError: the same seed twice, no seed, a negative one, or fewer than one job.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        told = ", ".join(map(str, seeds)) or "none"
        raise OptionError(f"seeds must be different numbers of at least 0, found {told}")
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs must be at least 1, found {jobs}")


def check_grid(
    base: Recipe, variants: Sequence[GridVariant], seeds: Sequence[int], folder: Path, callback: Callback
) -> tuple[list[Job], list[str]]:
    """Resolve every variant and build each model once, so that no wrong one is found hours later.

    Returns:
        A job for each variant and seed, to be run in the folder; and what was left out, and why, of the variants that
        were not asked for by name, or whose operator takes no balance and is beside others that do.

    Raises:
        RecipeError: names every problem of all variants that were asked for; of all if fewer than two fit.
        TableError, TargetError: the table is wrong.
    """
    slugs = folder_names([variant.name for variant in variants])
    opened: dict[str, Experiment] = {}
    built: set[str] = set()
    jobs: list[Job] = []
    problems: dict[str, Sequence[str]] = {}
    for number, variant in enumerate(variants):
        callback.on_progress("checking variants", number, len(variants), variant.name)
        try:
            plans = {seed: resolve(base.replace({**variant.changes, "training.seed": seed})) for seed in seeds}
            experiments = {seed: _experiment(plan, opened) for seed, plan in plans.items()}
            experiment = experiments[seeds[0]]
            if (model := _model_of(plans[seeds[0]], experiment)) not in built:
                build(plans[seeds[0]], experiment.specs, experiment.task)
                built.add(model)
            check_validation(plans[seeds[0]], experiment)
        except (RecipeError, ValidationRowsError) as error:
            problems[variant.name] = (isinstance(error, RecipeError) and error.problems) or [str(error)]
        else:
            place = folder / slugs[variant.name]
            jobs += [Job(variant.name, seed, plans[seed], experiments[seed], place / f"seed-{seed}") for seed in seeds]
    fitting = [variant for variant in variants if variant.name not in problems]
    # Where too little is left to compare, what the others lack is a problem as well.
    needed = [
        variant.name
        for variant in variants
        if variant.name in problems
        and (len(fitting) < 2 or not (variant.optional or _lacks_only_balance(variant, fitting, base)))
    ]
    concerned = _grouped((problem, name) for name in needed for problem in problems[name])
    if concerned:
        lines = [
            f"  {'every variant' if len(names) == len(variants) else listed(names)}: {problem}"
            for problem, names in concerned.items()
        ]
        raise RecipeError("\n".join([f"{base.name}: {plural(len(lines), 'problem')}", *lines]))
    return jobs, [f"{name} is left out: {'; '.join(told)}" for name, told in problems.items()]


def _lacks_only_balance(variant: GridVariant, fitting: Sequence[GridVariant], base: Recipe) -> bool:
    """Whether an operator and a balance are right, each in other variants, and only do not go together."""
    balance = variant.changes.get(BALANCE)
    if balance is None or all(other.changes.get(BALANCE) != balance for other in fitting):
        return False
    try:
        resolve(base.replace({**variant.changes, BALANCE: None}))
    except RecipeError:
        return False
    return True


def _experiment(plan: Plan, opened: dict[str, Experiment]) -> Experiment:
    """A plan's table and fitted modalities, read once for all plans of a grid with the same modalities and split."""
    data = plan.to_data()
    modalities = {
        name: {**options, "encoder": [options["encoder"].get(key) for key in ("from", "input")]}
        for name, options in data["modalities"].items()
    }
    missing = data["training"]["missing_rate"]
    seed = None if isinstance(data["split"], str) and not missing else data["training"]["seed"]
    key = json.dumps([modalities, missing, seed], sort_keys=True)
    if key not in opened:
        opened[key] = open_experiment(plan)
    return opened[key]


def _model_of(plan: Plan, experiment: Experiment) -> str:
    """What a plan's model is made of; equal for plans that take values from other rows."""
    data = plan.to_data()
    training = {key: value for key, value in data["training"].items() if key != "missing_rate"}
    return json.dumps([{**data, "training": training}, repr(experiment.specs)], sort_keys=True, default=str)


def check_unchanged(jobs: Sequence[Job], folder: Path) -> None:
    """Refuse to go on with trainings of another recipe or table, as their figures could not be compared.

    Raises:
        RunError: says what differs; or one that is not there yet cannot be written.
    """
    changes: list[tuple[str, Job]] = []
    for job in jobs:
        if runs.is_run(job.folder):
            before = resolve(read_recipe(runs.run_file(job.folder, runs.RECIPE)), trains=False)
            for key, old, new in recipe_differences(comparable(before), comparable(job.plan)):
                changes.append((f"{key} was {shown(old)} and is {shown(new)}", job))
            table = job.experiment.table
            if runs.read_facts(job.folder)["table"]["fingerprint"] != table.fingerprint():
                changes.append((f"the rows of {table.name} have changed", job))
        elif why := unwritable(job.folder / runs.RECIPE):
            raise RunError(f"{job.title} cannot be written to {str(job.folder)!r}: {why}")
    if changes:
        lines = [
            f"  {change} ({of[0].title if len(of) == 1 else f'{len(of)} trainings, such as {of[0].title}'})"
            for change, of in _grouped(changes).items()
        ]
        what = f"the trainings in {str(folder)!r} were made with another recipe or table"
        raise RunError("\n".join([f"{what}; use those, or name another folder", *lines]))


def prepare_grid(jobs: Sequence[Job], callback: Callback) -> None:
    """Decode all data once, so that trainings side by side find them in the cache; and say what is odd about them.

    Raises:
        DataError: cells cannot be loaded and the policy is to stop.
    """

    def preparing(done: int, total: int, name: str) -> None:
        callback.on_progress(f"preparing {name}", done, total)

    opened = {id(job.experiment): job.experiment for job in jobs}
    first = {id(job.experiment): job for job in reversed(jobs)}
    told: dict[str, list[int]] = {}
    for number, experiment in opened.items():
        for text in experiment.messages:
            told.setdefault(text, []).append(number)
    for text, numbers in told.items():
        of = "" if len(numbers) == len(opened) else f"{first[numbers[0]].title}: "
        more = f" (and {plural(len(numbers) - 1, 'other')})" if of and len(numbers) > 1 else ""
        callback.on_message(f"{of}{text}{more}")
    for experiment in opened.values():
        prepare_all(experiment.plan, experiment.table, experiment.modalities, cache_dir(), preparing)


def _check_folder(folder: Path, what: str) -> None:
    """Refuse a folder that holds something else than such a study."""
    there = {path.name for path in folder.iterdir()} - {runs.LOCK}
    if there and not (folder / RUNS).is_dir():
        raise RunError(f"{str(folder)!r} holds something else than {what}; name another folder")


def _not_asked_for(folder: Path, trainings: Sequence[Job]) -> list[str]:
    """A note on finished trainings in a study's folder that are not among these, if there are any."""
    there = set(folder.glob(f"{RUNS}/*/seed-*")) - {job.folder for job in trainings}
    seeds = _grouped((path.parent.name, path.name.removeprefix("seed-")) for path in sorted(there) if is_finished(path))
    others = ", ".join(f"{name} (seed {', '.join(numbers)})" for name, numbers in seeds.items())
    return [f"finished trainings in {folder} that were not asked for are left out: {others}"] if others else []


def _grouped(pairs: Iterable[tuple[str, Member]]) -> dict[str, list[Member]]:
    """The second ones of pairs by the first."""
    groups: dict[str, list[Member]] = {}
    for key, member in pairs:
        groups.setdefault(key, []).append(member)
    return groups
