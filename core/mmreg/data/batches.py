"""Batches: one gather a modality, with what is absent left out.

Axes: B batch, M modalities, R rows of a split, V values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.signals import Features, Signal, map_values
from mmreg.data.features import FeatureValues
from mmreg.data.prepared import Prepared
from mmreg.data.segments import Segments
from mmreg.messages import plural

WORTH_A_THREAD = 1 << 22
"""Bytes of a batch up to which gathering it takes no longer than handing it over from a thread (under 0.5 ms)."""
AHEAD = 2
"""Batches that the background thread has ready."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a split.

    Attributes:
        signals: for each modality that any row has, the values of those rows that have it, in their order.
        rows: for each of `signals` and `features`, the positions (int64) within the batch of the rows that have it;
            None for all B.
        present: (B, M) bool, which row has which modality, in the order of the recipe.
        targets: what the task made of the rows' targets, (B,) or (B, K); None if there are none.
        weights: (B,) float32, the weight of each row's loss; None for equal ones.
        index: (B,) int64, the rows' places in the split.
        features: those of `signals` instead whose values are encoded already.
        segments: for each of both of which a row has any number of values: signals and features are then of V values,
            and this says which of them are whose.
    """

    signals: dict[str, Signal[Any]]
    rows: dict[str, Tensor | None]
    present: Tensor
    targets: Tensor | None
    weights: Tensor | None
    index: NDArray[np.int64]
    features: dict[str, Features] = field(default_factory=dict)
    segments: dict[str, Segments] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """B, the number of rows."""
        return len(self.index)

    @property
    def weight(self) -> float:
        """The weight of all rows together; their number where none is given."""
        return float(self.size if self.weights is None else self.weights.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device.

        To a CUDA device everything is copied from pinned memory, so that the copies overlap with what runs there.
        """
        device = torch.device(device)
        if device.type == "cpu" or device == self.present.device:
            return self
        return replace(
            self,
            signals={
                name: Signal(
                    map_values(signal.values, lambda tensor: _move(tensor, device)),
                    _move(signal.lengths, device),
                    signal.lengths_on_host(),
                )
                for name, signal in self.signals.items()
            },
            rows={name: _move(rows, device) for name, rows in self.rows.items()},
            present=_move(self.present, device),
            targets=_move(self.targets, device),
            weights=_move(self.weights, device),
            features={
                name: Features(_move(each.pooled, device), _move(each.tokens, device), _move(each.mask, device))
                for name, each in self.features.items()
            },
            segments={name: each.map(lambda tensor: _move(tensor, device)) for name, each in self.segments.items()},
        )


class Rows(Protocol):
    """Some rows, wherever their values are; `Batch` is one."""

    @property
    def index(self) -> NDArray[np.int64]:
        """(B,) their places in the split."""

    @property
    def size(self) -> int:
        """B, how many."""

    @property
    def weight(self) -> float:
        """The weight of all together."""

    def to(self, device: torch.device) -> Batch:
        """Their batch on a device."""


def in_batches(places: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Places (N,) in batches of a size, in their order; the last one may have fewer."""
    return [places[start : start + size] for start in range(0, len(places), size)]


class Batches:
    """The batches of one pass over some rows; each iteration gives the same ones.

    Args:
        prepared: the modalities, in the order of the recipe, all for the rows of the same table.
        rows: (R,) int64, the rows of the split in that table.
        targets: (N,) or (N, K), what the task made of the targets of all N rows of the table; None if there are none.
        weights: (N,) the weights of their losses; None for equal ones.
        batch_size: rows in a batch, of which the last one may have fewer; nothing where `order` is given.
        order: for each batch the positions (B,) of its rows in `rows`; None for all of them as they come.
        drop: for some modalities (R,) bool, the rows in which it counts as absent, whether it is there or not.
        prefetch: whether a background thread gathers the next batches, where they are large enough to be worth it;
            it always does where values are decoded for it.

    Raises:
        ValueError: the arguments' lengths contradict each other.
    """

    def __init__(
        self,
        prepared: Mapping[str, Prepared],
        rows: NDArray[np.int64],
        targets: NDArray[np.generic] | None = None,
        weights: NDArray[np.generic] | None = None,
        batch_size: int = 64,
        order: Sequence[NDArray[np.int64]] | None = None,
        drop: Mapping[str, NDArray[np.bool_]] | None = None,
        prefetch: bool = False,
    ) -> None:
        self.prepared = dict(prepared)
        self.rows = np.asarray(rows, np.int64)
        self.targets = targets
        self.weights = None if weights is None else np.asarray(weights, np.float32)
        self.prefetch = prefetch
        table = len(next(iter(self.prepared.values())))
        given = [("targets", targets, table), ("weights", weights, table)]
        given += [(f"drop[{name!r}]", mask, len(self.rows)) for name, mask in (drop or {}).items()]
        for name, array, count in given:
            if array is not None and len(array) != count:
                raise ValueError(f"{name} must have one entry for each of {plural(count, 'row')}, found {len(array)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        if order is None:
            order = in_batches(np.arange(len(self.rows)), batch_size)
        self.order = order
        present = np.stack([part.present[self.rows] for part in self.prepared.values()], axis=1)
        for column, name in enumerate(self.prepared):
            if drop is not None and name in drop:
                present[:, column] &= ~drop[name]
        self.present: NDArray[np.bool_] = present

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        ahead = self.prefetch and self._bytes() > WORTH_A_THREAD
        ahead = ahead or not all(part.whole for part in self.prepared.values())
        return self._ahead() if ahead else map(self._batch, self.order)

    def _bytes(self) -> int:
        """About how many bytes a batch has."""
        each = sum(
            part.nbytes / max(int(part.index.max(initial=0)) + 1, 1) * len(part.index) / max(len(part), 1)
            for part in self.prepared.values()
        )
        return int(each * max(map(len, self.order), default=0))

    def _ahead(self) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(1, thread_name_prefix="mmreg-batches")
        pending: deque[Future[Batch]] = deque()
        try:
            for part in self.order:
                pending.append(pool.submit(self._batch, part))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # also when the iteration is given up
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, index: NDArray[np.int64]) -> Batch:
        rows = self.rows[index]
        present = self.present[index]
        signals: dict[str, Signal[Any]] = {}
        features: dict[str, Features] = {}
        positions: dict[str, Tensor | None] = {}
        segments: dict[str, Segments] = {}
        for column, (name, part) in enumerate(self.prepared.items()):
            having = present[:, column]
            if not having.any():
                continue
            where = None if having.all() else np.flatnonzero(having)
            positions[name] = None if where is None else torch.from_numpy(where)
            own = rows if where is None else rows[where]
            signal = part.gather(own)
            if (grouped := part.segments(own)) is not None:
                segments[name] = grouped
            if isinstance(part, FeatureValues):
                features[name] = part.features(signal)
            else:
                signals[name] = signal
        return Batch(
            signals=signals,
            rows=positions,
            present=torch.from_numpy(present),
            targets=None if self.targets is None else torch.from_numpy(self.targets[rows]),
            weights=None if self.weights is None else torch.from_numpy(self.weights[rows]),
            index=index,
            features=features,
            segments=segments,
        )


@overload
def _move(tensor: Tensor, device: torch.device) -> Tensor: ...
@overload
def _move(tensor: None, device: torch.device) -> None: ...
@overload
def _move(tensor: Tensor | None, device: torch.device) -> Tensor | None: ...
def _move(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    if tensor is not None and device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return None if tensor is None else tensor.to(device, non_blocking=True)
