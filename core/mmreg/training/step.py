"""One optimizer step: transform, model, losses, backward and optimizer, with nothing that waits for a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmreg.contract.interfaces import Modality
from mmreg.data.batches import Batch
from mmreg.layers import GLOBAL_DRAWS
from mmreg.model.devices import autocast
from mmreg.model.inference import transform
from mmreg.model.model import MultimodalModel
from mmreg.model.seeding import derive
from mmreg.recipe.form import Training
from mmreg.regions import region
from mmreg.training.losses import total_loss


class Losses(NamedTuple):
    """What a step came to, still on the device: the loss (), and its terms () by part and name."""

    loss: Tensor
    terms: dict[tuple[str, str], Tensor]


class TrainingStep:
    """Steps of an optimizer, each over a group of batches.

    Args:
        model: on its device.
        modalities: by name, fitted.
        optimizer: over the model's parameters.
        options: of the training.
        steps: how many steps the training has.
        device: where to compute.
        dtype: the dtype of the forward pass.
    """

    def __init__(
        self,
        model: MultimodalModel,
        modalities: Mapping[str, Modality],
        optimizer: torch.optim.Optimizer,
        options: Training,
        steps: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.modalities, self.optimizer = model, modalities, optimizer
        self.options, self.steps, self.device, self.dtype = options, steps, device, dtype
        self.scaler = torch.amp.grad_scaler.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self, group: list[Batch], number: int) -> Losses:
        """Move the weights once.

        Args:
            group: batches whose gradients are added up.
            number: how many steps there were before.
        """
        options = self.options
        total_weight = sum(weight_of(batch) for batch in group) or 1.0  # of rows that all weigh nothing
        rows = sum(batch.size for batch in group)
        loss = torch.zeros((), device=self.device)
        terms: dict[tuple[str, str], Tensor] = {}
        for index, batch in enumerate(group):
            seed = derive(options.seed, "step", number, index)
            part, named = self._gradients(batch, seed, total_weight, batch.size / rows, number / self.steps)
            loss += part
            for key, term in named.items():
                terms[key] = terms.get(key, 0.0) + term
        with region("optimizer"):
            if options.gradient_clip is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), options.gradient_clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        return Losses(loss, terms)

    def _gradients(self, batch: Batch, seed: int, total_weight: float, share: float, progress: float) -> Losses:
        """Add up the gradients of one batch."""
        with region("copies"):
            batch = batch.to(self.device)
        inputs = transform(batch, self.modalities, seed)
        assert inputs.targets is not None
        assert inputs.weights is not None
        with GLOBAL_DRAWS:  # backward, too: a checkpointed layer draws again there
            with autocast(self.device, self.dtype):
                output = self.model(inputs, seed)
            with region("loss"):
                loss, terms = total_loss(
                    output, inputs.targets, inputs.weights, self.model.task, total_weight, share, progress
                )
            with region("backward"):
                torch.autograd.backward(self.scaler.scale(loss))
        return Losses(loss.detach(), terms)


def weight_of(batch: Batch) -> float:
    """The weight of a batch's rows together."""
    assert batch.weights is not None
    return float(batch.weights.sum())
