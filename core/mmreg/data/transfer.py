"""Batches on their way to a device while it works on the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mmreg.contract.signals import map_values
from mmreg.data.batches import Batch


def moved_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a CUDA device, each copied from pinned memory on a stream of its own while the one before is used."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
        copied = stream.record_event()
        if waiting is not None:
            yield _received(*waiting)
        waiting = moved, copied
    if waiting is not None:
        yield _received(*waiting)


def _received(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """A batch whose memory is not given to another before the stream that computes is done with it."""
    current = torch.cuda.current_stream(batch.present.device)
    current.wait_event(copied)

    def used_here(value: Any) -> Any:
        if value is not None:
            value.record_stream(current)
        return value

    for signal in batch.signals.values():
        map_values(signal.values, used_here)
        used_here(signal.lengths)
    for each in batch.features.values():
        for value in (each.pooled, each.tokens, each.mask):
            used_here(value)
    for segments in batch.segments.values():
        segments.map(used_here)
    for value in (batch.present, batch.targets, batch.weights, *batch.rows.values()):
        used_here(value)
    return batch
