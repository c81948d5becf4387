"""Draws a run's figures by matplotlib, for papers and slides."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmreg.errors import MmregError, OptionError, RunError
from mmreg.files import replacing
from mmreg.messages import listed, near, shortened
from mmreg.sections import Bars, Chart
from mmreg.sections import Figure as PlainFigure
from mmreg_report.axes import of_counts
from mmreg_report.matrix import Matrix
from mmreg_report.plugged import figures as section_figures
from mmreg_report.plugged import of_runs
from mmreg_report.sections.classes import confusions
from mmreg_report.sections.curves import curve_charts
from mmreg_report.sections.probabilities import calibration_chart
from mmreg_report.sections.probabilities import curve_charts as class_charts
from mmreg_report.sections.subsets import subset_bars
from mmreg_report.sections.values import value_charts
from mmreg_report.subject import Subject, Target, loaded
from mmreg_report.writing import check_writable

Figure = PlainFigure | Matrix
FORMATS = (".png", ".svg", ".pdf")
MOST_LABELS = 40
"""Classes up to which a matrix names them."""
DRAWN: dict[str, Callable[[Subject], Sequence[Figure]]] = {
    "curves": lambda subject: curve_charts(subject.facts),
    "confusion": confusions,
    "calibration": lambda subject: [calibration_chart(target) for target in _probable(subject)],
    "roc": lambda subject: [chart for target in _probable(subject) for chart in class_charts(target)[:1]],
    "precision-recall": lambda subject: [chart for target in _probable(subject) for chart in class_charts(target)[1:]],
    "values": lambda subject: [chart for target in subject.each_target() for chart in value_charts(target)],
    "subsets": subset_bars,
}
"""What makes the figures of each kind."""


class PlotError(MmregError, ImportError):
    """Matplotlib, which draws the figures, is not installed."""


def write_plot(run: Path, kind: str, out: Path | None = None, device: str | None = None) -> Path:
    """Draw one kind of figure of a run; returns the file.

    Raises:
        OptionError: there is no such kind, or the file is of no format that can be drawn.
        PlotError: matplotlib is not installed.
        RunError: there is no such run, or it has no such figure.
    """
    plugged = {section.spec.name: section for section in of_runs() if section.spec.name not in DRAWN}
    kinds = [*DRAWN, *plugged]
    if kind not in kinds:
        raise OptionError(f"there is no figure {kind!r}{near(kind, kinds)}; there are {', '.join(kinds)}")
    path = out or run / f"{kind}.png"
    if path.suffix.lower() not in FORMATS:
        raise OptionError(f"{path} is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file; name one by --out")
    check_writable(path)
    try:
        import matplotlib.figure  # noqa: F401 (before anything is computed)
    except ImportError as error:
        raise PlotError(f"plots need matplotlib ({error}); install it with: pip install 'mmreg[plot]'") from error
    subject = loaded(run, device, rows=kind == "subsets" or kind in plugged)
    figures = section_figures(plugged[kind], subject) if kind in plugged else DRAWN[kind](subject)
    if not figures:
        have = [name for name, drawn in DRAWN.items() if name not in ("subsets", kind) and drawn(subject)]
        why = "".join(f": {note}" for note in subject.notes)
        computed = listed(name for name in ("subsets", *plugged) if name != kind)
        there = f"{listed(have) or 'none'}; {computed} are computed when they are asked for"
        raise RunError(f"the run {run} has no figure {kind!r}{why}; it has {there}")
    draw_figures(figures, path)
    return path


def _probable(subject: Subject) -> list[Target]:
    spaces = ("log_probabilities", "log_odds")
    return [target for target in subject.each_target() if target.task.space in spaces]


def draw_figures(figures: Sequence[Figure], path: Path) -> None:
    """Draw figures side by side into a file."""
    import matplotlib
    from matplotlib.figure import Figure as Sheet  # by itself it needs no display and keeps no global state

    # A label may hold "$", and characters that the font lacks.
    with warnings.catch_warnings(), matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "mmreg"}):
        warnings.filterwarnings("ignore", message="Glyph")
        sheet = Sheet(figsize=(5.2 * len(figures), 4.2), layout="constrained")
        for axes, figure in zip(sheet.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
            axes.set_title(figure.title, fontsize=10, loc="left" if isinstance(figure, Bars) else "center", wrap=True)
            if isinstance(figure, Chart):
                _chart(axes, figure)
            elif isinstance(figure, Matrix):
                _matrix(axes, figure)
            else:
                _bars(axes, figure)
        kind = path.suffix.lower()[1:]
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # the same figure, the same file
        with replacing(path) as temporary:
            sheet.savefig(temporary, dpi=150, format=kind, metadata=metadata)


def _chart(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        look = {"line": {"marker": "."}, "points": {"marker": ".", "linestyle": ""}}.get(
            series.kind, {"color": "grey", "linestyle": ":"}
        )
        y = [float("nan") if value is None else value for value in series.y]
        look |= {"marker": ""} if len(y) > 60 and series.kind == "line" else {}
        axes.plot(series.x, y, label=_short(series.name) or None, **look)
    axes.set_xlabel(chart.x)
    axes.xaxis.get_major_locator().set_params(integer=of_counts(chart))
    axes.set_ylabel(chart.y)
    if any(series.name for series in chart.series):
        axes.legend(fontsize=8)


def _matrix(axes: Any, matrix: Matrix) -> None:
    shares = [[count / (sum(counts) or 1) for count in counts] for counts in matrix.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("told")
    axes.set_ylabel("true")
    count = len(matrix.labels)
    if count > MOST_LABELS:
        return
    names = [_short(name) for name in matrix.labels]
    axes.set_xticks(range(count), names, rotation=90, fontsize=7)
    axes.set_yticks(range(count), names, fontsize=7)
    for i, counts in enumerate(matrix.counts):
        for j, rows in enumerate(counts):
            if rows and count <= MOST_LABELS // 2:
                axes.text(j, i, rows, ha="center", va="center", fontsize=7, color="w" if shares[i][j] > 0.5 else "k")


def _bars(axes: Any, bars: Bars) -> None:
    names = list(bars.values)[::-1]
    drawn = axes.barh([_short(name) for name in names], [bars.values[name] for name in names])
    axes.bar_label(drawn, fmt="%.3f", padding=2)
    axes.margins(x=0.25)
    axes.set_xlabel(bars.axis)


def _short(text: str) -> str:
    return shortened(text, 30)
