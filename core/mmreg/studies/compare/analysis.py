"""From trained runs to what they allow to say: figures of each variant, and a paired test of every two."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mmreg.errors import OptionError, RunError
from mmreg.messages import listed, near
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.studies.compare.comparison import RESAMPLES, Comparison
from mmreg.studies.compare.predictions import ComparedRun, TrainedRun, trained_run, with_predictions
from mmreg.studies.compare.results import Pair, Variant, Verdict
from mmreg.studies.compare.variants import group_runs
from mmreg.studies.statistics import bootstrap, bootstrap_p, holm, interval, mcnemar

DRAWS_SEED = 0
"""The seed of the bootstrap, so that a comparison gives the same figures again."""
LEVEL = 0.05
"""The chance of any false claim that is accepted, over all pairs of a comparison."""


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
        OptionError: the task does not know the metric, it is undefined on the rows, or there are too few draws.
    """
    if isinstance(runs, Mapping):
        groups = {name: [group] if isinstance(group, Run | str | Path) else group for name, group in runs.items()}
        variants = {name: [trained_run(run) for run in group] for name, group in groups.items() if group}
    else:
        variants = group_runs([trained_run(run) for run in runs])
    if len(variants) < 2:
        raise RunError(f"comparing needs at least two variants, found {len(variants)} in {len(runs)} runs")
    return compare_variants(variants, metric=metric, split=split, resamples=resamples)


def compare_variants(
    variants: Mapping[str, Sequence[TrainedRun]],
    *,
    metric: str | None = None,
    split: str | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The same for runs that are read already, at least one for each variant; raises as `compare` does."""
    if resamples < 100:
        raise OptionError(f"{resamples} bootstrap draws give no interval; use at least 100")
    groups = {name: sorted(group, key=lambda run: run.seed) for name, group in variants.items()}
    for name, group in groups.items():
        if len({run.seed for run in group}) < len(group):
            folders = ", ".join(str(run.folder) for run in group)
            raise RunError(f"{name} stands there twice with the same seed: {folders}")
    trained = [run for group in groups.values() for run in group]
    metric = chosen_metric(trained[0].plan, metric)
    more_is_better = trained[0].plan.metric_directions[metric]
    compared, split, rows, notes = with_predictions(trained, split, metric)
    undefined = [str(run.folder) for run in compared if metric not in run.figures]
    if undefined:
        raise OptionError(
            f"the metric {metric!r} is undefined on the {split} rows of {listed(undefined, 3)}; choose another one"
        )
    samples = [(run.rows, partial(run.measure, metric)) for run in compared]
    draws = bootstrap(samples, rows, resamples, DRAWS_SEED)
    measured = []
    start = 0
    for name, group in groups.items():
        own = slice(start, start + len(group))
        measured.append(Variant(name, compared[own], draws[:, own]))
        start = own.stop
    measured.sort(key=lambda variant: variant.mean(metric), reverse=more_is_better)
    pairs = _tested_pairs(measured, metric, more_is_better)
    unpaired = len(measured) * (len(measured) - 1) // 2 - len(pairs)
    if unpaired:
        notes.append(f"{unpaired} pairs share no seed and have different rows, so they are not tested")
    return Comparison(metric, more_is_better, split, rows, measured, pairs, [], notes, resamples)


def chosen_metric(plan: Plan, metric: str | None) -> str:
    """What runs are compared by: the metric that is asked for, else the recipe's, else the task's.

    Raises:
        OptionError: the task has none of that name.
    """
    known = plan.metric_directions
    metric = metric or plan.metric or plan.task.cls.main_metric
    if metric not in known:
        raise OptionError(f"the task has no metric {metric!r}{near(metric, known)}; it has {', '.join(known)}")
    return metric


def _tested_pairs(variants: Sequence[Variant], metric: str, more_is_better: bool) -> list[Pair]:
    """Every pair that can be tested, corrected for their number; those that share neither seeds nor rows cannot be."""
    measured = (_measured(one, other, metric, more_is_better) for one, other in itertools.combinations(variants, 2))
    pairs = [pair for pair in measured if pair is not None]
    corrected = [replace(pair, adjusted_p=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]
    return [replace(pair, verdict=_verdict(pair, more_is_better)) for pair in corrected]


def _measured(one: Variant, other: Variant, metric: str, more_is_better: bool) -> Pair | None:
    """A pair with its p-value, not yet corrected, and without a verdict."""
    shared = set(one.seeds) & set(other.seeds)
    seeds = shared or {*one.seeds, *other.seeds}
    if not shared and len({run.rows.tobytes() for run in (*one.runs, *other.runs)}) > 1:
        return None
    first, second = ([run for run in each.runs if run.seed in seeds] for each in (one, other))
    figures, other_figures = ([run.figures[metric] for run in chosen] for chosen in (first, second))
    mean, other_mean = statistics.fmean(figures), statistics.fmean(other_figures)
    difference = mean - other_mean
    if abs(difference) <= 1e-12 * max(abs(mean), abs(other_mean)):  # the same but for rounding
        difference = 0.0
    leads = [a - b if more_is_better else b - a for a, b in zip(figures, other_figures, strict=True)] if shared else []
    resampled = one.mean_draws(seeds) - other.mean_draws(seeds)
    rows = len(np.unique(np.concatenate([run.rows for run in first])))
    discordant = _discordant(first, second)
    exact = None if discordant is None else (*discordant, mcnemar(*discordant))
    test: Literal["mcnemar", "bootstrap"] = "mcnemar" if exact is not None and metric == "accuracy" else "bootstrap"
    p = exact[2] if exact is not None and test == "mcnemar" else bootstrap_p(difference, resampled, rows)
    return Pair(
        first=one.name,
        second=other.name,
        seeds=tuple(sorted(seeds)),
        rows=rows,
        difference=difference,
        interval=interval(resampled),
        seeds_won=sum(lead > 0 for lead in leads),
        seeds_lost=sum(lead < 0 for lead in leads),
        mcnemar=exact,
        test=test,
        p=p,
        adjusted_p=p,
        verdict=Verdict.NOT_DISTINGUISHABLE,
    )


def _discordant(first: Sequence[ComparedRun], second: Sequence[ComparedRun]) -> tuple[int, int] | None:
    """On how many rows the first runs are right more often than the second, and the opposite; None without classes."""
    size = 1 + max(int(run.rows.max()) for run in (*first, *second))
    shares = []
    for runs in (first, second):
        right, count = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for run in runs:
            if run.correct is None:
                return None
            right[run.rows] += run.correct
            count[run.rows] += 1
        shares.append((right, count))
    (right, count), (other_right, other_count) = shares
    lead = right * other_count - other_right * count
    return int((lead > 0).sum()), int((lead < 0).sum())


def _verdict(pair: Pair, more_is_better: bool) -> Verdict:
    """What may be said: nothing if the test is not significant, or rows or seeds are won by the other one."""
    lead = pair.difference if more_is_better else -pair.difference
    wins = [(pair.seeds_won, pair.seeds_lost)] if pair.seeds_won or pair.seeds_lost else []
    if pair.test == "mcnemar" and pair.mcnemar is not None:
        wins.append(pair.mcnemar[:2])
    if pair.adjusted_p >= LEVEL or lead == 0 or any((won - lost) * lead <= 0 for won, lost in wins):
        return Verdict.NOT_DISTINGUISHABLE
    return Verdict.BETTER if lead > 0 else Verdict.WORSE
