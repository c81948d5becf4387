"""The matrix of missing rates in training x in use, per operator, beside the best modality that is present.

Axes: K classes or numbers, N rows of the table, R measured rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.data.cache import cache_dir
from mmreg.data.prepared import keep_rows
from mmreg.errors import OptionError, RunError, TrainingError
from mmreg.experiment import list_inputs, lost_modalities, prepare_all
from mmreg.files import as_path
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan
from mmreg.run_files.finished import finished_report
from mmreg.runs.notebook_bar import follower
from mmreg.studies.compare.analysis import chosen_metric
from mmreg.studies.compare.grid import RUNS, SEEDS, check_grid, check_numbers, train_in
from mmreg.studies.compare.jobs import Job, device_slots
from mmreg.studies.compare.predictions import ComparedRun, trained_run
from mmreg.studies.compare.results import FailedTraining
from mmreg.studies.compare.variants import Choice, GridVariant, alone, grid_variants
from mmreg.studies.predicting import expect_target
from mmreg.studies.robustness.cells import Cell, Kind
from mmreg.studies.robustness.levels import check_rates
from mmreg.studies.robustness.matrix_results import RobustnessMatrix
from mmreg.studies.statistics import bootstrap
from mmreg.training.encode_once import with_features

RATES = (0.0, 0.3, 0.5, 0.7, 0.9)
BASELINE = "best present modality"
RESAMPLES = 200
"""Draws of the bootstrap: they tell a standard error to a twentieth of it."""


@dataclass(frozen=True)
class _Trained:
    """What the trainings of one variant's name are: an operator's or a modality's, at a rate."""

    name: str
    kind: Kind
    rate: float


@dataclass(frozen=True)
class _Measured:
    """One variant in one cell with one seed: its figure, and that on each of the bootstrap's draws."""

    figure: float
    draws: NDArray[np.float64]


@dataclass(frozen=True)
class _Predicted:
    """A run's predictions in use: for each rate its scores (R, K), and the modalities' rows (R,) that are left."""

    job: Job
    run: ComparedRun
    scores: Mapping[float, Tensor]
    left: Mapping[float, NDArray[np.bool_]]


def run_matrix(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    fusions: Sequence[Choice] | None = None,
    training_rates: Sequence[float] = RATES,
    use_rates: Sequence[float] = RATES,
    seeds: Sequence[int] = SEEDS,
    overrides: Iterable[str] = (),
    metric: str | None = None,
    device: str | torch.device | None = None,
    jobs: int | None = None,
    callback: Callback | None = None,
) -> RobustnessMatrix:
    """Train every operator at every rate in training, as far as that is not done yet, and measure each at every rate.

    In training, `training.missing_rate` takes modalities from training and validation rows. In use, test rows lose them
    likewise: at random by seed, row and modality, the same for every run of a seed, and never all that a row has.
    Beside the operators each modality is trained alone on the rows that have it at that rate. The baseline of a cell
    predicts each row by the best modality of those that the row has left: the best on validation rows, by what
    weights are chosen by, or the recipe's first one without such rows.

    Args:
        recipe: a recipe of several modalities, its keys as a dict, or the path of a YAML file.
        out: the folder of the study; every training is an ordinary run in `out/runs`. Called again, finished ones are
            kept.
        fusions: as for `run_grid`.
        training_rates: from 0 to below 1.
        use_rates: from 0 to 1.
        seeds: of each operator's trainings.
        overrides: keys of the recipe to change, such as "training.epochs=3".
        metric: what is measured; what the recipe chooses weights by if it is not given.
        device: where to compute; the best one there is if it is not given.
        jobs: how many trainings at the same time.
        callback: who is told how it goes.

    Raises:
        RecipeError, TableError, TargetError, DataError, RunError: as for `run_grid`.
        OptionError: a rate, seed or number of jobs that has no meaning; or a recipe that has one modality or no test
            rows, or sets `training.missing_rate` itself.
        TrainingError: no operator could be trained.
    """
    callback = follower(callback)
    check_numbers(seeds, jobs)
    slots = device_slots(device, jobs)
    base = read_recipe(recipe, overrides)
    expect_target(base, "rows that lack a modality")
    _check(base, training_rates, use_rates)
    resolve_precision(base.form.training.precision, resolve_device(slots[0]))
    variants, meanings = _variants(base, fusions, sorted(set(training_rates)))
    folder = as_path(out, "out")
    trainings, notes = check_grid(base, variants, seeds, folder / RUNS, callback)
    metric = chosen_metric(trainings[0].plan, metric)
    if not all(len(job.experiment.splits["test"]) for job in trainings):
        raise OptionError(f"{base.name} leaves no test rows to measure on; give the table such rows, or a split")
    errors = train_in(folder, trainings, notes, slots, callback, "a study of robustness")
    done = _operators_among(trainings, errors, meanings)
    measuring = _Measuring(done, meanings, sorted(set(use_rates)), metric, slots[0], callback)
    cells = measuring.cells()
    errors |= measuring.errors
    done = _operators_among(trainings, errors, meanings)
    plans = {meanings[job.variant].name: job.plan for job in done if meanings[job.variant].kind == "fusion"}
    return RobustnessMatrix(
        metric=metric,
        more_is_better=done[0].plan.metric_directions[metric],
        rows=len(measuring.rows),
        seeds=tuple(seeds),
        cells=cells,
        remedies={name: _remedies(plan) for name, plan in plans.items()},
        failed=_failed(trainings, errors),
        notes=notes,
    )


