"""Whether probabilities can be believed, and how well they tell classes apart: calibration, ROC, precision."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.messages import cell
from mmreg.sections import Chart, Series
from mmreg_report.labels import label_names
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.subject import Subject, Target
from mmreg_report.svg import draw

BINS = 15
"""As many as the metric `ece` has, so that both are one figure."""
MOST_CURVES = 6
"""Classes that have curves: those of most rows."""
MOST_POINTS = 150
"""Points of a curve that are drawn; others between are left out evenly."""
DIAGONAL = Series("", (0.0, 1.0), (0.0, 1.0), "reference")


def probabilities(subject: Subject) -> list[Html]:
    """Charts for each target whose scores are probabilities."""
    parts = []
    for target in subject.each_target():
        if target.task.space not in ("log_probabilities", "log_odds"):
            continue
        bins = calibration_bins(target)
        error = sum(row["rows"] * abs(row["probability"] - row["right"]) for row in bins) / sum(r["rows"] for r in bins)
        charts = [calibration_chart(target), *curve_charts(target)]
        what = "probability of the most probable class" if target.task.space == "log_probabilities" else "probability"
        told = f"Expected calibration error: {cell(error)} (the {what}, {BINS} bins of equal width)."
        parts.append(tag("p", f"{cell(target.name)}: {told}" if target.name else told))
        parts.append(tag("div", *map(draw, charts), class_="charts"))
        parts.append(folded("Calibration as a table", table(bins, "Calibration")))
    return parts


def calibration_bins(target: Target) -> list[dict[str, float]]:
    """For each bin that has rows: the mean probability, the share that is right, and how many there are."""
    chances, right = _chances(target)
    which = np.minimum((chances * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(which).tolist():
        own = which == number
        bins.append(
            {"probability": float(chances[own].mean()), "right": float(right[own].mean()), "rows": int(own.sum())}
        )
    return bins


def _chances(target: Target) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What probability was told, and whether it came true: of each row's first class, or of each label."""
    scores = target.scores.double()
    if target.task.space == "log_odds":
        return scores.sigmoid().numpy().reshape(-1), target.targets.numpy().reshape(-1) > 0.5
    best, chosen = scores.exp().clamp(0, 1).max(-1)
    return best.numpy(), (chosen == target.targets).numpy()


def calibration_chart(target: Target) -> Chart:
    """A reliability diagram."""
    bins = calibration_bins(target)
    curve = Series("share that is right", [row["probability"] for row in bins], [row["right"] for row in bins])
    return Chart(_of("Calibration", target), "probability told", "share that is right", [DIAGONAL, curve], unit=True)


def curve_charts(target: Target) -> list[Chart]:
    """ROC and precision over recall, of each class against all others."""
    roc, precision = [], []
    for name, chances, truth in _one_against_all(target):
        false, true, precise = _along_thresholds(chances, truth)
        area = float(torch.trapezoid(true, false))
        roc.append(Series(f"{name} (area {area:.3f})", *_thinned(false, true)))
        area = float((true.diff() * precise[1:]).sum())  # average precision: no straight lines between thresholds
        precision.append(Series(f"{name} (area {area:.3f})", *_thinned(true, precise)))
    if not roc:
        return []
    return [
        Chart(_of("ROC", target), "false positive rate", "true positive rate", [DIAGONAL, *roc], unit=True),
        Chart(_of("Precision and recall", target), "recall", "precision", precision, unit=True),
    ]


def _along_thresholds(chances: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """False and true positive rate and precision, (T,) each, where every row from some probability on is taken.

    It begins with no row, where the precision is 1 by custom; rows of one probability come together. torchmetrics gives
    the same, and takes seconds to be imported, for which each training would wait at its end.
    """
    order = chances.argsort(descending=True, stable=True)
    last = torch.cat([chances[order].diff() != 0, torch.tensor([True])])
    true = truth[order].cumsum(0)[last].double()
    taken = (torch.arange(len(order), dtype=torch.float64) + 1)[last]
    start = torch.zeros(1, dtype=torch.float64)
    false_rate = torch.cat([start, (taken - true) / (len(truth) - truth.sum())])
    return false_rate, torch.cat([start, true / truth.sum()]), torch.cat([start + 1, true / taken])


def _one_against_all(target: Target) -> list[tuple[str, Tensor, Tensor]]:
    """The classes of most rows: name, (n,) probabilities, (n,) 0 or 1; of two classes the second one."""
    names = label_names(target.task)
    if names is None:
        return []
    if target.task.space == "log_odds":
        chances, truth = target.scores.double().sigmoid(), (target.targets > 0.5).long()
    else:
        chances = target.scores.double().exp().clamp(0, 1)
        truth = torch.nn.functional.one_hot(target.targets, len(names))
    counts = truth.sum(0)
    there = [k for k in range(len(names)) if 0 < counts[k] < len(truth)]
    if target.task.space == "log_probabilities" and len(names) == 2:
        there = there[-1:]
    chosen = sorted(sorted(there, key=lambda k: -int(counts[k]))[:MOST_CURVES])
    return [(names[k], chances[:, k], truth[:, k]) for k in chosen]


def _thinned(x: Tensor, y: Tensor) -> tuple[list[float], list[float]]:
    keep = torch.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().long()
    return x[keep].tolist(), y[keep].tolist()


def _of(title: str, target: Target) -> str:
    return f"{title} of {cell(target.name)}" if target.name else title
