"""The labels of a target column: which there are, in which order, and the numbers that stand for them."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg import TargetValues
from mmreg.errors import OptionError, TargetError
from mmreg.messages import listed

Label = bool | int | float | str

SHOWN = 10
"""How many labels or values a message names."""

PRIOR_FLOOR = 1e-6
"""The least share of a label in a prior, so that no row's loss is infinite."""

_KINDS: Mapping[type, str] = {bool: "true or false", int: "numbers", float: "numbers", str: "text"}


def plain(values: Iterable[Any]) -> list[Any]:
    """The values as plain Python objects: NumPy's scalars are unwrapped."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def counted(values: TargetValues) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:
    """A column's distinct values (of Python objects all), which of them each row has (N,), and rows of each (D,)."""
    told = values.distinct()
    distinct, codes = (list(values), np.arange(len(values))) if told is None else told
    return distinct, codes, np.bincount(codes, minlength=len(distinct))


def most_common(values: Iterable[Any], rows: Iterable[int] | None = None) -> str:
    """The most common values with their counts, such as "'cat' (3), 'dog' (1) and 4 more".

    Args:
        values: the values.
        rows: how many rows have each of them; one each if it is not given.
    """
    counter: Counter[str] = Counter()
    for value, count in zip(values, repeat(1) if rows is None else rows, strict=False):
        counter[repr(value)] += count
    counts = counter.most_common()
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{value} ({count})" for value, count in counts[:SHOWN]) + more


def is_missing(value: Any) -> bool:
    """Whether a cell holds no usable label: null, blank text, NaN or infinity."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def label_text(label: Label) -> str:
    """A label as text, as in a column's name: text as it is, numbers and true or false as JSON writes them."""
    return label if isinstance(label, str) else json.dumps(label)


def essence(label: Label) -> Label:
    """What labels share that differ only in case, in blanks or in how a number is written."""
    if not isinstance(label, str):
        return label
    text = " ".join(label.split()).casefold()
    with contextlib.suppress(ValueError):
        return float(text)
    return text


