"""Variants as a picture, where matplotlib is installed (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmreg.files import replacing
from mmreg.studies.compare.results import Variant

FUSED, SINGLE = "#1f77b4", "#7f7f7f"


def draw_variants(variants: Sequence[Variant], metric: str, title: str, path: Path) -> bool:
    """Draw each variant's mean with its bootstrap interval, and every seed as a dot; False without matplotlib.

    Args:
        variants: from top to bottom, the best first; a dashed line marks the best of a single modality.
        metric: what is drawn.
        title: what stands below the axis.
        path: the picture, a PNG.
    """
    try:
        from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state
    except ImportError:
        return False
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(variants)), layout="constrained")
    axes: Any = figure.subplots()
    for height, variant in enumerate(variants):
        colour = SINGLE if len(variant.modalities) == 1 else FUSED
        if variant.interval is not None:
            axes.plot(variant.interval, [height, height], color=colour, linewidth=1.5)
        axes.plot([variant.mean(metric)], [height], marker="D", color=colour, markersize=5)
        seeds = [run.figures[metric] for run in variant.runs]
        axes.plot(seeds, [height] * len(seeds), linestyle="", marker="o", color=colour, markersize=3, alpha=0.5)
    singles = [variant.mean(metric) for variant in variants if len(variant.modalities) == 1]
    if singles:
        axes.axvline(singles[0], color=SINGLE, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axes.invert_yaxis()
    axes.set_xlabel(f"{title}\n(diamond: mean; dots: seeds; line: 95% interval; dashed: the best single modality)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True
