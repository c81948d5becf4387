"""The grid of a comparison: every fusion with every choice of encoders and every seed, and each modality alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from mmreg.contract.callback import Callback
from mmreg.errors import MmregError, OptionError, RunError, TrainingError
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.studies.compare.checking import Experiments, check_grid, check_unchanged, prepare_grid
from mmreg.studies.compare.choices import Choice, grid_variants
from mmreg.studies.compare.comparison import chosen_metric, compare_outcomes
from mmreg.studies.compare.outcomes import Outcome, outcome_of
from mmreg.studies.compare.results import RESAMPLES, Comparison, Failure
from mmreg.studies.compare.running import Job, device_slots, is_finished, run_jobs

RUNS = "runs"
SEEDS = (0, 1, 2)


def run_grid(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    fusions: Sequence[Choice] | None = None,
    level: Literal["feature", "model"] | None = None,
    encoders: Mapping[str, Sequence[Choice]] | None = None,
    seeds: Sequence[int] = SEEDS,
    singles: bool = True,
    overrides: Iterable[str] = (),
    metric: str | None = None,
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
        seeds: of each variant's trainings.
        singles: whether to train each modality alone, too, as the baseline.
        overrides: keys of the recipe to change, such as "training.epochs=3".
        metric: what to compare by; what the recipe chooses weights by if it is not given.
        device: where to compute; the best one there is if it is not given.
        jobs: how many trainings at the same time, each in a process of its own; one on a CPU, one for each
            accelerator, if it is not given. Components registered in this process, or a table in memory, need one.
        resamples: how many bootstrap draws.
        callback: who is told how it goes.

    Raises:
        RecipeError: a variant is wrong; names every problem of all variants.
        TableError, TargetError, DataError: the data are wrong.
        OptionError: the same seed twice, no seed, or fewer than one job.
        RunError: `out` holds something else, or trainings of another recipe.
        TrainingError: fewer than two variants are left, as the others failed; says why.
    """
    callback = callback or Callback()
    _check_numbers(seeds, jobs)
    slots = device_slots(device, jobs)
    base = read_recipe(recipe, overrides)
    variants, notes = grid_variants(base, fusions, level, encoders or {}, singles)
    resolve_precision(base.form.training.precision, resolve_device(slots[0]))
    experiments = Experiments()
    plans, skipped = check_grid(base, variants, seeds, experiments)
    chosen_metric(next(iter(plans[0][2].values())), metric)
    folder = _claim(Path(out))
    trainings = [
        Job(name, seed, plan, folder / RUNS / slug / f"seed-{seed}")
        for name, slug, by_seed in plans
        for seed, plan in by_seed.items()
    ]
    check_unchanged(folder, trainings, experiments)
    left_out = _left_out(folder, trainings)
    if left_out:
        notes.append(f"finished trainings in {folder} that were not asked for are left out: {', '.join(left_out)}")
    for text in [*notes, *skipped]:
        callback.on_message(text)
    todo = [job for job in trainings if not is_finished(job.folder)]
    if todo:
        prepare_grid(todo, experiments, callback)
        if len(todo) < len(trainings):
            callback.on_message(f"{len(trainings) - len(todo)} of {len(trainings)} trainings are done already")
    failed = run_jobs(todo, slots, callback)
    outcomes, unreadable = _outcomes(trainings, failed)
    failed += unreadable
    if len(outcomes) < 2:
        reasons = "".join(f"\n  {failure.variant}, seed {failure.seed}: {failure.reason}" for failure in failed)
        raise TrainingError(
            f"{len(outcomes)} of {len(variants)} variants could be trained, too few to compare{reasons}"
        )
    comparison = compare_outcomes(outcomes, metric=metric, resamples=resamples)
    comparison.failed += failed
    comparison.notes += [*notes, *skipped]
    return comparison


def _check_numbers(seeds: Sequence[int], jobs: int | None) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise OptionError(
            f"seeds must be different numbers of at least 0, found {', '.join(map(str, seeds)) or 'none'}"
        )
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs must be at least 1, found {jobs}")


def _left_out(folder: Path, trainings: Sequence[Job]) -> list[str]:
    """Variants and seeds in a comparison's folder that are finished, but not among these trainings."""
    asked = {job.folder for job in trainings}
    there = sorted(path for path in folder.glob(f"{RUNS}/*/seed-*") if path.is_dir())
    found: dict[str, list[str]] = {}
    for path in there:
        if path not in asked and is_finished(path):
            found.setdefault(path.parent.name, []).append(path.name.removeprefix("seed-"))
    return [f"{name} (seed {', '.join(seeds)})" for name, seeds in found.items()]


def _claim(folder: Path) -> Path:
    """Refuse a folder that holds something else than a comparison."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a folder for the comparison")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUNS).is_dir():
        raise RunError(f"{str(folder)!r} holds something else than a comparison; name another folder")
    return folder


def _outcomes(trainings: Sequence[Job], failed: Sequence[Failure]) -> tuple[dict[str, list[Outcome]], list[Failure]]:
    """The finished runs by variant, and those that cannot be read."""
    lost = {(failure.variant, failure.seed) for failure in failed}
    found: dict[str, list[Outcome]] = {}
    unreadable = []
    for job in trainings:
        if (job.variant, job.seed) in lost:
            continue
        try:
            found.setdefault(job.variant, []).append(outcome_of(job.folder))
        except MmregError as error:
            unreadable.append(Failure(job.variant, job.seed, str(error)))
    return {name: group for name, group in found.items() if group}, unreadable
