"""Reading a target column of numbers.

Axes: N rows, K numbers a row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg import TargetValues
from mmreg.errors import TargetError
from mmreg.messages import plural
from mmreg_tasks.labels import most_common


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64]:
    """The cells as (N, K) numbers.

    Raises:
        TargetError: a value that is missing, infinite or no number, or lists of differing lengths.
    """
    if not len(values):
        raise TargetError("the target column has no rows")
    # A column of floats needs no look at each cell.
    if set(map(type, values)) == {float}:
        return _finite(np.array(values)[:, None])
    return _finite(_rectangle(values, np.ones(len(values), np.int64)))


def numbers_of_column(values: TargetValues) -> NDArray[np.float64]:
    """A column's cells as (N, K) numbers; raises as `numbers_of` does."""
    numbers = values.numbers()
    told = None if numbers is not None else values.distinct()
    if not len(values) or (numbers is None and told is None):
        return numbers_of(list(values))
    if numbers is not None:
        return _finite(numbers if numbers.ndim == 2 else numbers[:, None])
    assert told is not None
    distinct, codes = told
    return _finite(_rectangle(distinct, np.bincount(codes, minlength=len(distinct)))[codes])


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same numbers (N, K), none of which is missing or infinite."""
    bad = int((~np.isfinite(numbers)).any(1).sum())
    if bad:
        missing = int(np.isnan(numbers).any(1).sum())
        raise TargetError(
            f"{bad} of {len(numbers)} target values are not finite ({missing} missing: null, empty or NaN; "
            f"{bad - missing} infinite); give every row a finite number, or leave these rows out"
        )
    return numbers


def _rectangle(values: Sequence[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cells that so many rows have as (N, K) numbers."""
    cells = [
        [_number(item) for item in value] if isinstance(value, list | tuple | np.ndarray) else [_number(value)]
        for value in values
    ]
    strange = [at for at, cell in enumerate(cells) if None in cell]
    if strange:
        raise TargetError(
            f"{rows[strange].sum()} of {rows.sum()} target values are no numbers: "
            f"{most_common([values[at] for at in strange], rows[strange].tolist())}; "
            "numbers are needed (for labels use task: classification)"
        )
    # A missing list is missing in each of its numbers.
    width = max(map(len, cells))
    cells = [cell * width if len(cell) == 1 and math.isnan(cell[0] or 0) else cell for cell in cells]
    lengths: Counter[int] = Counter()
    for cell, count in zip(cells, rows.tolist(), strict=True):
        lengths[len(cell)] += count
    if len(lengths) > 1 or 0 in lengths:
        found = ", ".join(f"{length} ({plural(count, 'row')})" for length, count in sorted(lengths.items()))
        raise TargetError(f"each row of the target column needs the same number of numbers, found {found}")
    return np.array(cells, np.float64)


def _number(value: Any) -> float | None:
    """The number in a cell, NaN if the cell is empty, None if it holds something else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:  # an integer beyond every float
        return math.inf


def short(number: float) -> str:
    """Three significant digits, but no exponent for what reads well without."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"
