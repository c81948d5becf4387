"""Texts that may be meant as something else: words for nothing, and numbers with a decimal comma."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from mmreg.data.hashing import is_text
from mmreg.data.table import Table
from mmreg.messages import listed, plural

WORDS = ("na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "nil", "none", "-", "--", "?")
"""What stands in tables for nothing, in any case."""
_LONGEST = max(map(len, WORDS))
_DECIMAL_COMMA = r"^[+-]?[0-9]+,[0-9]+$"
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"


def notes(table: Table, columns: Iterable[str]) -> Iterator[str]:
    """A line for each of these columns of texts that holds words for nothing, or numbers that are taken for texts."""
    for name in columns:
        if name in table.unreadable or not is_text(table.column(name).type):
            continue
        column = table.column(name)
        counts = _words(column)
        if counts:
            cells = plural(sum(counts.values()), "cell holds", "cells hold")
            found = listed(f"{word!r} ({count:,})" for word, count in counts.items())
            texts = json.dumps(list(counts), ensure_ascii=False)
            yield f"column {name!r}: {cells} {found}, texts like any other; missing: {texts} makes them absent"
        commas = decimal_commas(column)
        if commas:
            cells = plural(commas, "number has", "numbers have")
            yield f"column {name!r}: {cells} a decimal comma, so they are texts; with a point they are numbers"


def decimal_commas(column: pa.Array | pa.ChunkedArray) -> int:
    """How many of a column's texts are numbers with a decimal comma; 0 if one of them is no number."""
    commas = pc.sum(pc.match_substring_regex(column, _DECIMAL_COMMA)).as_py() or 0
    return commas if commas and pc.all(pc.match_substring_regex(column, _NUMBER)).as_py() else 0


def _words(column: pa.ChunkedArray) -> dict[str, int]:
    """How many cells hold each word for nothing, as it is spelled."""
    short = column.filter(pc.less_equal(pc.binary_length(column), _LONGEST))
    is_word = pc.is_in(pc.utf8_lower(short), pa.array(WORDS, short.type))
    return {item["values"]: item["counts"] for item in pc.value_counts(short.filter(is_word)).to_pylist()}
