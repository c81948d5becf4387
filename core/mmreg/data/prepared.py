"""One modality's prepared values: gathered into batches without touching a sample in Python.

Axes: B batch, N rows, F cells' values one after the other where a cell holds several, V values, T the ragged axis.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Specs, by_name
from mmreg.data.fitting import fitting
from mmreg.data.segments import Segments, ranges
from mmreg.errors import DataError
from mmreg.messages import listed, plural

OnBad = Literal["error", "absent", "skip"]
IN_TRAINING = (
    "Mend them, or set on_bad: absent (these values count as absent) or on_bad: skip (their rows are left out) for the "
    "modality."
)
IN_USE = (
    "Mend them, or say --on-bad absent (these values count as absent) or --on-bad skip (their rows are left out); from "
    'Python mmreg.load(..., on_bad="absent").'
)
SHOWN = 10
"""Bad cells that an error shows one by one."""
PART = 256
"""Values that are looked at together where they are given one at a time."""

Read = Callable[[str, NDArray[np.int64]], NDArray[Any]]
"""Gives an array, by its name, in which these values, by their numbers (B,), are sound."""


@dataclass(frozen=True)
class BadCell:
    """A cell that could not be loaded.

    Attributes:
        row: its row's index in the table that was prepared.
        column: its column (or columns).
        value: the cell as the table has it, shortened.
        cause: why it could not be loaded.
        where: what messages call the row, such as "manifest.csv, row 17".
    """

    row: int
    column: str
    value: str
    cause: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}, column {self.column}: {self.value}: {self.cause}"


class Prepared:
    """The values of one modality for N rows of a table, in memory or mapped into it.

    Args:
        name: the modality's name in the recipe.
        stored: what one value is: one array, or several by name.
        values: (V, *stored.shape) the V values; ragged ones (sum of T, *rest) one after the other. Of several arrays,
            such an array for each name.
        offsets: (V + 1,) int64, where each ragged value begins and the last one ends; None if none is ragged.
        index: (N,) int64, which value each row has; -1 where it has none. With `bounds` (F,), one row's values after
            the other's.
        bad: the cells that could not be loaded.
        on_bad: what is to be done about these.
        contents: what identifies all of the values; empty if nobody needs to know whether they are the same later.
        read: gives the arrays of `values`, of which nothing else is used then; for those that may turn out damaged.
        bounds: (N + 1,) int64, where each row's values begin in `index`, and the last one's end; None where a row has
            one value at most.

    Attributes:
        present: (N,) bool, which rows have a value; neither absent nor bad ones do.
        nbytes: the bytes of all values.
        whole: whether the values are at hand as whole arrays; else each batch is made when it is gathered, which is
            worth a thread, and there is no array to take all of them from.
    """

    whole: ClassVar[bool] = True

    def __init__(
        self,
        *,
        name: str,
        stored: Specs,
        values: NDArray[Any] | Mapping[str, NDArray[Any]],
        offsets: NDArray[np.int64] | None,
        index: NDArray[np.int64],
        bad: Sequence[BadCell] = (),
        on_bad: OnBad = "error",
        contents: str = "",
        read: Read | None = None,
        bounds: NDArray[np.int64] | None = None,
    ) -> None:
        arrays = dict(values) if isinstance(values, Mapping) else {"": values}
        self.name = name
        self.stored = stored
        self.offsets = offsets
        self.index, self.bounds = index, bounds
        self.bad = list(bad)
        self.on_bad: OnBad = on_bad
        self.contents = contents
        self.present: NDArray[np.bool_] = self._having()
        self._specs = by_name(stored)
        self._is_named = isinstance(stored, Mapping)
        self._names = list(self._specs)
        self._read: Read = read or (lambda name, wanted: arrays[name])
        self._length = _common_length(offsets)
        self.nbytes = sum(array.nbytes for array in arrays.values())

    def __len__(self) -> int:
        return len(self.present)

    def grouped(
        self, index: NDArray[np.int64], bounds: NDArray[np.int64] | None, bad: Sequence[BadCell] | None = None
    ) -> Self:
        """The same values in other rows, which have all that they have; see `index` and `bounds` above."""
        other = copy.copy(self)
        other.index, other.bounds, other.bad = index, bounds, list(self.bad if bad is None else bad)
        other.present = other._having()
        return other

    def _having(self) -> NDArray[np.bool_]:
        """(N,) which rows have a value, and lack none that they name."""
        there: NDArray[np.bool_] = self.index >= 0
        if self.bounds is None:
            return there
        lacking = np.concatenate([[0], np.cumsum(~there)])[self.bounds]
        having: NDArray[np.bool_] = (np.diff(self.bounds) > 0) & (np.diff(lacking) == 0)
        return having

    def shown(self) -> NDArray[np.int64]:
        """`index`, with -1 also where the row counts as absent."""
        present = self.present if self.bounds is None else np.repeat(self.present, np.diff(self.bounds))
        return np.where(present, self.index, -1)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in `index` the values of these rows (B,) are: (B,), or with `bounds` one for each value."""
        return rows if self.bounds is None else ranges(self.bounds, rows)

    def segments(self, rows: NDArray[np.int64]) -> Segments | None:
        """Which of these rows (B,) each of their gathered values belongs to; None where each has one."""
        return None if self.bounds is None else Segments.of(self.bounds[rows + 1] - self.bounds[rows])

    @property
    def bad_rows(self) -> NDArray[np.bool_]:
        """(N,) which rows have a cell that could not be loaded: those that `skip` leaves out."""
        mask = np.zeros(len(self), bool)
        mask[[cell.row for cell in self.bad]] = True
        return mask

    def gather(self, rows: NDArray[np.int64]) -> Signal[Any]:
        """The values of these rows (B,), all of which must be present, as one batch in CPU memory.

        Ragged ones are padded with zeros to the longest among them. Where a row has several values, the batch is of
        values: those of the first row, then those of the second, as `segments` tells.

        Raises:
            IndexError: one of the rows has no value.
        """
        wanted = self._wanted(rows)
        gathered = {name: torch.from_numpy(array) for name, array in self._taken(wanted).items()}
        values = gathered if self._is_named else gathered[""]
        if self.offsets is None:
            return Signal(values)
        lengths = torch.from_numpy(self.offsets[wanted + 1] - self.offsets[wanted])
        return Signal(values, lengths, lengths)

    def _taken(self, wanted: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Each array's values (B, ...), padded if they are ragged."""
        return {name: self._gathered(name, wanted) for name in self._names}

    def _gathered(self, name: str, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """One array's values (B, ...), padded if it is ragged."""
        array = self._read(name, wanted)
        if self.offsets is None or self._specs[name].ragged_axis is None:
            taken: NDArray[Any] = np.take(array, wanted, axis=0)
            return taken
        if self._length:
            each: NDArray[Any] = array.reshape(len(self.offsets) - 1, self._length, *array.shape[1:])
            return np.take(each, wanted, axis=0)
        starts, ends = self.offsets[wanted], self.offsets[wanted + 1]
        padded = np.zeros((len(wanted), int((ends - starts).max(initial=0)), *array.shape[1:]), array.dtype)
        # A plain copy for each row takes 20 us for 64 rows of tokens and 1 ms for 64 seconds of sound; an index of all
        # elements at once (the way without a loop) is 15 times slower for sound, and never much faster.
        for row, start, end in zip(padded, starts.tolist(), ends.tolist(), strict=True):
            row[: end - start] = array[start:end]
        return padded

    def everything(self) -> dict[str, NDArray[Any]]:
        """All values of each array by its name, (V, *shape), or of ragged ones (sum of T, *rest), to be read only."""
        numbers = np.arange(int(self.index.max(initial=-1)) + 1)
        return {name: self._read(name, numbers) for name in self._names}

    def arrays(self, rows: NDArray[np.int64]) -> Iterator[Any]:
        """What `load` gave for those of these rows that are present, one at a time, each a copy."""
        present = self.index[self.places(rows[self.present[rows]])]
        for first in range(0, len(present), PART):
            columns = [self._copies(name, present[first : first + PART]) for name in self._names]
            for copies in zip(*columns, strict=True):
                yield dict(zip(self._names, copies, strict=True)) if self._is_named else copies[0]

    def batches(self, rows: NDArray[np.int64], size: int = 4096) -> Iterator[Any]:
        """The values of those of these rows that are present, as `gather` gives them, so many rows at a time."""
        present = rows[self.present[rows]]
        for first in range(0, len(present), size):
            yield self.gather(present[first : first + size]).values

    def _copies(self, name: str, wanted: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """One array of each of these values."""
        array = self._read(name, wanted)
        if self.offsets is None or self._specs[name].ragged_axis is None:
            for number in wanted.tolist():
                yield np.array(array[number])
        else:
            for start, end in zip(self.offsets[wanted].tolist(), self.offsets[wanted + 1].tolist(), strict=True):
                yield np.array(array[start:end])

    def _wanted(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = self.index[self.places(rows)]
        none = self.bounds is not None and (self.bounds[rows] == self.bounds[rows + 1]).any()
        if none or (wanted < 0).any():
            missing = listed(rows[~self._having()[rows]].tolist(), 5)
            raise IndexError(f"{self.name}: rows {missing} have no value; gather only rows that are present")
        return wanted


def _common_length(offsets: NDArray[np.int64] | None) -> int:
    """The length of ragged values that all have the same one, which are gathered twice as fast; 0 otherwise."""
    lengths = np.diff(offsets) if offsets is not None else np.zeros(0, np.int64)
    return int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else 0


def raise_bad(prepared: Iterable[Prepared], remedy: str = IN_TRAINING) -> None:
    """Raise one error about all cells that could not be loaded, of the modalities whose policy is "error".

    Args:
        prepared: the modalities' values.
        remedy: what can be done, for the message.

    Raises:
        DataError: there are such cells; the first ones are shown with table, row, column, value and cause.
    """
    found = [part for part in prepared if part.bad and part.on_bad == "error"]
    if not found:
        return
    cells = sorted((cell for part in found for cell in part.bad), key=lambda cell: cell.row)
    counts = ", ".join(f"{part.name}: {len(part.bad):,} of {plural(len(part), 'row')}" for part in found)
    more = [f"  and {len(cells) - SHOWN:,} more"] if len(cells) > SHOWN else []
    raise DataError(
        "\n".join(
            [
                f"{plural(len(cells), 'cell')} cannot be loaded ({counts}):",
                *(f"  {cell}" for cell in cells[:SHOWN]),
                *more,
                remedy,
            ]
        )
    )


def bad_texts(prepared: Iterable[Prepared], rows: NDArray[np.int64] | None = None) -> list[str]:
    """For each modality with cells that could not be loaded, in these rows or in any, a line for people."""
    texts = []
    for values in prepared:
        bad = values.bad
        if bad and rows is not None:
            chosen = np.isin([cell.row for cell in bad], rows)
            bad = [cell for cell, there in zip(bad, chosen, strict=True) if there]
        if bad:
            what = "left out" if values.on_bad == "skip" else "taken for absent"
            texts.append(f"{values.name}: {plural(len(bad), 'cell')} cannot be loaded, {what} (first: {bad[0]})")
    return texts


def fit_arrays(prepared: Mapping[str, Prepared], modalities: Mapping[str, Modality], rows: NDArray[np.int64]) -> None:
    """Let every modality learn from the prepared training rows that have it."""
    for name, modality in modalities.items():
        with fitting(f"modality {name!r}"):
            modality.fit_arrays(prepared[name].arrays(rows[prepared[name].present[rows]]))


def keep_rows(prepared: Mapping[str, Prepared], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """These rows without those that have a bad cell of a modality whose policy is to skip them."""
    for values in prepared.values():
        if values.on_bad == "skip":
            rows = rows[~values.bad_rows[rows]]
    return rows


def rows_with_fewer(prepared: Mapping[str, Prepared], rows: NDArray[np.int64], than: int) -> int:
    """How many of these rows have fewer modalities than so many; those that have none get the training prior."""
    counts = np.sum([values.present[rows] for values in prepared.values()], 0)
    return int((counts < than).sum())
