"""A run measured with modalities left out and with signals corrupted, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.spec import Spec
from mmreg.data.batches import Batch
from mmreg.errors import OptionError, RunError
from mmreg.messages import near
from mmreg.runs import KnownRows, Run, evaluation
from mmreg.studies.robustness.corruption import CORRUPTIONS, check_corruption, corrupting
from mmreg.studies.robustness.levels import CorruptionRequest, check_rates, read_corruptions
from mmreg.studies.robustness.missing import all_but, at_rate, subsets
from mmreg.studies.robustness.tables import Robustness


def evaluate_robustness(
    run: Run,
    table: Any = None,
    *,
    split: str | None = None,
    missing: bool = False,
    rates: Sequence[float] = (),
    corruptions: str | Sequence[str] = (),
    baseline: Run | None = None,
    metrics: Sequence[str] = (),
    seed: int = 0,
    batch_size: int | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Measure a run with modalities left out, or with signals corrupted; what is asked for together is decoded once.

    Args:
        run: what to measure; inputs of a combined run that are one modality (`Run.inputs`) are changed alike.
        table: as for `Run.evaluate`.
        split: as there.
        missing: whether to measure with each subset of the modalities (see `subsets`). Rows are always all rows of
            the split: one that has none of a subset's modalities gets the training prior.
        rates: shares at which each modality of each row is left out, independently and nested (see `at_rate`).
        corruptions: such as "image:noise=0..0.5,text:drop=0.3" (see `CORRUPTIONS`); each is measured by itself, at
            its strengths and at 0.
        baseline: a run to compare with under the same corruptions, usually one of late fusion.
        metrics: names of further metrics.
        seed: what all that is random is drawn by.
        batch_size: rows at a time; the recipe's if not given.
        progress: told of values being decoded: their count so far, their number, the modality.

    Returns:
        "split", "rows", "seed", "metric" (the task's main one) and "more_is_better", and as asked for

        - "subsets": `[{"modalities": ["image"], "rows": n, "metrics": {...}}, ...]`, and "possible_subsets", their
          number if none was left out;
        - "rates": `[{"rate": 0.1, "rows": n, "metrics": {...}}, ...]`;
        - "corruptions": for each "modality", "corruption", "unit", "strengths"
          (`[{"strength": 0.0, "rows": n, "metrics": {...}}, ...]`, with a baseline also its main metric as
          "baseline"), "relative_robustness", and "effective_robustness" (None without a baseline); and "baseline",
          the folder of that run or None.

        "metrics" is what `Run.evaluate` gives; beside it stands "rows_without_any_modality" where there are such.

    Raises:
        OptionError: a rate or corruption that has no meaning, or missing modalities for a task without a target.
        RunError: as for `Run.evaluate`; or the baseline has another target, lacks a modality, or sees other rows.
        TableError: as there.
        RecipeError: as there.
    """
    requests = read_corruptions(corruptions)
    check_rates(rates)
    if baseline is not None and not requests:
        raise OptionError("a baseline is compared with under corruptions, but none is asked for")
    if (missing or len(rates)) and not run.task.needs_target:
        raise OptionError(
            f"{run.folder} is a {run.plan.task.name}, which is measured by what the modalities of a row have in "
            "common: rows that lack one tell nothing of it; measure it under corruptions (--corrupt)"
        )
    for each in (run, baseline):
        if each is not None:
            _check_requests(each, requests)
    if baseline is not None:
        _check_targets(run, baseline)
    measured = _MeasuredRun(run, run.known_rows(table, split, progress), metrics, seed, batch_size)
    names, rows = list(run.inputs), len(measured.known.rows)
    robustness: dict[str, Any] = {
        "split": measured.known.split,
        "rows": rows,
        "seed": seed,
        "metric": run.task.main_metric,
        "more_is_better": run.plan.metric_directions[run.task.main_metric],
    }
    if missing:
        robustness["possible_subsets"] = 2 ** len(names) - 1
        robustness["subsets"] = [
            {"modalities": list(subset), **measured.figures(drop=all_but(names, subset, rows))}
            for subset in subsets(names, seed)
        ]
    if len(rates):
        robustness["rates"] = [
            {"rate": rate, **measured.figures(drop=at_rate(names, rate, rows, seed))} for rate in sorted(set(rates))
        ]
    if requests:
        late = None
        if baseline is not None:
            late = _MeasuredRun(baseline, baseline.known_rows(table, split, progress), (), seed, batch_size)
            _check_rows(measured, late, same_table=table is not None or run.fingerprint == baseline.fingerprint)
        robustness["baseline"] = None if baseline is None else str(baseline.folder)
        robustness["corruptions"] = _curves(measured, late, requests)
    return Robustness(robustness)


def relative_robustness(strengths: Sequence[float], values: Sequence[float]) -> float:
    """The mean of a metric over corruption strengths: the area under its curve divided by the range of strengths.

    The area under the performance-imperfection curve is by the trapezoidal rule, as in MultiBench (Liang et al.,
    NeurIPS Datasets and Benchmarks 2021). Divided by the range it is in the metric's own unit, whatever strengths were
    measured.

    Args:
        strengths: S >= 2 of them, rising.
        values: f(s), the metric at each.

    Example:
        >>> relative_robustness([0.0, 1.0, 2.0], [1.0, 0.5, 0.0])
        0.5
    """
    s, f = np.asarray(strengths, float), np.asarray(values, float)
    return float((np.diff(s) * (f[1:] + f[:-1]) / 2).sum() / (s[-1] - s[0]))


