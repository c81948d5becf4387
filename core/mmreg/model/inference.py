"""Running a model over rows: signals to what the encoders take, and scores back into host memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.task import Task
from mmreg.data.batches import Batch, Rows
from mmreg.model.devices import autocast
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import Part
from mmreg.model.seeding import Draws


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
        signals[name] = modalities[name].transform(signal, training=draws is not None, generator=source)
    return replace(batch, signals=signals)


@torch.no_grad()
def predict(
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    batches: Iterable[Rows],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Predicted:
    """Predict every row of some batches, in their order; leaves the model in evaluation mode."""
    model.eval()
    outputs = []
    for batch in batches:
        inputs = transform(batch.to(device), modalities)
        with autocast(device, dtype):
            outputs.append(model(inputs))
    if not outputs:
        empty = torch.zeros(0, model.task.num_outputs)
        return Predicted(empty, torch.zeros(0, dtype=torch.bool), {}, {})
    first = outputs[0]
    return Predicted(
        torch.cat([output.scores for output in outputs]).cpu(),
        torch.cat([output.present for output in outputs]).cpu(),
        {
            name: Part(
                torch.cat([output.parts[name].scores for output in outputs]).cpu(),
                torch.cat([output.parts[name].present for output in outputs]).cpu(),
            )
            for name in first.parts
        },
        {name: torch.cat([output.extras[name] for output in outputs]).cpu() for name in first.extras},
    )


@torch.no_grad()
def mean_loss(task: Task, scores: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The weighted mean of the task's loss over N rows."""
    return float((task.loss(scores, targets) * weights).sum() / weights.sum())