@dataclass(frozen=True)
class Labels:
    """K labels of one kind (text, numbers, or true and false) in ascending order.

    Attributes:
        values: the labels; their positions are the numbers that stand for them.
    """

    values: tuple[Label, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Any], rows: Iterable[int] | None = None) -> Labels:
        """The different labels among plain values that are not missing.

        Integers among fractional numbers become floats, so that the result does not hang on the rows' order.

        Args:
            found: the values.
            rows: how many rows have each of them; one each if it is not given.

        Raises:
            TargetError: a value that cannot be a label, or values of more than one kind.
        """
        found = list(found)
        types: Counter[type] = Counter()
        for value, count in zip(found, repeat(1) if rows is None else rows, strict=False):
            types[type(value)] += count
        strange = sorted(kind.__name__ for kind in types if kind not in _KINDS)
        if strange:
            remedy = "cast the column to text, or to a number"
            if "dict" in strange:
                remedy = "make one of its parts a column of text or numbers"
            raise TargetError(f"a label is text, a number, or true or false; found {', '.join(strange)}: {remedy}")
        kinds = sorted({_KINDS[kind] for kind in types})
        if len(kinds) > 1:
            of_kind = {kind: sum(n for of_type, n in types.items() if _KINDS[of_type] == kind) for kind in kinds}
            counts = ", ".join(f"{kind} ({_count(n, 'value')})" for kind, n in of_kind.items())
            raise TargetError(f"the labels are of more than one kind: {counts}; make them all text, or all numbers")
        large = next((value for value in found if type(value) is int and not -(2**63) <= value < 2**63), None)
        if large is not None:
            raise TargetError(f"the label {large} has more than 64 bits; write labels as text")
        distinct = set(map(float, found)) if float in types and int in types else set(found)
        return cls(tuple(sorted(distinct)))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def numeric(self) -> bool:
        """Whether the labels are numbers."""
        return bool(self.values) and _KINDS[type(self.values[0])] == "numbers"

    @property
    def names(self) -> list[str]:
        """The labels as text."""
        return [label_text(label) for label in self.values]

    def encode(self, found: Sequence[Any], rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Each label's number, (N,) int64.

        Where the labels are text, a number is looked up as text: a table whose rows happen to hold no other labels
        than "1" and "2" is read as one of numbers.

        Args:
            found: the labels.
            rows: (N,) how many rows have each of them, for messages; one each if it is not given.

        Raises:
            TargetError: labels that are not among these; up to ten of them are named, with their counts.
        """
        kind = _KINDS[type(self.values[0])] if self.values else ""
        types = {of_type for of_type, name in _KINDS.items() if name == kind}
        if kind == "text":
            found = [label_text(value) if type(value) in (int, float) else value for value in found]
        # True equals 1 in Python, so types are compared too.
        numbers = {label: number for number, label in enumerate(self.values)}
        encoded = np.fromiter(
            (numbers.get(value, -1) if type(value) in types else -1 for value in found), np.int64, len(found)
        )
        unknown = np.flatnonzero(encoded < 0)
        if len(unknown):
            counts = np.ones(len(unknown), np.int64) if rows is None else rows[unknown]
            raise TargetError(self._unseen([found[row] for row in unknown.tolist()], counts.tolist()))
        return encoded

    def _unseen(self, values: Sequence[Any], rows: Sequence[int]) -> str:
        hint = "; if the column holds quantities, use task: regression" if self.numeric else ""
        known = {essence(label): label for label in self.values if isinstance(label, str)}
        close = {value: known[essence(value)] for value in values if isinstance(value, str) and essence(value) in known}
        if close:
            hint = f"; written otherwise there: {listed(f'{there!r}, here {here!r}' for here, there in close.items())}"
        return (
            f"{_count(sum(rows), 'label')} never seen in training: {most_common(values, rows)}; "
            f"training has {self.describe()}; "
            f"put rows with every label into the training split, or leave these rows out{hint}"
        )

    def describe(self) -> str:
        """How many labels there are, and the first of them."""
        if not self.values:
            return "no labels"
        more = ", ..." if len(self) > SHOWN else ""
        return f"{_count(len(self), 'label')}: {', '.join(map(repr, self.values[:SHOWN]))}{more}"

    def weights(self, given: Mapping[Any, float]) -> NDArray[np.float64]:
        """The weight of each label, (K,): as given by label (or its text), 1 for the others.

        Raises:
            OptionError: a label that is not among these.
        """
        numbers: dict[Any, int] = {name: number for number, name in enumerate(self.names)}
        for number, label in enumerate(self.values):
            numbers[label] = number
            if isinstance(label, float) and label.is_integer():
                numbers[str(int(label))] = number  # a recipe's 2 for the column's 2.0
        weights = np.ones(len(self))
        unknown = []
        for label, weight in given.items():
            found = numbers.get(label, numbers.get(label_text(label)))
            if found is None:
                unknown.append(repr(label))
            else:
                weights[found] = weight
        if unknown:
            raise OptionError(f"class_weights names {', '.join(unknown)}, but training has {self.describe()}")
        return weights


def check_count(labels: Labels, most: int) -> None:
    """Refuse more labels than a task can tell apart in the memory of a usual machine.

    Raises:
        TargetError: there are more; for a task's `fit` and `load_state`, before anything of that size is made.
    """
    if len(labels) > most:
        raise TargetError(
            f"the target column holds {len(labels):,} different labels, of which at most {most:,} are told apart; "
            "join the rare ones, or choose another column; of quantities, use task: regression"
        )


def require_labels(missing: int, rows: int, remedy: str) -> None:
    """Refuse a target column without rows, or with `missing` cells that hold no label.

    Raises:
        TargetError: with the counts and what to do.
    """
    if not rows:
        raise TargetError("the target column has no rows")
    if missing:
        raise TargetError(f"{missing} of {_count(rows, 'target value')} are missing (null, NaN or infinite); {remedy}")


def check_class_weights(weights: object) -> None:
    """Check what an annotation cannot say of the option `class_weights`.

    Raises:
        OptionError: a weight that is negative or not finite.
    """
    if isinstance(weights, Mapping):
        bad = [f"{label!r}: {weight}" for label, weight in weights.items() if not 0 <= weight < math.inf]
        if bad:
            raise OptionError(f"class_weights must be finite and not negative, found {', '.join(bad)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
