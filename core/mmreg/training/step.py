"""One optimizer step: transform, model, losses, backward and optimizer, with nothing that waits for a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreg.contract.interfaces import Modality
from mmreg.data.batches import Batch, Rows
from mmreg.layers import GLOBAL_DRAWS
from mmreg.model.devices import autocast
from mmreg.model.inference import transform
from mmreg.model.model import MultimodalModel, Output
from mmreg.model.seeding import Draws, derive
from mmreg.recipe.training_form import Training
from mmreg.regions import region
from mmreg.training.balancing import balancing_of
from mmreg.training.losses import total_loss
from mmreg.training.mixing import Mixing
from mmreg.training.nonfinite import StepGuard
from mmreg.training.peers import Part, Peers


@dataclass(frozen=True)
class Losses:
    """What a step came to, still on the device.

    Attributes:
        values: (1 + n,), the loss and then its terms: one tensor, so that keeping them is one call.
        names: of the terms, by part and name.
    """

    values: Tensor
    names: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, loss: Tensor, terms: Mapping[tuple[str, str], Tensor]) -> Losses:
        """A loss () and its terms ()."""
        return cls(torch.stack([loss, *(term.to(loss.dtype) for term in terms.values())]), tuple(terms))

    @property
    def loss(self) -> Tensor:
        """(), what the weights move by."""
        return self.values[0]

    def plus(self, other: Losses) -> Losses:
        """Those of two batches together."""
        if self.names == other.names:
            return Losses(self.values + other.values, self.names)
        both = dict(zip(self.names, self.values[1:], strict=True))
        for name, term in zip(other.names, other.values[1:], strict=True):
            both[name] = both[name] + term if name in both else term
        return Losses.of(self.loss + other.loss, both)


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
        peers: the processes that train together.
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
        peers: Peers | None = None,
    ) -> None:
        self.peers = peers or Peers()
        self.forward: Callable[..., Output] = model
        self.model, self.modalities, self.optimizer = model, modalities, optimizer
        self.options, self.steps, self.device, self.dtype = options, steps, device, dtype
        self.on_gradients = on_gradients
        self.balancing = balancing_of(model, self.peers)
        self.mixing = Mixing(options, modalities) if options.mixup or options.cutmix else None
        self.scaler = torch.amp.grad_scaler.GradScaler(device.type, enabled=dtype == torch.float16)
        skips, scaled = options.on_nonfinite == "skip", self.scaler.is_enabled()
        self.guard = StepGuard(model, optimizer, skips=skips, scaled=scaled, device=device)

    def __call__(
        self, group: Sequence[Rows], number: int, weight: float, parts: Sequence[Part] | None = None
    ) -> Losses:
        """Move the weights once.

        Args:
            group: batches whose gradients are added up.
            number: how many steps there were before.
            weight: of all rows of the group together, those of other processes included.
            parts: what part of each batch is this process's; None where it trains alone.
        """
        draws = [Draws(self.seed(number, index), self.peers.rank) for index in range(len(group))]
        losses = self.gradients(group, draws, weight or 1.0, number / self.steps, parts)
        self.update(losses.loss, number)
        return losses

    def seed(self, number: int, index: int) -> int:
        """What the random draws of a batch are keyed by: the one of this index in the group of this step."""
        return derive(self.options.seed, "step", number, index)

    def gradients(
        self,
        group: Sequence[Rows],
        draws: Sequence[Draws],
        weight: float | Tensor,
        progress: float | Tensor,
        parts: Sequence[Part] | None = None,
    ) -> Losses:
        """Add up the gradients of a group's losses.

        Args:
            group: the batches.
            draws: for each batch.
            weight: of all their rows together, above 0; a tensor () where the step is recorded.
            progress: the part of the training that is done; likewise.
            parts: see `__call__`.
        """
        rows = sum(batch.size for batch in group) if parts is None else sum(part.rows for part in parts)
        self.guard.begin()
        if self.balancing is not None:
            self.balancing.begin()
        losses: Losses | None = None
        for index, (batch, own) in enumerate(zip(group, draws, strict=True)):
            part = None if parts is None else parts[index]
            share = (batch.size if part is None else part.own) / rows
            with self.peers.adding_up(self.forward, index == len(group) - 1):
                found = self._batch_gradients(batch, own, weight, share, progress, part)
            losses = found if losses is None else losses.plus(found)
        assert losses is not None
        self.peers.added_up()
        losses = Losses(self.peers.total(losses.values), losses.names)
        if self.balancing is not None:
            with GLOBAL_DRAWS:
                self.balancing.modulate(draws[-1])
        return losses

    def _batch_gradients(
        self,
        batch: Rows,
        draws: Draws,
        weight: float | Tensor,
        share: float,
        progress: float | Tensor,
        part: Part | None,
    ) -> Losses:
        with region("copies"):
            here = batch.to(self.device)
        inputs = transform(here, self.modalities, draws)
        assert inputs.targets is not None
        assert inputs.weights is not None
        host = batch.present if isinstance(batch, Batch) else None
        mixed = None if self.mixing is None else self.mixing(inputs, host, draws)
        scale = (weight, share, progress, self.peers.among(self.model.task, part))
        given = inputs if mixed is None else mixed.batch
        # In both of these backward, too: a checkpointed layer draws and normalises again there.
        with GLOBAL_DRAWS, self.peers.own_statistics(self.model, given, part):
            with autocast(self.device, self.dtype):
                output = self.forward(given, draws)
                if self.balancing is not None:
                    output = self.balancing.seen(output, inputs, part)

            def loss_of(given: Output) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
                if mixed is not None:
                    return mixed.loss(given, self.model.task, *scale)
                assert inputs.targets is not None
                assert inputs.weights is not None
                return total_loss(given, inputs.targets, inputs.weights, self.model.task, *scale)

            with region("loss"):
                loss, terms = loss_of(output)
                loss = self.peers.with_idle(loss)
            if self.balancing is not None and self.balancing.balance.own_gradients:
                self.balancing.before_backward(self.scaler.scale(loss_of(self.balancing.own(output))[0]))
            with region("backward"):
                torch.autograd.backward(self.scaler.scale(loss))
        return Losses.of(loss.detach(), terms)

    def update(self, loss: Tensor, number: int) -> None:
        """Move the weights by the gradients of a loss, and forget these.

        Args:
            loss: () the step's.
            number: how many steps there were before.
        """
        if self.options.gradient_clip is not None or self.on_gradients is not None:
            self.scaler.unscale_(self.optimizer)
        if self.on_gradients is not None:
            self.on_gradients(number + 1)
        with region("optimizer"):
            if self.options.gradient_clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
            if self.guard.admits(loss):
                self.scaler.step(self.optimizer)
                self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