def _operators_among(
    trainings: Sequence[Job], errors: Mapping[Job, str], meanings: Mapping[str, _Trained]
) -> list[Job]:
    """The trainings that did not fail.

    Raises:
        TrainingError: no operator is among them.
    """
    done = [job for job in trainings if job not in errors]
    if not any(meanings[job.variant].kind == "fusion" for job in done):
        failed = _failed(trainings, errors)
        reasons = "".join(f"\n  {each.variant}, seed {each.seed}: {each.reason}" for each in failed)
        raise TrainingError(f"no operator could be trained, so there is nothing to measure{reasons}")
    return done


def _failed(trainings: Sequence[Job], errors: Mapping[Job, str]) -> list[FailedTraining]:
    return [FailedTraining(job.variant, job.seed, errors[job]) for job in trainings if job in errors]


def _check(base: Recipe, training_rates: Sequence[float], use_rates: Sequence[float]) -> None:
    check_rates([*training_rates, *use_rates])
    if not (training_rates and use_rates) or max(training_rates) >= 1:
        raise OptionError("there must be rates in training, all below 1, and rates in use")
    if len(base.form.modalities) < 2:
        raise OptionError(f"{base.name} has one modality, which cannot be missing; the matrix needs several")
    if base.form.training.missing_rate:
        raise OptionError(f"{base.name} sets training.missing_rate, which the matrix sets itself; leave it out")


def _variants(
    base: Recipe, fusions: Sequence[Choice] | None, rates: Sequence[float]
) -> tuple[list[GridVariant], dict[str, _Trained]]:
    """Every operator and each modality alone at every rate, and what each of these is."""
    singles = {alone(name) for name in base.form.modalities}
    variants, meanings = [], {}
    for rate in rates:
        missing = {"training.missing_rate": rate}
        for variant in grid_variants(base.replace(missing), fusions, None, {}, True):
            name = f"{variant.name} ({rate:g} missing)"
            variants.append(GridVariant(name, {**missing, **variant.changes}, variant.optional))
            meanings[name] = _Trained(variant.name, "single" if variant.name in singles else "fusion", rate)
    return variants, meanings


def _remedies(plan: Plan) -> list[str]:
    """What an operator's recipe leaves out of what helps against missing modalities."""
    nodes = [] if plan.fusion is None else list(plan.fusion.nodes())
    remedies = [] if plan.recipe.form.training.modality_dropout else ["training.modality_dropout"]
    if any(node.fusion.options.get("absent_token") is False for node in nodes):
        remedies.append("where training rows lack modalities, a learned absent token (absent_token: true)")
    if plan.balance is None and all(node.fusion.entry.spec.level == "feature" for node in nodes):
        remedies.append("a loss of each modality's own (training.balance: own_losses, or a model-level operator)")
    return remedies


