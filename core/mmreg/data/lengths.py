"""Rows of similar length together in a batch, so that little of it is padding.

Axes: R rows, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.spec import by_name
from mmreg.data.prepared import Prepared
from mmreg.data.segments import greatest

WINDOW = 50
"""Batches whose rows are sorted together: in a batch of a window lengths differ by a fiftieth of what they do in all,
and rows that lie near each other in a table stay so."""
NOISE = 0.1
"""By what share a length is changed at random before it is compared, so that neighbours change from epoch to epoch."""
SAMPLE = 50
"""Batches by which it is judged how much of them is padding."""
WORTH = 1 << 10
"""Bytes of padding a row below which rows need not be sorted."""
WORTH_SORTING = 0.25
"""The share of padding from which on rows are sorted where nothing is learned from them."""


def ragged_bytes(prepared: Mapping[str, Prepared], rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The bytes of these rows' values that vary in length, (R,), of several a row those of the longest.

    None where none vary.
    """
    total: NDArray[np.int64] | None = None
    for values in prepared.values():
        if values.offsets is None or len(values.offsets) < 2:
            continue
        steps = np.append(np.diff(values.offsets), 0)  # the last one is of rows without a value, which have -1
        longest = (
            steps[values.index[rows]] if values.bounds is None else greatest(steps[values.index], values.bounds)[rows]
        )
        sizes: NDArray[np.int64] = _element_bytes(values) * longest
        total = sizes if total is None else total + sizes
    return total


def _element_bytes(values: Prepared) -> int:
    """The bytes of one step along the ragged axis."""
    specs = [spec for spec in by_name(values.stored).values() if spec.ragged_axis is not None]
    return sum(math.prod(size or 1 for size in spec.shape[1:]) * np.dtype(spec.dtype).itemsize for spec in specs)


def _fixed_bytes(prepared: Mapping[str, Prepared]) -> int:
    """The bytes of a row's values that do not vary in length."""
    specs = [spec for values in prepared.values() for spec in by_name(values.stored).values()]
    fixed = [spec for spec in specs if spec.ragged_axis is None]
    return sum(math.prod(size or 1 for size in spec.shape) * np.dtype(spec.dtype).itemsize for spec in fixed)


def padding_share(prepared: Mapping[str, Prepared], rows: NDArray[np.int64], batch_size: int) -> float:
    """The share of padding in the bytes of batches of random rows; 0 where it is too little to matter."""
    lengths = ragged_bytes(prepared, rows)
    if lengths is None or batch_size < 2 or not len(rows):
        return 0.0
    chosen = np.random.default_rng(0).permutation(lengths)[: SAMPLE * batch_size]
    batches = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    padded = sum(int(batch.max()) * len(batch) for batch in batches)
    padding = padded - int(chosen.sum())
    if padding < WORTH * len(chosen):
        return 0.0
    return padding / (padded + _fixed_bytes(prepared) * len(chosen))


def similar_lengths(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    batch_size: int,
    random: np.random.Generator | None = None,
) -> list[NDArray[np.int64]]:
    """Batches of rows of similar length.

    The order is cut into windows of `WINDOW` batches, and the rows of each are sorted by length.

    Args:
        order: (R,) the rows.
        lengths: of row 0, 1, 2, ...
        batch_size: B; one batch may have fewer rows.
        random: by which lengths are changed a little and the batches shuffled; None for neither, longest rows first.
    """
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        keys = lengths[window].astype(np.float64)
        if random is not None:
            keys *= 1 + NOISE * random.uniform(-1, 1, len(window))
        window = window[np.argsort(-keys, kind="stable")]
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    return batches if random is None else [batches[at] for at in random.permutation(len(batches))]


def unpadded_order(
    prepared: Mapping[str, Prepared], rows: NDArray[np.int64], batch_size: int
) -> list[NDArray[np.int64]] | None:
    """Batches of these rows (their positions) for a model that only predicts; None to take the rows as they come."""
    if padding_share(prepared, rows, batch_size) < WORTH_SORTING:
        return None
    lengths = ragged_bytes(prepared, rows)
    assert lengths is not None
    return similar_lengths(np.arange(len(rows)), lengths, batch_size)