def effective_robustness(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The sum over strengths s of f(s) - (b(s) + f(0) - b(0)): what a run keeps beyond what its head start explains.

    This is MultiBench's (Liang et al., NeurIPS Datasets and Benchmarks 2021) after Taori et al. (NeurIPS 2020): b is a
    late-fusion baseline, shifted to the run's own value without corruption. Being a sum it grows with the number of
    strengths, so only figures over the same strengths can be compared. Of a metric where less is better (an error), it
    is negative for the more robust run.

    Args:
        values: f(s), the run's metric at each strength, the first of which is 0.
        baseline: b(s), the baseline's.

    Example:
        >>> effective_robustness([0.75, 0.75, 0.5], [0.5, 0.25, 0.0])
        0.5
    """
    own, other = np.asarray(values, float), np.asarray(baseline, float)
    return float(((own - own[0]) - (other - other[0])).sum())


@dataclass(frozen=True)
class _MeasuredRun:
    """A run with the rows that it is measured on."""

    run: Run
    known: KnownRows
    metrics: Sequence[str]
    seed: int
    batch_size: int | None

    def figures(
        self, drop: Mapping[str, NDArray[np.bool_]] | None = None, change: Callable[[Batch], Batch] | None = None
    ) -> dict[str, Any]:
        """The run's figures, without the name of the split."""
        known = self.known
        of_inputs = {each: mask for name, mask in (drop or {}).items() for each in self.run.inputs[name]}
        predicted = self.run.predict_rows(known.prepared, known.rows, self.batch_size, of_inputs, change)
        figures = evaluation(self.run.plan, self.run.task, predicted, known.targets, known.split, self.metrics)
        del figures["split"]
        return figures

    def corrupted(self, request: CorruptionRequest) -> Iterator[tuple[float, dict[str, Any]]]:
        """Each strength, 0 first, with the figures under it."""
        for strength in sorted({0.0, *request.strengths}):
            yield strength, self.figures(change=self._corrupting(request, strength)) if strength else self.clean

    def _corrupting(self, request: CorruptionRequest, strength: float) -> Callable[[Batch], Batch]:
        """What corrupts all inputs of a modality alike."""
        name, rows = request.modality, self.known.rows
        changes = [
            corrupting(request.corruption, each, _stored(self.run, each), strength, rows, self.seed, of=name)
            for each in self.run.inputs[name]
        ]
        return lambda batch: reduce(lambda changed, change: change(changed), changes, batch)

    @cached_property
    def clean(self) -> dict[str, Any]:
        """The figures without any corruption, which are measured once."""
        return self.figures()


def _curves(
    measured: _MeasuredRun, baseline: _MeasuredRun | None, requests: Sequence[CorruptionRequest]
) -> list[dict[str, Any]]:
    """The curve of each corruption."""
    metric = measured.run.task.main_metric
    curves = []
    for request in requests:
        points = [{"strength": strength, **figures} for strength, figures in measured.corrupted(request)]
        own = [point["metrics"][metric] for point in points]
        effective = None
        if baseline is not None:
            others = [figures["metrics"][metric] for _, figures in baseline.corrupted(request)]
            points = [{**point, "baseline": other} for point, other in zip(points, others, strict=True)]
            effective = effective_robustness(own, others)
        curves.append(
            {
                "modality": request.modality,
                "corruption": request.corruption,
                "unit": CORRUPTIONS[request.corruption].unit(
                    _stored(measured.run, measured.run.inputs[request.modality][0])
                ),
                "strengths": points,
                "relative_robustness": relative_robustness([point["strength"] for point in points], own),
                "effective_robustness": effective,
            }
        )
    return curves


def _check_requests(run: Run, requests: Sequence[CorruptionRequest]) -> None:
    for request in requests:
        name = request.modality
        if name not in run.inputs:
            raise OptionError(
                f"{request.label} cannot be done: the run {run.folder} has no modality {name!r}; "
                f"it has {', '.join(run.inputs)}{near(name, run.inputs)}"
            )
        for each in run.inputs[name]:
            check_corruption(request.corruption, name, run.modalities[each].stored, request.strengths)


def _stored(run: Run, name: str) -> Spec:
    """What an input stores, which `_check_requests` has found to be one array."""
    spec = run.modalities[name].stored
    assert isinstance(spec, Spec)
    return spec


def _check_targets(run: Run, baseline: Run) -> None:
    same = run.plan.task.entry.reference == baseline.plan.task.entry.reference
    if not (same and run.task.state() == baseline.task.state()):
        raise RunError(
            f"the baseline {baseline.folder} learned another target than {run.folder}, so they cannot be compared"
        )


def _check_rows(measured: _MeasuredRun, baseline: _MeasuredRun, same_table: bool) -> None:
    if not (same_table and np.array_equal(measured.known.rows, baseline.known.rows)):
        raise RunError(
            f"the baseline {baseline.run.folder} has other {measured.known.split} rows than {measured.run.folder}; "
            "pass the table to compare them on, or train them with the same split"
        )
