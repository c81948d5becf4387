"""Texts that may be meant as something else: words for nothing, and numbers with commas in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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
_PLAIN = r"^[+-]?[0-9]+([.][0-9]+)?$"
_THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+([.][0-9]+)?$"
_NO_DECIMAL_COMMA = r"[.]|,.*,"
ENOUGH = 10
"""From so many numbers on that all have a comma before three digits, it is taken for a separator of thousands."""


def notes(table: Table, columns: Iterable[str], then: str = "") -> Iterator[str]:
    """A line for each of these columns of texts that holds words for nothing, or numbers that are taken for texts.

    Args:
        table: the rows.
        columns: of it.
        then: what else to say where words for nothing can be made absent.
    """
    for name in columns:
        if name in table.unreadable or not is_text(table.column(name).type):
            continue
        column = table.column(name)
        counts = _words(column)
        if counts:
            cells = plural(sum(counts.values()), "cell holds", "cells hold")
            found = listed(f"{word!r} ({count:,})" for word, count in counts.items())
            texts = json.dumps(list(counts), ensure_ascii=False)
            yield f"column {name!r}: {cells} {found}, texts like any other; missing: {texts} makes them absent{then}"
        if commas := numbers_with_commas(column):
            cells = plural(commas.numbers, "number has", "numbers have")
            yield f"column {name!r}: {cells} {commas.what}, so they are texts; {commas.remedy}"


class Commas(NamedTuple):
    """Numbers with commas in a column of texts.

    Attributes:
        numbers: how many there are.
        what: their commas are.
        remedy: by which they are numbers.
    """

    numbers: int
    what: str
    remedy: str

    def some_of(self, texts: int) -> str:
        """What to say before as many texts as there are numbers in all: "some of " where few of them have commas."""
        return "some of " if 2 * self.numbers < texts else ""


def numbers_with_commas(column: pa.Array | pa.ChunkedArray) -> Commas | None:
    """The numbers with commas among a column's texts; None if there are none, or one of the texts is no number."""

    def matching(pattern: str) -> int:
        return pc.sum(pc.match_substring_regex(column, pattern)).as_py() or 0

    known = len(column) - column.null_count
    thousands = matching(_THOUSANDS)
    if thousands and thousands + matching(_PLAIN) == known:
        if thousands >= ENOUGH or matching(_NO_DECIMAL_COMMA):
            return Commas(thousands, "commas as thousands separators", "without the commas they are numbers")
        what = "a comma that may separate thousands or be a decimal comma"
        return Commas(thousands, what, "without it, or with a point instead, they are numbers")
    decimal = matching(_DECIMAL_COMMA)
    if decimal and matching(_NUMBER) == known:
        return Commas(decimal, "a decimal comma", "with a point they are numbers")
    return None


def _words(column: pa.ChunkedArray) -> dict[str, int]:
    """How many cells hold each word for nothing, as it is spelled."""
    short = column.filter(pc.less_equal(pc.binary_length(column), _LONGEST))
    is_word = pc.is_in(pc.utf8_lower(short), pa.array(WORDS, short.type))
    return {item["values"]: item["counts"] for item in pc.value_counts(short.filter(is_word)).to_pylist()}
