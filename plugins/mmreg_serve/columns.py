"""The columns that a run reads, and the values that a request may give for them: never a path or an address."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmreg import Run
from mmreg.messages import is_unicode, listed, near, shortened
from mmreg_serve.refusal import Refused

EXACT = 1 << 53
"""Whole numbers up to here are as exact as real ones."""
MOST_AXES = 4
"""Of lists in lists: a video's frames have so many."""


@dataclass(frozen=True)
class Column:
    """A column of a run's inputs.

    Attributes:
        name: its name.
        type: the modality that reads it, such as "image".
        files: whether a value is a file, which a request gives as its bytes; a text would be a path to the modality.
        joined: whether it is read together with other columns.
        many: whether a cell holds any number of values.
        endings: of such files, such as ".png".
    """

    name: str
    type: str
    files: bool
    joined: bool
    many: bool
    endings: tuple[str, ...] = ()

    def value(self, given: Any) -> tuple[Any, str]:
        """A cell as a table has it, and what kind of cell it is ("" if it is absent).

        Cells of one kind can stand in one column whatever they hold, so requests of the same kinds go together.

        Args:
            given: what JSON holds, or the bytes of a file.

        Raises:
            Refused: it is nothing that this column takes.
        """
        if self.many and isinstance(given, list):
            return self._several(given)
        if given is None or (isinstance(given, str | bytes | list) and not given):
            return None, ""
        if isinstance(given, Mapping):
            return self._file(given), "file"
        if isinstance(given, bytes):
            if not self.files:
                raise self._refused("a file", "a text or a number is needed")
            return given, "file"
        if isinstance(given, list):
            return self._numbers(given)
        if self.files:
            what = f"the text {shortened(given)!r}" if isinstance(given, str) else f"the {type(given).__name__} {given}"
            raise self._refused(what, 'a file\'s content is needed, as {"base64": ...}; no path or address is read')
        if isinstance(given, str):
            return self._text(given), "text"
        return self._number(given)

    def _refused(self, found: str, needed: str) -> Refused:
        return Refused(422, f"column {self.name!r} holds {found}, where {needed}")

    def _file(self, given: Mapping[str, Any]) -> bytes | None:
        if not self.files or set(given) != {"base64"} or not isinstance(given["base64"], str):
            needed = '{"base64": "..."} is needed' if self.files else "a text or a number is needed"
            raise self._refused(f"a mapping with {listed(map(shortened, given)) or 'nothing'}", needed)
        try:
            return base64.b64decode(given["base64"], validate=True) or None
        except (binascii.Error, ValueError) as error:
            raise self._refused("what is no base64", f"a file's content is needed: {error}") from error

    def _text(self, given: str) -> str:
        if not is_unicode(given):
            raise self._refused("half a surrogate pair", "Unicode text is needed")
        return given

    def _number(self, given: bool | int | float) -> tuple[Any, str]:
        if isinstance(given, int) and not isinstance(given, bool):
            if not -EXACT <= given <= EXACT:
                raise self._refused("a whole number beyond 2 to the power of 53", "a smaller one is needed, or a text")
            # What reads several columns takes 3 and 3.0 for the same, so requests with either go together.
            given = float(given) if self.joined else given
        return given, type(given).__name__

    def _numbers(self, given: list[Any]) -> tuple[Any, str]:
        depth, each = 0, given
        while isinstance(each, list) and each:
            depth, each = depth + 1, each[0]
        if self.joined or depth > MOST_AXES or not _all_numbers(given, depth):
            raise self._refused("a list", "a single value is needed" if self.joined else "a list of numbers is needed")
        try:
            return np.array(given, np.float64), f"numbers {depth}"
        except (ValueError, TypeError, OverflowError) as error:
            raise self._refused("lists of different lengths", "they must be equally long") from error

    def _several(self, given: list[Any]) -> tuple[Any, str]:
        """The values of a cell that holds any number of them; a list of numbers is not taken apart."""
        one = Column(self.name, self.type, self.files, self.joined, many=False)
        if given and not isinstance(given[0], str | bytes | Mapping | list):
            return one.value(given)
        pairs = [one.value(each) for each in given]
        kinds = {kind for _, kind in pairs if kind}
        if len(kinds) > 1:
            raise self._refused(f"a {' and a '.join(sorted(kinds))}", "values of one kind are needed")
        values = [value for value, kind in pairs if kind]
        return (values, f"several {kinds.pop()}") if values else (None, "")


def _all_numbers(given: list[Any], depth: int) -> bool:
    """Whether lists of this depth hold numbers alone, or None for one that is missing."""
    if depth > 1:
        return all(isinstance(each, list) and _all_numbers(each, depth - 1) for each in given)
    return all(each is None or isinstance(each, int | float) for each in given)


def columns_of(run: Run) -> dict[str, Column]:
    """The columns that a run reads, by name; of one that several inputs read, what the strictest of them takes."""
    found: dict[str, Column] = {}
    for name, given in run.plan.inputs.items():
        modality = run.modalities[name]
        endings = tuple(sorted(modality.extensions))
        for column in given.columns:
            one = Column(
                column, given.modality.name, modality.paths, modality.multiple_columns, given.many is not None, endings
            )
            if column not in found or (one.files and not found[column].files):
                found[column] = one
    return found


def unknown_column(name: str, columns: Mapping[str, Column]) -> Refused:
    """A request gives a column that the run does not read."""
    hint = near(name, columns)
    return Refused(422, f"the run reads no column {shortened(name)!r}{hint}; it reads {listed(columns, 50)}")
