"""What each modality reaches by itself within a fused model, beside what it reaches where it is trained alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmreg.studies.compare.predictions import ComparedRun, OwnPrediction
from mmreg.studies.compare.results import Variant


@dataclass(frozen=True)
class OwnFigure:
    """One modality of a variant.

    Attributes:
        own: the mean over seeds of the metric of what it predicts by itself, on the rows that have it.
        alone: the same of the model that was trained on it alone, on the same rows; None without one.
    """

    own: float
    alone: float | None

    @property
    def gap(self) -> float | None:
        """The first less the second: what its encoder won, or lost, by being trained beside others."""
        return None if self.alone is None else self.own - self.alone


def own_figures(variant: Variant, variants: Sequence[Variant], metric: str) -> dict[str, OwnFigure]:
    """The figures of those of a variant's modalities that say something by themselves, by name.

    Args:
        variant: with a balance that shows such figures, or a model-level fusion.
        variants: among which those of one modality alone are found.
        metric: what is measured. Where seeds are in common with those, it is measured on these.
    """
    figures = {}
    for name in variant.modalities if len(variant.modalities) > 1 else ():
        single = _alone(variant, name, variants)
        baselines = {} if single is None else {run.seed: run for run in single.runs}
        runs = [run for run in variant.runs if name in run.own]
        shared = [run for run in runs if run.seed in baselines]
        own = [_measured(run, run.own[name], metric) for run in shared or runs]
        alone = [_on_same_rows(baselines[run.seed], run.own[name], metric) for run in shared]
        if own and not any(math.isnan(each) for each in own):
            known = alone and not any(math.isnan(each) for each in alone)
            figures[name] = OwnFigure(statistics.fmean(own), statistics.fmean(alone) if known else None)
    return figures


def _alone(variant: Variant, name: str, variants: Sequence[Variant]) -> Variant | None:
    """The variant that was trained on a modality alone, with the same encoder where there are several."""
    singles = [other for other in variants if other.modalities == (name,)]
    given = _modality(variant, name)
    same = [other for other in singles if _modality(other, name) == given]
    return next(iter(same or (singles if len(singles) == 1 else ())), None)


def _modality(variant: Variant, name: str) -> Any:
    return variant.runs[0].plan.to_data()["modalities"][name]


def _measured(run: ComparedRun, own: OwnPrediction, metric: str) -> float:
    if not len(own.rows):
        return math.nan
    return run.measures.figure(metric, own.scores, own.targets)


def _on_same_rows(alone: ComparedRun, own: OwnPrediction, metric: str) -> float:
    chosen = np.flatnonzero(np.isin(alone.rows, own.rows))
    return alone.measure(metric, chosen) if len(chosen) else math.nan
