"""A balance's part in the steps of a training: what it sees of batches, and what it makes of their gradients."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mmreg.contract.balance import Balance, BalanceBatch, EncoderGradients
from mmreg.data.batches import Batch
from mmreg.model.model import MultimodalModel, Output
from mmreg.model.seeding import Draws
from mmreg.regions import region
from mmreg.training.peers import Part, Peers

MODULATE = "balance/modulate"
"""What the draws of `modulate` are keyed by; no input or operator has such a name."""


def balancing_of(model: MultimodalModel, peers: Peers) -> Balancing | None:
    """The balance of a model at work; None if it has none."""
    return None if model.balance is None else Balancing(model, model.balance, peers)


class Balancing:
    """The balance of a model in training.

    Args:
        model: that has one.
        balance: it.
        peers: the processes that train together: it sees the rows of all of them.
    """

    def __init__(self, model: MultimodalModel, balance: Balance, peers: Peers) -> None:
        self.model, self.balance, self.peers = model, balance, peers
        assert model.balanced is not None
        self.names = model.balanced.names
        self._sums: dict[str, Tensor] = {}
        self._own: dict[nn.Parameter, Tensor] = {}

    def begin(self) -> None:
        """A step begins."""
        self._sums, self._own = {}, {}

    def seen(self, output: Output, inputs: Batch, part: Part | None) -> Output:
        """What the model gave for a batch, or for a part of it, with the terms that the balance adds to the loss."""
        passed = output.balanced
        if not self.balance.observes:
            return output
        assert passed is not None
        assert inputs.targets is not None
        assert inputs.weights is not None
        targets, task = inputs.targets, self.model.task
        batch = BalanceBatch(
            passed.vectors,
            passed.logits,
            passed.present,
            targets,
            inputs.weights,
            self.model.prior,
            lambda scores: task.loss(scores, targets),
            lambda kept: self.model.joint(passed, kept),
        )
        with region("balance"):
            found = self.balance.observe(self.peers.whole(batch, task, part))
        for name, tensor in found.sums.items():
            self._sums[name] = self._sums[name] + tensor.detach() if name in self._sums else tensor.detach()
        return replace(
            output, losses={**output.losses, **{("balance", key): each for key, each in found.losses.items()}}
        )

    @staticmethod
    def own(output: Output) -> Output:
        """What the model gave, with nothing to compute a loss on but what the modalities say by themselves."""
        assert output.balanced is not None
        return replace(output, supervised=output.balanced.supervised, losses={})

    def before_backward(self, loss: Tensor) -> None:
        """Find the gradients of a batch's own losses (scaled as the whole loss is), before those of all its losses."""
        weights = [weight for name in self.names for weight in self._weights(name)]
        if not weights or not loss.requires_grad:
            return
        with region("backward"):
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        for weight, gradient in zip(weights, found, strict=True):
            if gradient is not None:
                self._own[weight] = self._own[weight] + gradient if weight in self._own else gradient

    @torch.no_grad()
    def modulate(self, draws: Draws) -> None:
        """Let the balance change the gradients of a step."""
        if not self.balance.modulates:
            return
        gradients = {}
        for name in self.names:
            weights = [weight for weight in self._weights(name) if weight.grad is not None]
            whole = [weight.grad for weight in weights if weight.grad is not None]
            own = [
                self.peers.total(self._own[weight] if weight in self._own else torch.zeros_like(weight))
                for weight in weights
                if self.balance.own_gradients
            ]
            gradients[name] = EncoderGradients(whole, own)
        draws.of_all().reseed(MODULATE)
        with region("balance"):
            self.balance.modulate(gradients, self._sums)

    def _weights(self, name: str) -> list[nn.Parameter]:
        return [weight for weight in self.model.encoder_of(name).parameters() if weight.requires_grad]
