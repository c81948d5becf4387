"""What a model is given of some rows, to be asked again with inputs left out or changed.

Axes: B rows of a batch, K scores, M inputs, R rows, V values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Features, Signal, map_values
from mmreg.data.batches import Batch
from mmreg.data.cells import iter_cells
from mmreg.data.prepared import Prepared
from mmreg.data.segments import Segments
from mmreg.data.table import Table
from mmreg.model.devices import autocast
from mmreg.model.inference import transform
from mmreg.model.model import MultimodalModel
from mmreg.model.pooling import encoded_in_parts
from mmreg.recipe.resolve import Plan
from mmreg.runs.measuring import row_keys


@dataclass(frozen=True)
class PreparedRows:
    """Rows of a table, prepared for several predictions; `Run.prepare` makes them.

    Attributes:
        plan: the run's resolved recipe.
        modalities: by the inputs' names.
        table: the rows.
        prepared: each input's values for all rows of the table.
        rows: (R,) int64, the numbers of the rows to predict.
    """

    plan: Plan
    modalities: Mapping[str, Modality]
    table: Table
    prepared: Mapping[str, Prepared]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self) -> tuple[str, list[Any]]:
        """What the rows are called in predictions: the key's name, and the key of each."""
        return row_keys(self.plan, self.table, self.rows)

    def present(self) -> dict[str, NDArray[np.bool_]]:
        """For each input (R,), which rows have it."""
        return {name: values.present[self.rows] for name, values in self.prepared.items()}

    def value(self, name: str, place: int) -> Any:
        """What an input's modality reads of a row, as its `load` takes it; None where the row lacks it.

        Args:
            name: the input's, which reads one value a cell.
            place: the row's, from 0 to R - 1.
        """
        columns = self.plan.inputs[name].columns
        row = self.rows[place : place + 1]
        if not self.prepared[name].present[row[0]]:
            return None
        return next(iter_cells(self.modalities[name], self.table, columns, row))


class RowInputs:
    """B rows as a model sees them, each input encoded once however often the model is asked.

    Args:
        model: on its device, in evaluation mode.
        modalities: by the inputs' names.
        dtype: the precision of the forward pass.
        batch: as gathered, on the model's device.

    Attributes:
        index: (B,) int64, the places of these rows among all.
        signals: for each input that any of the rows has, what its modality's `transform` gives of those that have it.
        several: the inputs of which a row may have any number of values; their signals are of V values.
    """

    def __init__(
        self, model: MultimodalModel, modalities: Mapping[str, Modality], dtype: torch.dtype, batch: Batch
    ) -> None:
        self._model, self._modalities, self._dtype = model, modalities, dtype
        with torch.no_grad():
            batch = transform(batch, modalities)
            features = {}
            with autocast(batch.present.device, dtype):
                for name, signal in batch.signals.items():
                    encoder = model.encoder_of(name)
                    several = model.pooling_of(name) is not None
                    features[name] = encoded_in_parts(encoder, signal) if several else encoder(signal)
        self._batch = replace(batch, signals={}, features=features)
        self.index = batch.index
        self.signals: Mapping[str, Signal[Any]] = batch.signals
        self.several = frozenset(batch.segments)

    @property
    def present(self) -> dict[str, NDArray[np.bool_]]:
        """For each input (B,), which rows have it."""
        columns = self._batch.present.cpu().numpy().T
        return dict(zip(self._model.modalities, columns, strict=True))

    def scores(self, absent: Collection[str] = (), changed: Mapping[str, Signal[Any]] | None = None) -> Tensor:
        """The scores (B, K) in the task's space, on the model's device; they have a gradient where signals need one.

        Args:
            absent: inputs that count as absent in every row, as empty cells do; a row that lacks all of them gets the
                training prior.
            changed: in the place of some inputs' `signals`, others for the same rows; these are encoded anew.
        """
        changed = {name: signal for name, signal in (changed or {}).items() if name not in absent}
        batch = self._batch
        kept = {name: each for name, each in batch.features.items() if name not in absent and name not in changed}
        present = batch.present.clone()
        for name in absent:
            present[:, self._model.modalities.index(name)] = False
        rows = {name: each for name, each in batch.rows.items() if name not in absent}
        asked = replace(batch, signals=dict(changed), features=kept, rows=rows, present=present)
        needed = any(_needs_gradient(signal) for signal in changed.values())
        # cuDNN gives recurrent layers no gradient outside of training.
        plain = torch.backends.cudnn.flags(enabled=False) if needed else nullcontext()
        with torch.set_grad_enabled(needed), plain, autocast(present.device, self._dtype):
            scores: Tensor = self._model(asked).scores
            return scores

    def repeated(self, count: int) -> RowInputs:
        """One row as a batch of so many equal ones, for `scores` with as many signals in the place of one."""
        assert len(self.index) == 1, "only one row can be repeated"
        batch, other = self._batch, RowInputs.__new__(RowInputs)
        other._model, other._modalities, other._dtype = self._model, self._modalities, self._dtype
        device = batch.present.device
        other._batch = replace(
            batch,
            features={name: _repeated(each, count) for name, each in batch.features.items()},
            present=batch.present.expand(count, -1),
            index=batch.index.repeat(count),
            segments={
                name: Segments.of(each.counts.cpu().numpy().repeat(count)).map(lambda tensor: tensor.to(device))
                for name, each in batch.segments.items()
            },
        )
        other.index, other.several = other._batch.index, self.several
        other.signals = {name: _repeated_signal(signal, count) for name, signal in self.signals.items()}
        return other

    def loaded(self, name: str, values: Sequence[Any]) -> Signal[Any]:
        """What an input's modality makes of other values than the table's, on the model's device.

        Args:
            name: the input's.
            values: as the modality's `load` takes them.

        Raises:
            ValueLoadError: one of them cannot be loaded.
        """
        modality = self._modalities[name]
        stored = _stored(modality, [modality.load(value) for value in values])
        with torch.no_grad():
            return modality.transform(stored.to(self._batch.present.device), training=False)


