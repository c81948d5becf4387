"""What a cell of a table is: a number, a date or a category, and which of these a whole column can be."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.messages import shortened

Kind = Literal["number", "date", "category"]
KINDS: tuple[Kind, ...] = ("number", "date", "category")
"""What a column can be; the first of them that all of its values fit is what it is taken for."""
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
DAY = 86_400.0
"""Seconds of a day."""
TRUTH_VALUES: Mapping[str, tuple[str, str]] = {"true": ("1", "1.0"), "false": ("0", "0.0")}
"""The categories of truth values, and the categories of numbers that may stand for each."""


def plain(value: Any) -> Any:
    """A cell as Python has it; NumPy's numbers are unpacked."""
    return value.item() if isinstance(value, np.generic) else value


def kinds_of(value: Any) -> tuple[Kind, ...]:
    """What a cell that is there can be.

    Raises:
        ValueLoadError: it is nothing of the sort.
    """
    value = plain(value)
    if isinstance(value, bool):
        return ("category",)
    if isinstance(value, int | float | Decimal | datetime.time | datetime.timedelta):
        return ("number", "category")
    if isinstance(value, datetime.date):
        return ("date", "category")
    if isinstance(value, str):
        found: list[Kind] = ["category"]
        found += ["number"] if _parsed_number(value) is not None else []
        found += ["date"] if _parsed_date(value) is not None else []
        return tuple(found)
    raise ValueLoadError(f"a {type(value).__name__}, where a number, a date or a category is needed")


def number(value: Any) -> float:
    """A cell as a number; times of day and durations are in seconds.

    Raises:
        ValueLoadError: it is none, or not finite.
    """
    value = plain(value)
    if isinstance(value, str):
        found = _parsed_number(value)
    elif isinstance(value, datetime.timedelta):
        found = value.total_seconds()
    elif isinstance(value, datetime.time):
        found = value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    elif isinstance(value, int | float | Decimal):
        found = float_or_inf(value)
    else:
        found = None
    if found is None:
        raise ValueLoadError(f"{shortened(repr(value))} is no number")
    if not math.isfinite(found):
        raise ValueLoadError(f"{shortened(str(value))} is no finite number")
    return found


def floats(values: Sequence[int | float]) -> NDArray[np.float64]:
    """Those of these numbers that are finite (N,)."""
    try:
        found = np.array(values, np.float64)
    except OverflowError:  # of an integer, which fits no float
        return np.array([value for value in map(float_or_inf, values) if math.isfinite(value)], np.float64)
    return found[np.isfinite(found)]


def float_or_inf(value: int | float | Decimal) -> float:
    """A number as a float; infinite if it is too large, or a signalling NaN."""
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.inf


def _parsed_number(text: str) -> float | None:
    """A number that is written as such; None if it is another text, "nan" and "inf" included."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) or any(digit in text for digit in "0123456789") else None


def date(value: Any) -> float:
    """A cell as days since the beginning of 1970, in UTC; a text is read as ISO 8601.

    Raises:
        ValueLoadError: it is no date.
    """
    value = plain(value)
    found = _parsed_date(value) if isinstance(value, str) else value
    if isinstance(found, datetime.date) and not isinstance(found, datetime.datetime):
        found = datetime.datetime(found.year, found.month, found.day)
    if not isinstance(found, datetime.datetime):
        raise ValueLoadError(f"{shortened(repr(value))} is no date (such as 2024-05-31 or 2024-05-31T12:30)")
    aware = found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
    return (aware - EPOCH).total_seconds() / DAY


def _parsed_date(text: str) -> datetime.datetime | None:
    # Python also reads "20240531", which is rather a number.
    if len(text) < len("2024-05-31") or text[4:5] != "-":
        return None
    try:
        return datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def category(value: Any) -> str:
    """The name of a cell's category: numbers as they are written without a fraction that is zero."""
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.lower() in TRUTH_VALUES:
        return value.lower()  # as CSV files have truth values, in the spelling of whoever wrote them
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int) and value.bit_length() > 1000:
        raise ValueLoadError("a number of more than 300 digits, which names no category")
    if isinstance(value, str | int | float | Decimal | datetime.timedelta):
        return str(value)
    raise ValueLoadError(f"a {type(value).__name__}, where a category is needed")


def row_of(value: Any) -> Mapping[str, Any]:
    """A row as a mapping of its columns.

    Raises:
        ValueLoadError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueLoadError(f"it is a {type(value).__name__}, where a mapping of columns to values is needed")
    return value
