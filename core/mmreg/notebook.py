"""What a notebook shows: things as small HTML tables, and whether there is a notebook to show them in."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

from mmreg.files import all_columns
from mmreg.messages import cell, plural, shortened, shown

MOST_ROWS = 20
"""Rows of a table that are shown."""
MOST_COLUMNS = 30
LONGEST = 300
"""Characters of a cell that are shown."""

Self = TypeVar("Self")


def harmless(method: Callable[[Self], str]) -> Callable[[Self], str]:
    """A repr that tells no more than the type where it would fail: to look at a thing never raises."""

    @functools.wraps(method)
    def guarded(self: Self) -> str:
        try:
            return method(self)
        except Exception:
            return f"{type(self).__name__} (cannot be shown)"

    return guarded


def html_table(rows: Iterable[Mapping[str, Any]], title: str = "", count: int | None = None) -> str:
    """Rows as a small HTML table that holds nothing but escaped text, in the colours of the page around it.

    Args:
        rows: each by its columns' names; a row may lack some. No more than the first are read.
        title: what stands above.
        count: how many rows there are in all, where that is known.
    """
    given = iter(rows)
    first = list(islice(given, MOST_ROWS))
    if count is None:
        count = len(first) + sum(1 for _ in given)
    columns = all_columns(first)
    left_out = [plural(count - len(first), "more row")] if count > len(first) else []
    if len(columns) > MOST_COLUMNS:
        left_out.append(plural(len(columns) - MOST_COLUMNS, "more column"))
    columns = columns[:MOST_COLUMNS]
    head = "".join(f'<th style="text-align:left">{html(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>" for row in first)
    note = f"<p>and {' and '.join(left_out)}</p>" if left_out else ""
    caption = f"<p><b>{html(title)}</b></p>" if title else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if columns else ""
    return f"<div>{caption}{table}{note}</div>"


def html_facts(title: str, facts: Mapping[str, Any]) -> str:
    """What is known of one thing as HTML: a name and a value in each line."""
    lines = "".join(
        f'<tr><th style="text-align:left">{html(name)}</th>{_cell(value)}</tr>' for name, value in facts.items()
    )
    return f"<div><p><b>{html(title)}</b></p><table><tbody>{lines}</tbody></table></div>"


def html(value: Any) -> str:
    """A value as HTML shows it: short, in one line, without any markup of its own."""
    from html import escape

    if isinstance(value, str):
        text = shortened(value[: 10 * LONGEST], LONGEST)
    else:
        text = cell(value) if value is None or isinstance(value, bool | int | float) else shown(value)
    return escape(text, quote=True)


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f'<td style="text-align:{"right" if number else "left"}">{html(value)}</td>'


def in_notebook() -> bool:
    """Whether this is a notebook's kernel, whose outputs are HTML; never loads what would make it one."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
