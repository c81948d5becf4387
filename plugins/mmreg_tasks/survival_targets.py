"""Reading times, and whether the event happened then.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import TargetError
from mmreg_tasks.labels import is_missing, most_common, plain, require_labels
from mmreg_tasks.numbers import numbers_of, short

TIME, EVENT = "time", "event"

HAPPENED = {"true": True, "yes": True, "y": True, "1": True, "false": False, "no": False, "n": False, "0": False}
"""Texts that say whether the event happened, in any case."""


def times_and_events(values: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The times (N,) and whether the event happened (N,) of dicts of both.

    Raises:
        TargetError: there are no rows, or one that is no such dict, lacks its time or event, or whose time is no
            finite number of at least 0; or an event that is neither true nor false.
    """
    require_labels(0, len(values), "")
    strange = [value for value in values if not isinstance(value, Mapping) or not {TIME, EVENT} <= value.keys()]
    if strange:
        raise TargetError(
            f"{len(strange)} of {len(values)} target values are no time and event, such as {most_common(strange[:1])}; "
            f"give the columns of both: target: {{columns: {{{TIME}: .., {EVENT}: ..}}, task: survival}}"
        )
    try:
        times = numbers_of([value[TIME] for value in values])
    except TargetError as error:
        raise TargetError(f"times: {error}") from error
    if times.shape[1] != 1:
        raise TargetError(f"times are one number a row, found {times.shape[1]}")
    # Beyond what float32 holds a time is infinite, and so the same as all others there.
    bad = (times < 0) | (times > np.finfo(np.float32).max)
    if bad.any():
        raise TargetError(
            f"{bad.sum()} of {len(times)} times are negative or too large, such as {short(times[bad][0])}; a time "
            "counts from where a row begins to be watched"
        )
    return times[:, 0], _events([value[EVENT] for value in values])


def _events(cells: Sequence[Any]) -> NDArray[np.bool_]:
    cells = plain(cells)
    require_labels(sum(map(is_missing, cells)), len(cells), "say of every row whether its event happened")
    read = [_happened(cell) for cell in cells]
    strange = [cell for cell, known in zip(cells, read, strict=True) if known is None]
    if strange:
        raise TargetError(
            f"{len(strange)} of {len(cells)} events are neither true nor false: {most_common(strange)}; write true or "
            "false, 1 or 0, yes or no: whether the event happened (a column of what is censored says the opposite)"
        )
    return np.array(read, bool)


def _happened(cell: Any) -> bool | None:
    if isinstance(cell, str):
        return HAPPENED.get(cell.strip().lower())
    return bool(cell) if isinstance(cell, bool | int | float) and cell in (0, 1) else None
