"""One optimizer step: transform, model, losses, backward and optimizer, with nothing that waits for a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from mmreg.training.losses import total_loss
from mmreg.training.mixing import Mixing


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
        on_gradients: told the number of a step, from 1, when its gradients are there; None if nobody follows it.
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
        on_gradients: Callable[[int], None] | None = None,
    ) -> None:
        self.model, self.modalities, self.optimizer = model, modalities, optimizer
        self.options, self.steps, self.device, self.dtype = options, steps, device, dtype
        self.on_gradients = on_gradients
        self.mixing = Mixing(options, modalities) if options.mixup or options.cutmix else None
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
        if options.gradient_clip is not None or self.on_gradients is not None:
            self.scaler.unscale_(self.optimizer)
        if self.on_gradients is not None:
            self.on_gradients(number + 1)
        if options.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), options.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return Losses(loss, terms)

    def _gradients(self, batch: Batch, seed: int, total_weight: float, share: float, progress: float) -> Losses:
        """Add up the gradients of one batch."""
        inputs = transform(batch.to(self.device), self.modalities, seed)
        assert inputs.targets is not None
        assert inputs.weights is not None
        mixed = None if self.mixing is None else self.mixing(inputs, batch.present, seed)
        scale = (total_weight, share, progress)
        with GLOBAL_DRAWS:  # backward, too: a checkpointed layer draws again there
            with autocast(self.device, self.dtype):
                output = self.model(inputs if mixed is None else mixed.batch, seed)
            if mixed is None:
                loss, terms = total_loss(output, inputs.targets, inputs.weights, self.model.task, *scale)
            else:
                loss, terms = mixed.loss(output, self.model.task, *scale)
            torch.autograd.backward(self.scaler.scale(loss))
        return Losses(loss.detach(), terms)


def weight_of(batch: Batch) -> float:
    """The weight of a batch's rows together."""
    assert batch.weights is not None
    return float(batch.weights.sum())
