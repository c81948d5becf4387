"""One optimizer step: transform, model, losses, backward and optimizer, with nothing that waits for a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmreg.contract.interfaces import Modality
from mmreg.data.batches import Rows
from mmreg.layers import GLOBAL_DRAWS
from mmreg.model.devices import autocast
from mmreg.model.inference import transform
from mmreg.model.model import MultimodalModel
from mmreg.model.seeding import Draws, derive
from mmreg.recipe.form import Training
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

    def __call__(self, group: Sequence[Rows], number: int, weight: float) -> Losses:
        """Move the weights once.

        Args:
            group: batches whose gradients are added up.
            number: how many steps there were before.
            weight: of all rows of the group together.
        """
        draws = [Draws(self.seed(number, index)) for index in range(len(group))]
        losses = self.gradients(group, draws, weight or 1.0, number / self.steps)
        self.update()
        return losses

    def seed(self, number: int, index: int) -> int:
        """What the random draws of a batch are keyed by: the one of this index in the group of this step."""
        return derive(self.options.seed, "step", number, index)

    def gradients(
        self, group: Sequence[Rows], draws: Sequence[Draws], weight: float | Tensor, progress: float | Tensor
    ) -> Losses:
        """Add up the gradients of a group's losses.

        Args:
            group: the batches.
            draws: for each batch.
            weight: of all their rows together, above 0; a tensor () where the step is recorded.
            progress: the part of the training that is done; likewise.
        """
        rows = sum(batch.size for batch in group)
        loss = torch.zeros((), device=self.device)
        terms: dict[tuple[str, str], Tensor] = {}
        for batch, own in zip(group, draws, strict=True):
            part, named = self._batch_gradients(batch, own, weight, batch.size / rows, progress)
            loss = loss + part
            for key, term in named.items():
                terms[key] = terms.get(key, 0.0) + term
        return Losses(loss, terms)

    def _batch_gradients(
        self, batch: Rows, draws: Draws, weight: float | Tensor, share: float, progress: float | Tensor
    ) -> Losses:
        inputs = transform(batch.to(self.device), self.modalities, draws)
        assert inputs.targets is not None
        assert inputs.weights is not None
        with GLOBAL_DRAWS:  # backward, too: a checkpointed layer draws again there
            with autocast(self.device, self.dtype):
                output = self.model(inputs, draws)
            loss, terms = total_loss(output, inputs.targets, inputs.weights, self.model.task, weight, share, progress)
            torch.autograd.backward(self.scaler.scale(loss))
        return Losses(loss.detach(), terms)

    def update(self) -> None:
        """Move the weights by the gradients, and forget these."""
        if self.options.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
