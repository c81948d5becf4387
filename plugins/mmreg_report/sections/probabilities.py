"""Whether probabilities can be believed, and how well they tell classes apart: calibration, ROC, precision and recall."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.messages import cell
from mmreg_report.charts import Chart, Series
from mmreg_report.labels import label_names
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.subject import Subject, Target
from mmreg_report.svg import draw

BINS = 10
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
        bins.append({"probability": float(chances[own].mean()), "right": float(right[own].mean()), "rows": int(own.sum())})
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
    from torchmetrics.functional.classification import binary_average_precision as area_pr
    from torchmetrics.functional.classification import binary_auroc, binary_precision_recall_curve, binary_roc

    roc, precision = [], []
    for name, chances, truth in _one_against_all(target):
        false, true, _ = binary_roc(chances, truth)
        x, y = _thinned(false, true)
        roc.append(Series(f"{name} (area {float(binary_auroc(chances, truth)):.3f})", x, y))
        precise, recalled, _ = binary_precision_recall_curve(chances, truth)
        x, y = _thinned(recalled, precise)
        precision.append(Series(f"{name} (area {float(area_pr(chances, truth)):.3f})", x, y))
    if not roc:
        return []
    return [
        Chart(_of("ROC", target), "false positive rate", "true positive rate", [DIAGONAL, *roc], unit=True),
        Chart(_of("Precision and recall", target), "recall", "precision", precision, unit=True),
    ]


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
