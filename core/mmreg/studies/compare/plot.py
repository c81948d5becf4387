"""A comparison as a picture, where matplotlib is installed (the extra `plot`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreg.files import replacing

if TYPE_CHECKING:
    from mmreg.studies.compare.results import Comparison

FUSED, SINGLE = "#1f77b4", "#7f7f7f"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def write_plot(comparison: Comparison, path: Path) -> bool:
    """Draw each variant's mean with its bootstrap interval, and every seed as a dot; False without matplotlib.

    The best variant is on top; a dashed line marks the best single modality.
    """
    if not can_plot():
        return False
    from matplotlib.figure import Figure

    variants = comparison.variants
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(variants)), layout="constrained")
    axes: Any = figure.subplots()
    for height, variant in enumerate(variants):
        colour = SINGLE if len(variant.modalities) == 1 else FUSED
        mean = variant.mean(comparison.metric)
        if variant.interval is not None:
            axes.plot(variant.interval, [height, height], color=colour, linewidth=1.5)
        axes.plot([mean], [height], marker="D", color=colour, markersize=5)
        values = [figures[comparison.metric] for figures in variant.figures]
        axes.plot(values, [height] * len(values), linestyle="", marker="o", color=colour, markersize=3, alpha=0.5)
    single = comparison.best_single
    if single is not None:
        axes.axvline(single.mean(comparison.metric), color=SINGLE, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axes.invert_yaxis()
    axes.set_xlabel(
        f"{comparison.metric} on {comparison.rows} {comparison.split} rows\n"
        "(diamond: mean; dots: seeds; line: 95% interval; dashed: the best single modality)"
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True