class _Measuring:
    """Measures finished trainings at every rate in use, one rate in training and one seed after the other."""

    def __init__(
        self,
        jobs: Sequence[Job],
        meanings: Mapping[str, _Trained],
        rates: Sequence[float],
        metric: str,
        device: str,
        callback: Callback,
    ) -> None:
        self.jobs, self.meanings, self.rates, self.metric = jobs, meanings, rates, metric
        self.device, self.callback = device, callback
        self.rows = np.unique(np.concatenate([job.experiment.splits["test"] for job in jobs]))
        self.fused = fused = next(job.plan for job in jobs if meanings[job.variant].kind == "fusion")
        self.columns = {name: given.columns for name, given in fused.inputs.items()}
        self.chosen_by = chosen_metric(fused, None)
        self.more_is_better = fused.metric_directions[self.chosen_by]
        self.done = 0
        self.errors: dict[Job, str] = {}  # of those that are damaged

    def cells(self) -> list[Cell]:
        """Every cell of every operator, of the baseline, and of each modality alone."""
        measured: dict[tuple[str, Kind, float, float], dict[int, _Measured]] = {}
        for rate in sorted({each.rate for each in self.meanings.values()}):
            for seed in sorted({job.seed for job in self.jobs}):
                for (name, kind, use), one in self._group(rate, seed).items():
                    measured.setdefault((name, kind, rate, use), {})[seed] = one
        order = {name: number for number, name in enumerate(dict.fromkeys(key[0] for key in measured))}
        kinds: list[Kind] = ["fusion", "baseline", "single"]
        keys = sorted(measured, key=lambda key: (kinds.index(key[1]), order[key[0]], *key[2:]))
        return [self._cell(key, measured) for key in keys]

    def _cell(
        self,
        key: tuple[str, Kind, float, float],
        measured: Mapping[tuple[str, Kind, float, float], Mapping[int, _Measured]],
    ) -> Cell:
        name, kind, training, use = key
        own = measured[key]
        figures = [each.figure for each in own.values()]
        deviation = statistics.stdev(figures) if len(figures) > 1 else None
        baseline = measured.get((BASELINE, "baseline", training, use), {})
        shared = [seed for seed in own if seed in baseline]
        difference = error = None
        if kind == "fusion" and shared:
            difference = statistics.fmean(own[seed].figure - baseline[seed].figure for seed in shared)
            drawn = np.mean([own[seed].draws - baseline[seed].draws for seed in shared], axis=0)
            finite = drawn[np.isfinite(drawn)]
            error = float(finite.std(ddof=1)) if len(finite) > 1 else None
        return Cell(name, kind, training, use, len(figures), statistics.fmean(figures), deviation, difference, error)

    def _group(self, rate: float, seed: int) -> dict[tuple[str, Kind, float], _Measured]:
        """All that was trained at a rate with a seed, on the rows that all of them have, at every rate in use."""
        jobs = [job for job in self.jobs if job.seed == seed and self.meanings[job.variant].rate == rate]
        if not jobs:
            return {}
        table = jobs[0].experiment.table
        lists = list_inputs(self.fused, table)
        lost = {use: lost_modalities(table, self.columns, use, seed, "use", lists) for use in self.rates}
        predicted = [each for job in jobs if (each := self._predicted(job, lost)) is not None]
        if not predicted:
            return {}
        common = set.intersection(*(set(each.run.rows.tolist()) for each in predicted))
        places = {
            each.job: [at for at, row in enumerate(each.run.rows.tolist()) if row in common] for each in predicted
        }
        group: dict[tuple[str, Kind, float], _Measured] = {}
        singles = [each for each in predicted if self.meanings[each.job.variant].kind == "single"]
        singles.sort(key=lambda each: each.run.figures[self.chosen_by], reverse=self.more_is_better)
        for use in self.rates:
            for each in predicted:
                meaning = self.meanings[each.job.variant]
                at = places[each.job]
                group[meaning.name, meaning.kind, use] = self._measured(each.run, at, each.scores[use][at])
            if len(singles) == len(self.columns):
                scores = best_present(
                    [(each.scores[use][places[each.job]], each.left[use][places[each.job]]) for each in singles]
                )
                group[BASELINE, "baseline", use] = self._measured(singles[0].run, places[singles[0].job], scores)
        return group

    def _predicted(self, job: Job, lost: Mapping[float, Mapping[str, NDArray[np.bool_]]]) -> _Predicted | None:
        """What a training predicts; None where its run is damaged."""
        try:
            run, report = runs.load(job.folder, self.device), finished_report(job.folder)
        except RunError as error:
            self.errors[job] = f"{error} ({job.anew})"
            return None
        experiment = job.experiment
        prepared = prepare_all(run.plan, experiment.table, run.modalities, cache_dir())
        rows = keep_rows(prepared, experiment.splits["test"])
        values = with_features(run, prepared)
        scores, left = {}, {}
        for use, masks in lost.items():
            drop = {name: masks[name][rows] for name in run.modalities}
            scores[use] = run.predict_rows(values, rows, None, drop).scores
            left[use] = np.any([prepared[name].present[rows] & ~drop[name] for name in drop], axis=0)
        self.done += 1
        self.callback.on_progress("measuring", self.done, len(self.jobs), job.title)
        reported = report.get("validation", {"metrics": {}})["metrics"].get(self.chosen_by)
        worst = float("-inf") if self.more_is_better else float("inf")
        targets = torch.from_numpy(experiment.targets[rows])
        compared = ComparedRun(
            **vars(trained_run(run)),
            rows=rows,
            targets=targets,
            scores=scores[self.rates[0]],
            figures={self.chosen_by: float(reported) if isinstance(reported, int | float) else worst},
        )
        return _Predicted(job, compared, scores, left)

    def _measured(self, run: ComparedRun, at: Sequence[int], scores: Tensor) -> _Measured:
        """Scores (R, K) of the rows at these places of a run's."""
        numbers = np.searchsorted(self.rows, run.rows[at])
        told = {key: value for key, value in vars(run).items() if key not in ("correct", "measures")}
        one = ComparedRun(**{**told, "rows": numbers, "targets": run.targets[at], "scores": scores})
        figure = one.measure(self.metric, np.arange(len(numbers)))
        draws = bootstrap([(numbers, partial(one.measure, self.metric))], len(self.rows), RESAMPLES, 0)[:, 0]
        return _Measured(figure, draws)


def best_present(singles: Sequence[tuple[Tensor, NDArray[np.bool_]]]) -> Tensor:
    """The scores (R, K) of the first of these in each row that has its modality; of the first one where none has it.

    Args:
        singles: the scores (R, K) of each modality alone, which are those of the training prior where it is not, and
            (R,) where it is; the best one first.
    """
    scores = singles[0][0].clone()
    open_rows = torch.from_numpy(~singles[0][1])
    for other, there in singles[1:]:
        take = open_rows & torch.from_numpy(there)
        scores[take] = other[take]
        open_rows &= ~take
    return scores
