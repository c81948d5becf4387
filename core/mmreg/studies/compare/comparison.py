"""From trained runs to what they allow to say: figures of each variant, and a paired test of every two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmreg.errors import OptionError, RunError
from mmreg.messages import near
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.studies.compare.outcomes import Outcome, outcome_of, with_predictions
from mmreg.studies.compare.pairing import Pairing
from mmreg.studies.compare.results import RESAMPLES, Comparison, Variant
from mmreg.studies.compare.statistics import Sample, bootstrap, interval
from mmreg.studies.compare.variants import group_runs

DRAWS_SEED = 0
"""The seed of the bootstrap, so that a comparison gives the same figures again."""


def compare(
    runs: Sequence[Run | str | Path] | Mapping[str, Sequence[Run | str | Path] | Run | str | Path],
    *,
    metric: str | None = None,
    split: str | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare trained runs on the test rows that they share; trains and decodes nothing.

    Args:
        runs: runs or their folders; those with the same recipe but for the seed are one variant. Or for each
            variant's name its runs, or its one run.
        metric: what to compare by; if it is not given, what the first run's weights were chosen by (the task's main
            metric, unless its recipe names another).
        split: which rows; the test rows if it is not given, or those of validation if there are none.
        resamples: how many bootstrap draws.

    Raises:
        RunError: a folder is no finished run, there are fewer than two variants, the same variant stands there twice
            with one seed, or the runs have no common rows or different tasks.
        OptionError: the task does not know the metric, or there are too few draws.
    """
    if isinstance(runs, Mapping):
        groups = {name: [group] if isinstance(group, Run | str | Path) else group for name, group in runs.items()}
        variants = {name: [outcome_of(run) for run in group] for name, group in groups.items() if group}
    else:
        variants = group_runs([outcome_of(run) for run in runs])
    if len(variants) < 2:
        raise RunError(f"comparing needs at least two variants, found {len(variants)} in {len(runs)} runs")
    return compare_outcomes(variants, metric=metric, split=split, resamples=resamples)


def compare_outcomes(
    variants: Mapping[str, Sequence[Outcome]],
    *,
    metric: str | None = None,
    split: str | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The same for runs that are read already, at least one for each variant; raises as `compare` does."""
    if resamples < 100:
        raise OptionError(f"{resamples} bootstrap draws give no interval; use at least 100")
    for name, group in variants.items():
        seeds = [run.seed for run in group]
        if len(set(seeds)) < len(seeds):
            folders = ", ".join(str(run.folder) for run in group)
            raise RunError(f"{name} stands there twice with the same seed: {folders}")
    flat = [run for group in variants.values() for run in sorted(group, key=lambda run: run.seed)]
    names = [name for name, group in variants.items() for _ in group]
    first = flat[0]
    metric = chosen_metric(first.plan, metric)
    flat, split, keys, notes = with_predictions(flat, split)
    more = first.task.metrics[metric]
    draws = bootstrap([_sample(run, metric) for run in flat], len(keys), resamples, DRAWS_SEED)
    figures = [run.metrics([metric]) for run in flat]
    found = []
    of: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        of.setdefault(name, []).append(index)
    for name, at in of.items():
        middle = interval(draws[:, at].mean(1))
        found.append(Variant(name, [flat[i] for i in at], [figures[i] for i in at], middle))
    found.sort(key=lambda variant: variant.mean(metric), reverse=more)
    pairs = Pairing(metric, more, len(keys), {name: draws[:, at] for name, at in of.items()}).all(found)
    unpaired = len(found) * (len(found) - 1) // 2 - len(pairs)
    if unpaired:
        notes.append(f"{unpaired} pairs share no seed and have different rows, so they are not tested")
    return Comparison(metric, more, split, len(keys), found, pairs, [], notes, resamples)


def chosen_metric(plan: Plan, metric: str | None) -> str:
    """What runs are compared by: the metric that is asked for, else the recipe's, else the task's.

    Raises:
        OptionError: the task has none of that name.
    """
    task = plan.task.cls
    metric = metric or plan.recipe.form.training.metric or task.main_metric
    if metric not in task.metrics:
        raise OptionError(
            f"the task has no metric {metric!r}{near(metric, task.metrics)}; it has {', '.join(task.metrics)}"
        )
    return metric


def _sample(run: Outcome, metric: str) -> Sample:
    if metric == "accuracy" and run.correct is not None:
        right = run.correct.astype(np.float64)
        return Sample(run.rows, lambda chosen: float(right[chosen].mean()))
    return Sample(run.rows, lambda chosen: run.measure(metric, chosen))
