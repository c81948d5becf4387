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
from mmreg.training.given import Given

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
        given: the features of modalities that are encoded already, instead of their values.
    """

    prepared: Mapping[str, Prepared]
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    names: Callable[[NDArray[np.int64]], list[Any]] = lambda rows: (rows + 1).tolist()
    given: Given = field(default_factory=Given)
    _resident: dict[str, ResidentRows] = field(default_factory=dict, init=False)

    def keep_on(self, device: torch.device) -> bool:
        """Keep all values on a device, if there is room for them; whether there is."""
        copies = {f"copies of {name}": copies.values for name, copies in self.given.copies.items()}
        values = {**self.given.in_place(self.prepared), **copies}
        if device.type != "cuda" or not fits(values, torch.cuda.mem_get_info(device)[0]):
            return False
        self.put_on(device)
        return True

    def put_on(self, device: torch.device) -> None:
        """Keep all values on a device."""
        values = {name: ResidentValues(part, device) for name, part in self.given.in_place(self.prepared).items()}
        copies = {name: ResidentValues(copies.values, device) for name, copies in self.given.copies.items()}
        for split, rows in (("train", self.train), ("validation", self.validation)):
            own = {**values, **copies} if split == "train" else values
            targets, weights = self.targets[rows], np.asarray(self.weights[rows], np.float32)
            self._resident[split] = ResidentRows(own, rows, targets, weights, device)

    def present(self, drop: Mapping[str, NDArray[np.bool_]] | None) -> NDArray[np.bool_]:
        """Which of the training rows have which modality (R, M), but for what is dropped."""
        kept = [part.present[self.train] for part in self.prepared.values()]
        return np.stack(
            [
                own & ~drop[name] if drop and name in drop else own
                for name, own in zip(self.prepared, kept, strict=True)
            ],
            1,
        )

    def training_batches(
        self,
        order: Sequence[NDArray[np.int64]],
        drop: Mapping[str, NDArray[np.bool_]] | None,
        device: torch.device,
        epoch: int = 0,
    ) -> Iterator[AnyBatch]:
        """Batches of the training rows.

        Args:
            order: for each batch the positions (B,) of its rows among them.
            drop: for some modalities, which of these rows lose it.
            device: where the batches go.
            epoch: whose augmented copies they get, from 0.
        """
        values = self.given.in_epoch(self.prepared, epoch)
        if "train" in self._resident:
            for name in self.given.copies:
                self._resident["train"].values[name].take(values[name].index)
        return self._batches("train", self.train, values, device, order=order, drop=drop, prefetch=True)

    def validation_batches(
        self, batch_size: int, order: Sequence[NDArray[np.int64]] | None, device: torch.device
    ) -> Iterator[AnyBatch]:
        """Batches of the validation rows, as they come where there is no `order`; see `training_batches`."""
        values = self.given.in_place(self.prepared)
        return self._batches("validation", self.validation, values, device, batch_size=batch_size, order=order)

    def _batches(
        self,
        split: str,
        rows: NDArray[np.int64],
        values: Mapping[str, Prepared],
        device: torch.device,
        **options: Any,
    ) -> Iterator[AnyBatch]:
        batches = Batches(values, rows, self.targets, self.weights, **options)
        resident = self._resident.get(split)
        if resident is not None:
            return (resident.batch(index, batches.present[index]) for index in batches.order)
        return moved_ahead(batches, device) if device.type == "cuda" else iter(batches)

    def named(self, places: NDArray[np.int64]) -> list[Any]:
        """What messages call the training rows at these places."""
        return self.names(self.train[places])
