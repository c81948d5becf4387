"""Draws the learning curves, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmreg.files import replacing


def draw_curves(history: Sequence[Mapping[str, float | None]], panels: Sequence[Sequence[str]], path: Path) -> None:
    """Draw columns of metrics.csv over the epochs, those of a panel over each other; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state
    except ImportError:
        return
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            axes.plot([row["epoch"] for row in history], [row.get(name) for row in history], marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
