"""What commands print: tables that never lose a character in a pipe, and JSON documents."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(data: Any) -> None:
    """One JSON document on stdout; numbers that are not finite, which JSON has none of, are null."""
    print(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """Rows as a table: drawn on a terminal, else plain columns apart by two blanks or more, never shortened."""
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for number, column in enumerate(columns):
            right = bool(cells) and all(_is_number(line[number]) for line in cells if line[number])
            table.add_column(column, overflow="fold", justify="right" if right else "left")
        for line in cells:
            table.add_row(*(Text(cell) for cell in line))
        Console().print(table)
        return
    if title:
        print(title)
    widths = [max(len(column), *(len(line[n]) for line in cells), 0) for n, column in enumerate(columns)]
    for line in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def say(text: str) -> None:
    """A line for people on stderr, where it does not get into the result."""
    print(text, file=sys.stderr, flush=True)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).splitlines())


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True
