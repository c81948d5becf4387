"""HTML that is built of parts: whatever is not markup already is escaped, so that no text of a table becomes any."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmreg.files import all_columns
from mmreg.messages import cell

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What HTML has no place for: control characters, and halves of characters, which no file can hold."""
_VOID = frozenset({"meta", "img", "input", "br"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """A value as markup: `Html` as it is, None as nothing, all else as text."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape(_NO_TEXT.sub("\ufffd", str(value)), quote=True))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(escaped(between).join(map(escaped, parts)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element.
        children: what is in it: text, which is escaped, or markup.
        attributes: `class_` stands for class and `data_row` for data-row; True for one without a value, None or False
            for none.

    Example:
        >>> tag("b", "<i>", class_="x")
        '<b class="x">&lt;i&gt;</b>'
    """
    told = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            spelled = key.rstrip("_").replace("_", "-")
            told += f" {spelled}" if value is True else f' {spelled}="{escaped(value)}"'
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def table(
    rows: Sequence[Mapping[str, Any]],
    caption: str = "",
    *,
    sortable: bool = True,
    bars: str = "",
    stacks: bool = False,
) -> Html:
    """Rows as a table that can be scrolled sideways by itself; numbers stand at the right.

    Args:
        rows: each by its columns' names; a row may lack some.
        caption: what it shows.
        sortable: whether the page's script may let a reader sort it.
        bars: the column whose numbers from 0 to 1 are also drawn.
        stacks: whether on a narrow screen the cells of a row stand below each other, as of rows that are high.
    """
    columns = all_columns(rows)
    numeric = {name for name in columns if any(_is_number(row.get(name)) for row in rows)}
    head = tag("tr", *(tag("th", name, scope="col", class_="n" if name in numeric else None) for name in columns))
    lines = []
    for row in rows:
        cells = []
        for number, column in enumerate(columns):
            value = row.get(column)
            shown = value if isinstance(value, Html) else _told(value)
            if column == bars and column in numeric:
                shown = joined([shown, _bar(float(value or 0.0))])
            look = "n" if column in numeric else None
            name, scope = ("td", None) if number else ("th", "row")
            called = column if stacks and number and shown else None
            cells.append(tag(name, shown, scope=scope, class_=look, data_column=called))
        lines.append(tag("tr", *cells))
    title = tag("caption", caption) if caption else ""
    classes = " ".join(["sortable"] * sortable + ["stacks"] * stacks)
    body = tag("table", title, tag("thead", head), tag("tbody", *lines), class_=classes or None)
    return scrolled(body, caption or "table")


def scrolled(body: Html, label: str) -> Html:
    """Something that may be wider than a phone, in a box of its own that the keyboard reaches."""
    return tag("div", body, class_="wide", tabindex="0", role="group", aria_label=label)


def _told(value: object) -> str:
    """A value as a table shows it, whole numbers in groups of three digits."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bar(share: float) -> Html:
    """A bar beside a number, which tells the same."""
    width = min(max(share, 0.0), 1.0)
    return tag("span", class_="bar", style=f"--share:{width:.4f}", aria_hidden="true")


def folded(summary: str, *children: object) -> Html:
    """What is shown when a reader asks for it."""
    return tag("details", tag("summary", summary), *children)
