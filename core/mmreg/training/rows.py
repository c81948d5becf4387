"""The rows that a training learns from and is judged by, as batches from wherever their values are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.data.batches import Batch, Batches
from mmreg.data.prepared import Prepared
from mmreg.data.resident import IndexedBatch, ResidentRows, ResidentValues, fits
from mmreg.data.transfer import moved_ahead

AnyBatch = Batch | IndexedBatch


@dataclass
class TrainingRows:
    """The rows that a training learns from and is judged by.

    Attributes:
        prepared: each modality's values, for all rows of the table.
        targets: (N, ...) as the task encodes them.
        weights: (N,) the weight of each row's loss.
        train: numbers of the training rows.
        validation: numbers of the rows that the best weights are chosen by; none to keep the last ones.
        names: what messages call rows, given their numbers; by default the numbers, from 1.
    """

    prepared: Mapping[str, Prepared]
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    names: Callable[[NDArray[np.int64]], list[Any]] = lambda rows: (rows + 1).tolist()
    _resident: dict[str, ResidentRows] = field(default_factory=dict, init=False)

    def keep_on(self, device: torch.device) -> bool:
        """Keep all values on a device, if there is room for them; whether there is."""
        if device.type != "cuda" or not fits(self.prepared, torch.cuda.mem_get_info(device)[0]):
            return False
        self.put_on(device)
        return True

    def put_on(self, device: torch.device) -> None:
        """Keep all values on a device."""
        values = {name: ResidentValues(part, device) for name, part in self.prepared.items()}
        for split, rows in (("train", self.train), ("validation", self.validation)):
            targets, weights = self.targets[rows], np.asarray(self.weights[rows], np.float32)
            self._resident[split] = ResidentRows(values, rows, targets, weights, device)

    def training_batches(
        self,
        order: Sequence[NDArray[np.int64]],
        drop: Mapping[str, NDArray[np.bool_]] | None,
        device: torch.device,
    ) -> Iterator[AnyBatch]:
        """Batches of the training rows.

        Args:
            order: for each batch the positions (B,) of its rows among them.
            drop: for some modalities, which of these rows lose it.
            device: where the batches go.
        """
        return self._batches("train", self.train, device, order=order, drop=drop, prefetch=True)

    def validation_batches(
        self, batch_size: int, order: Sequence[NDArray[np.int64]] | None, device: torch.device
    ) -> Iterator[AnyBatch]:
        """Batches of the validation rows, as they come where there is no `order`; see `training_batches`."""
        return self._batches("validation", self.validation, device, batch_size=batch_size, order=order)

    def _batches(self, split: str, rows: NDArray[np.int64], device: torch.device, **options: Any) -> Iterator[AnyBatch]:
        batches = Batches(self.prepared, rows, self.targets[rows], self.weights[rows], **options)
        resident = self._resident.get(split)
        if resident is not None:
            return (resident.batch(index, batches.present[index]) for index in batches.order)
        return moved_ahead(batches, device) if device.type == "cuda" else iter(batches)

    def named(self, places: NDArray[np.int64]) -> list[Any]:
        """What messages call the training rows at these places."""
        return self.names(self.train[places])
