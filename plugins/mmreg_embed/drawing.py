"""A map of rows as a picture, where matplotlib is installed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreg.errors import ComponentImportError, OptionError
from mmreg.files import replacing
from mmreg.messages import near, shortened

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Those of Okabe and Ito, which people who see few colours tell apart."""
SHAPES = "osD^vPX*"
REST = "#9a9a9a"
"""Of what is too rare to have a colour, and of what has no value."""
RASTERIZED = 3000
"""Points from which on an SVG holds them as one picture, so that it stays small."""


def draw(
    columns: Mapping[str, Sequence[Any]],
    path: str | Path,
    *,
    color: str | None = None,
    shares: tuple[float, float] | None = None,
) -> None:
    """Draw what `plane` gives.

    Args:
        columns: as given there, with `x` and `y`.
        path: a .png or .svg file.
        color: the column by which points are coloured: numbers along a scale, all else by its most frequent values.
        shares: of all variance along both axes, to be told beside them.

    Raises:
        OptionError: there is no such column.
        ComponentImportError: matplotlib is not installed.
    """
    if color is not None and color not in columns:
        raise OptionError(
            f"there is no column {color!r} to colour by{near(color, columns)}; there are {', '.join(columns)}"
        )
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state
    except ImportError as error:
        raise ComponentImportError(
            "a picture needs matplotlib, which is not installed; type: pip install 'mmreg[plot]', or write .csv"
        ) from error
    x, y = list(columns["x"]), list(columns["y"])
    flat = len(x) > RASTERIZED
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    look: dict[str, Any] = {"s": 14 if len(x) < 1000 else 5, "linewidths": 0, "alpha": 0.8, "rasterized": flat}
    values = None if color is None else list(columns[color])
    if values is None:
        axes.scatter(x, y, c=COLOURS[0], **look)
    elif _is_scale(values):
        known = [at for at, value in enumerate(values) if value is not None]
        others = [at for at, value in enumerate(values) if value is None]
        axes.scatter([x[at] for at in others], [y[at] for at in others], c=REST, **look)
        shown = axes.scatter(
            [x[at] for at in known], [y[at] for at in known], c=[float(values[at]) for at in known], **look
        )
        figure.colorbar(shown, ax=axes).set_label(shortened(str(color), 40), parse_math=False)
    else:
        for (label, places), shade, shape in _groups(values):
            axes.scatter([x[at] for at in places], [y[at] for at in places], c=shade, marker=shape, label=label, **look)
        legend = figure.legend(loc="outside right upper", markerscale=2, title=shortened(str(color), 40))
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)  # what a table says is no formula
    told = ["", ""] if shares is None else [f" ({share:.0%} of all variance)" for share in shares]
    axes.set_xlabel(f"x{told[0]}")
    axes.set_ylabel(f"y{told[1]}")
    path = Path(path)
    # An SVG's names are drawn from a salt, and it tells its date: without both, equal maps are equal files.
    with mpl.rc_context({"svg.hashsalt": "mmreg"}), warnings.catch_warnings(), replacing(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of what its font lacks it draws a box
        kind = path.suffix.lower().lstrip(".")
        figure.savefig(temporary, dpi=150, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _is_scale(values: Sequence[Any]) -> bool:
    """Whether values are numbers of which there are too many to have a colour each."""
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    return numbers and len(set(known)) > len(COLOURS)


def _groups(values: Sequence[Any]) -> list[tuple[tuple[str, list[int]], str, str]]:
    """The most frequent values with the places that have them, a colour and a shape; then the rest."""
    counts = Counter(str(value) for value in values if value is not None)
    chosen = [name for name, _ in counts.most_common(len(COLOURS))]
    places: dict[str | None, list[int]] = {name: [] for name in chosen}
    rest: list[int] = []
    for at, value in enumerate(values):
        places.get(str(value), rest).append(at) if value is not None else rest.append(at)
    groups = [((_label(name), places[name]), COLOURS[at], SHAPES[at]) for at, name in enumerate(chosen)]
    if rest:
        groups.insert(0, (("others" if len(counts) > len(chosen) else "none", rest), REST, "."))
    return groups


def _label(name: str) -> str:
    """A value as the legend shows it; matplotlib leaves out labels that begin with an underscore."""
    text = shortened(name, 24) or "(empty)"
    return f" {text}" if text.startswith("_") else text