def row_inputs(
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    dtype: torch.dtype,
    device: torch.device,
    batches: Iterator[Batch],
) -> Iterator[RowInputs]:
    """The batches as a model sees them, one after the other."""
    model.eval()
    for batch in batches:
        yield RowInputs(model, modalities, dtype, batch.to(device))


def _needs_gradient(signal: Signal[Any]) -> bool:
    tensors = signal.values.values() if isinstance(signal.values, Mapping) else [signal.values]
    return any(tensor.requires_grad for tensor in tensors)


def _repeated(features: Features, count: int) -> Features:
    def several(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.repeat(count, *[1] * (tensor.ndim - 1))

    pooled, tokens = several(features.pooled), several(features.tokens)
    return Features(pooled, tokens, several(features.mask), positions=several(features.positions))


def _repeated_signal(signal: Signal[Any], count: int) -> Signal[Any]:
    values = map_values(signal.values, lambda tensor: tensor.repeat(count, *[1] * (tensor.ndim - 1)))
    lengths, host = (None if each is None else each.repeat(count) for each in (signal.lengths, signal.host_lengths))
    return Signal(values, lengths, host)


def _stored(modality: Modality, arrays: Sequence[Any]) -> Signal[Any]:
    """Loaded values as one batch in CPU memory, put together as prepared ones are."""
    named = [array if isinstance(array, Mapping) else {"": array} for array in arrays]
    specs = modality.stored if isinstance(modality.stored, Mapping) else {"": modality.stored}
    ragged = [name for name, spec in specs.items() if spec.ragged_axis is not None]
    offsets = np.cumsum([0, *(len(each[ragged[0]]) for each in named)]) if ragged else None
    values = {
        name: (np.concatenate if name in ragged else np.stack)([np.asarray(each[name]) for each in named])
        for name in specs
    }
    together = Prepared(
        name="",
        stored=modality.stored,
        values=values if isinstance(modality.stored, Mapping) else values[""],
        offsets=offsets,
        index=np.arange(len(arrays)),
    )
    return together.gather(np.arange(len(arrays)))
