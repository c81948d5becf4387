"""Robustness drawn: a bar for each subset, a curve over rates, one for each corruption; and the matrix of rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmreg.errors import MmregError, OptionError
from mmreg.files import replacing
from mmreg.messages import plural
from mmreg.studies.robustness.cells import Cell

ENDINGS = (".png", ".svg", ".pdf")
MOST_COLUMNS = 3
BAR_HEIGHT = 0.24
"""Inches a subset's bar takes."""


class PlotError(MmregError, ImportError):
    """What plots need is not installed."""


def check_plot(path: Path) -> None:
    """Refuse what could not be drawn, before anything is measured.

    Raises:
        OptionError: the file's ending is none that can be written.
        PlotError: matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise OptionError(f"--plot {str(path)!r} must end in {', '.join(ENDINGS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"--plot {str(path)!r} must name a file in a folder that exists")
    try:
        import matplotlib  # noqa: F401 - whether it can be imported is what is asked
    except ImportError as error:
        raise PlotError(f"plots need matplotlib ({error}); install it with: pip install 'mmreg[plot]'") from error


def draw_robustness(robustness: Mapping[str, Any], path: Path) -> None:
    """Draw the main metric of what `evaluate_robustness` gave, a panel for each thing that was asked for.

    Args:
        robustness: with at least one of "subsets", "rates" and "corruptions".
        path: the picture; its ending says which kind.

    Raises:
        OptionError: the file's ending is none that can be written.
        PlotError: matplotlib is not installed.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state

    metric = robustness["metric"]
    panels: list[Callable[[Any], None]] = []
    if "subsets" in robustness:
        panels.append(partial(_draw_subsets, robustness["subsets"], metric))
    first_curve = len(panels)
    if "rates" in robustness:
        panels.append(partial(_draw_rates, robustness["rates"], metric))
    panels += [partial(_draw_corruption, one, metric) for one in robustness.get("corruptions", ())]
    columns = min(len(panels), MOST_COLUMNS)
    lines = -(-len(panels) // columns)
    height = max(3.6, 1.2 + BAR_HEIGHT * len(robustness.get("subsets", ())))
    figure = Figure(figsize=(4.8 * columns, height if lines == 1 else height + 3.6 * (lines - 1)), layout="constrained")
    heights = [height] + [3.6] * (lines - 1)
    grid = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    for axes, draw in zip(grid, panels, strict=False):
        draw(axes)
    curves = grid[first_curve : len(panels)]
    limits = [limit for axes in curves for limit in axes.get_ylim()]
    for axes in curves:  # one scale, so that the panels can be compared
        axes.set_ylim(min(limits), max(limits))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(f"{metric} on {plural(robustness['rows'], robustness['split'] + ' row')}", fontsize=11)
    figure.savefig(path, dpi=150)


def draw_matrix(cells: Sequence[Cell], metric: str, path: Path) -> bool:
    """Draw a panel for each operator, a curve over rates in use for each rate in training; False without matplotlib.

    Args:
        cells: those of operators and of the best present modality, which is dashed.
        metric: what they tell.
        path: the picture, a PNG.
    """
    try:
        from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state
    except ImportError:
        return False
    operators = list(dict.fromkeys(cell.name for cell in cells if cell.kind == "fusion"))
    rates = list(dict.fromkeys(cell.training for cell in cells))
    columns = min(len(operators), MOST_COLUMNS)
    lines = -(-len(operators) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.8 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(grid, operators, strict=False):
        for number, rate in enumerate(rates):
            trained = [cell for cell in cells if cell.training == rate]
            for style, curve in (
                ("-", [cell for cell in trained if cell.name == name]),
                ("--", [cell for cell in trained if cell.kind == "baseline"]),
            ):
                label = f"{rate:g} missing in training" if style == "-" else None
                points = [cell.use for cell in curve], [cell.mean for cell in curve]
                axes.plot(*points, f"C{number}{style}", marker="o", markersize=3, label=label)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("missing rate in use")
        axes.grid(alpha=0.3)
    grid[0].set_ylabel(f"{metric} (dashed: the best present modality)")
    grid[0].legend(fontsize=8)
    for axes in grid[len(operators) :]:
        axes.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True


def _draw_subsets(subsets: list[Mapping[str, Any]], metric: str, axes: Any) -> None:
    figures = [subset["metrics"][metric] for subset in subsets]
    labels = [" + ".join(subset["modalities"]) for subset in subsets]
    sizes = [len(subset["modalities"]) for subset in subsets]
    bars = axes.barh(range(len(figures)), figures, color=[f"C{size - 1}" for size in sizes], height=0.75)
    axes.bar_label(bars, [f"{figure:.3g}" for figure in figures], padding=3, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.01)
    axes.set_xlabel(metric)
    axes.set_title("modalities present", fontsize=10)


def _draw_rates(rates: list[Mapping[str, Any]], metric: str, axes: Any) -> None:
    axes.plot([point["rate"] for point in rates], [point["metrics"][metric] for point in rates], marker="o")
    axes.set_xlabel("share of rows that lose each modality")
    axes.set_ylabel(metric)
    axes.set_title("missing at random", fontsize=10)
    axes.grid(alpha=0.3)


def _draw_corruption(corruption: Mapping[str, Any], metric: str, axes: Any) -> None:
    points = corruption["strengths"]
    strengths = [point["strength"] for point in points]
    axes.plot(strengths, [point["metrics"][metric] for point in points], marker="o", label="this run")
    if "baseline" in points[0]:
        axes.plot(strengths, [point["baseline"] for point in points], marker="s", linestyle="--", label="baseline")
        axes.legend()
    axes.set_xlabel(f"strength ({corruption['unit']})")
    axes.set_ylabel(metric)
    axes.set_title(f"{corruption['modality']}: {corruption['corruption']}", fontsize=10)
    axes.grid(alpha=0.3)
