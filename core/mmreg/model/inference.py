"""Running a model over rows: signals to what the encoders take, and scores back into host memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.task import Task
from mmreg.data.batches import Batch, Rows
from mmreg.model.augmented import Augmented, averaged
from mmreg.model.devices import autocast
from mmreg.model.model import MultimodalModel, Output, Vectors
from mmreg.model.nodes import Part
from mmreg.model.seeding import Draws
from mmreg.regions import region


@dataclass(frozen=True)
class Predicted:
    """The model's predictions for N rows, in host memory.

    Attributes:
        scores: (N, K) in the task's space.
        present: (N,) bool, the rows that have any modality; the others got the training prior.
        parts: the prediction of each part of the model-level operators, by name.
        extras: named values (N,).
    """

    scores: Tensor
    present: Tensor
    parts: Mapping[str, Part]
    extras: Mapping[str, Tensor]


def transform(batch: Batch, modalities: Mapping[str, Modality], draws: Draws | None = None) -> Batch:
    """A batch with every modality's `transform` applied, on the batch's device.

    Args:
        batch: as gathered.
        modalities: by name.
        draws: in training, where random draws come from; None for no augmentation.
    """
    signals = {}
    for name, signal in batch.signals.items():
        source = None if draws is None else draws.generator(signal.device, name)
        with region("transform", name):
            signals[name] = modalities[name].transform(signal, training=draws is not None, generator=source)
    return replace(batch, signals=signals)


@torch.no_grad()
def predict(
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    batches: Iterable[Rows],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    augmented: Augmented | None = None,
) -> Predicted:
    """Predict every row of some batches, in the order of the split; leaves the model in evaluation mode.

    Raises:
        OptionError: rows are to be augmented, and no modality draws anything for that.
    """
    model.eval()
    outputs, places = [], []
    for number, batch in enumerate(batches):
        places.append(batch.index)
        moved = batch.to(device)
        with autocast(device, dtype):
            output = model(transform(moved, modalities))
        if augmented is not None:
            several = [output]
            for draws in augmented.draws(number):
                inputs = transform(moved, modalities, draws)
                with autocast(device, dtype):
                    several.append(model(inputs))
                augmented.check(draws)
            output = averaged(several, model.task)
        outputs.append(output)
    if not outputs:
        empty = torch.zeros(0, model.task.num_outputs)
        return Predicted(empty, torch.zeros(0, dtype=torch.bool), {}, {})
    return in_order(places, outputs)


def in_order(places: Sequence[NDArray[np.int64]], outputs: Sequence[Output | Predicted]) -> Predicted:
    """What was predicted of one or more groups of rows, in the order of the split and in host memory.

    Args:
        places: of each group, where its rows are in the split.
        outputs: what was predicted of them.
    """
    joined, first = _joining(places), outputs[0]
    return Predicted(
        joined(output.scores for output in outputs),
        joined(output.present for output in outputs),
        {
            name: Part(
                joined(output.parts[name].scores for output in outputs),
                joined(output.parts[name].present for output in outputs),
            )
            for name in first.parts
        },
        {name: joined(output.extras[name] for output in outputs) for name in first.extras},
    )


def _joining(places: Sequence[NDArray[np.int64]]) -> Callable[[Iterable[Tensor]], Tensor]:
    """What joins a tensor of each group of rows, in the order of the split and in host memory."""
    order = torch.from_numpy(np.argsort(np.concatenate(places), kind="stable"))
    return lambda tensors: torch.cat(list(tensors)).cpu()[order]


@torch.no_grad()
def embed(
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    batches: Iterable[Rows],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Vectors:
    """The vectors of every row of one or more batches, in the order of the split and in host memory."""
    model.eval()
    made, places = [], []
    for batch in batches:
        places.append(batch.index)
        moved = batch.to(device)
        with autocast(device, dtype):
            made.append(model.vectors(transform(moved, modalities)))
    joined = _joining(places)
    return Vectors(
        joined(each.fused for each in made),
        {name: joined(each.inputs[name] for each in made) for name in made[0].inputs},
        joined(each.present for each in made),
    )


@torch.no_grad()
def mean_loss(task: Task, scores: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The weighted mean of the task's loss over N rows."""
    return float((task.loss(scores, targets) * weights).sum() / weights.sum())
