"""Training by several processes, each of which keeps a share of weights, gradients and the optimizer's state.

By torch's FSDP2 (`fully_shard`): before a part of the model computes, forward or backward, its weights are gathered,
and given up after it. A whole state is gathered where one is kept, in the form of that of any other training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.nn.utils import parametrize
from torch.utils._pytree import register_dataclass

from mmreg.contract.fusion import FeatureFusion
from mmreg.contract.interfaces import Encoder
from mmreg.contract.optimization import ParameterGroup
from mmreg.model.balanced import BalancedPass
from mmreg.model.inference import Predicted
from mmreg.model.model import MultimodalModel, Output
from mmreg.model.nodes import Supervised
from mmreg.training.shared_norms import share_statistics
from mmreg.training.together import _Joined

BLOCK = 1 << 20
"""How many weights a layer of an encoder has at least, to be gathered apart from the others."""
COUNTERS = frozenset({"step", "mu_product", "eta", "mu"})
"""What torch's optimizers keep of a weight that is one number whatever the weight's shape."""

for _cls in (Output, Supervised, BalancedPass):  # in which FSDP looks for what gradients come back to
    register_dataclass(_cls)


class Sharded(_Joined):
    """Several processes that train together, each with a share of all weights.

    Args:
        device: this process's.
    """

    shards = True

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._mesh = init_device_mesh(device.type, (self.size,))
        self._copies: list[MultimodalModel] = []
        self._plain: dict[str, str] = {}  # of single numbers, whose names are others in a copy
        self._single: set[nn.Parameter] = set()

    def place(self, device: torch.device) -> torch.device:
        """In host memory, from where each process takes its share."""
        return torch.device("cpu")

    def trained(
        self, model: MultimodalModel, groups: Sequence[ParameterGroup]
    ) -> tuple[MultimodalModel, list[ParameterGroup]]:
        """A copy of it, of which this process has a share."""
        sharded = self.copied(model)
        own = {self._plain.get(name, name): weight for name, weight in sharded.named_parameters()}
        counterpart = {weight: own[name] for name, weight in model.named_parameters()}
        return sharded, [replace(each, parameters=[counterpart[one] for one in each.parameters]) for each in groups]

    def copied(self, model: MultimodalModel) -> MultimodalModel:
        """A copy of which this process has a share."""
        sharded = copy.deepcopy(model)
        for prefix, module in list(sharded.named_modules(remove_duplicate=False)):
            dot = f"{prefix}." if prefix else ""
            for name, weight in list(module.named_parameters(recurse=False)):
                weight.data = weight.data.contiguous()  # FSDP takes no other order, such as channels_last
                if not weight.dim():  # FSDP has no share of a single number: it becomes a vector
                    parametrize.register_parametrization(module, name, _Single())
            for name, steps in dict(getattr(module, "parametrizations", {})).items():
                if isinstance(steps[0], _Single):
                    self._plain[f"{dot}parametrizations.{name}.original"] = dot + name
        for part in (*_parts(sharded), sharded):
            fully_shard(part, mesh=self._mesh)
            assert isinstance(part, FSDPModule)
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            part.set_gradient_divide_factor(1.0)  # as losses are divided by the weight of all rows already
        sharded.to(self._device)  # what no process has a share of
        self._single |= {weight for name, weight in sharded.named_parameters() if name in self._plain}
        self._copies.append(sharded)
        return sharded

    def forward(self, model: nn.Module) -> Callable[..., Any]:
        """The model itself, which adds up gradients."""
        self._undo()
        self._model, self._undo = model, share_statistics(model, self._rows)
        return model

    def adding_up(self, forward: Callable[..., Any], last: bool) -> AbstractContextManager[object]:
        """As `Peers.adding_up`."""
        cast(FSDPModule, forward).set_requires_gradient_sync(last)
        return nullcontext()

    def added_up(self) -> None:
        """Nothing: they are, and what has no gradient waits for none."""

    def batches_of(
        self, rows: int, batch_size: int, order: Sequence[NDArray[np.int64]] | None
    ) -> Sequence[NDArray[np.int64]] | None:
        """All of them, as each takes the weights of all processes."""
        return order

    def predicted(self, own: Predicted, order: Sequence[NDArray[np.int64]] | None) -> Predicted:
        """Those of this process, which has predicted all rows."""
        return own

    def settle(self) -> None:
        """Give up what was gathered of others."""
        for model in self._copies:
            _give_up(model)

    def whole_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gathered, tensor by tensor."""
        whole = {}
        for name, weight in weights.items():
            plain = self._plain.get(name, name)
            whole[plain] = self._whole(weight, single=plain != name)
        return whole

    def own_weights(self, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its shares of them."""
        renamed = {plain: name for name, plain in self._plain.items()}
        own = model.state_dict()
        found = {renamed.get(name, name): weight for name, weight in weights.items()}
        return {name: _share(weight, own[name]) if name in own else weight for name, weight in found.items()}

    def whole_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Gathered, tensor by tensor."""
        state = optimizer.state_dict()
        parts = {}
        for index, weight in enumerate(_weights(optimizer)):
            if index in state["state"]:
                found, single = state["state"][index], weight in self._single
                parts[index] = {key: self._whole(each, single=single) for key, each in found.items()}
        return {**state, "state": parts}

    def own_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its shares of it."""
        weights = _weights(optimizer)
        parts = {
            index: {
                key: _share(each, weights[index]) if isinstance(each, Tensor) and key not in COUNTERS else each
                for key, each in found.items()
            }
            for index, found in state["state"].items()
        }
        return {**state, "state": parts}

    def _whole(self, value: Any, *, single: bool) -> Any:
        """What all processes have of a tensor, in host memory; nothing of use but for the first of them."""
        if not isinstance(value, DTensor):
            return value
        whole = cast(DTensor, value.detach()).full_tensor()
        if not self.leads:
            return whole.new_empty(0)
        return (whole.reshape(()) if single else whole).cpu()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block with all weights on this process's device."""
        parts = _all(self._model)[1:]  # the first one is the model
        with super().alone():
            for part in _all(self._model):
                part.unshard()
            for part in parts:
                part.set_reshard_after_forward(False, recurse=False)
            try:
                yield
            finally:
                for part in parts:
                    part.set_reshard_after_forward(True, recurse=False)
                _give_up(self._model)

    def whole_model(self, trained: MultimodalModel, model: MultimodalModel, device: torch.device) -> MultimodalModel:
        """The model in host memory, with the weights that all processes have."""
        weights = self.whole_weights(trained.state_dict())
        self._copies, self._single = [], set()
        if not self.leads:
            return trained
        model.load_state_dict(weights)
        return model.to(device)


class _Single(nn.Module):
    """A number () of a vector (1,)."""

    def forward(self, value: Tensor) -> Tensor:
        """The number."""
        return value.reshape(())

    def right_inverse(self, value: Tensor) -> Tensor:
        """The vector."""
        return value.reshape(1)


def _parts(model: MultimodalModel) -> Iterator[nn.Module]:
    """What is gathered by itself, inner before outer; the rest is, with the model.

    These are what is called as a module and nowhere else looked into: encoders, large layers of them, and feature-level
    operators.
    """
    for component in model.components().values():
        if isinstance(component, Encoder):
            yield from _blocks(component)
        if isinstance(component, Encoder | FeatureFusion) and next(component.parameters(), None) is not None:
            yield component


def _blocks(encoder: Encoder) -> Iterator[nn.Module]:
    """The large ones of the layers that an encoder runs one after the other."""
    lists = [each for each in encoder.modules() if isinstance(each, nn.ModuleList | nn.Sequential)]
    layers = {layer for each in lists for layer in each.children()}
    for stage in encoder.stages():
        for part in stage.children() if isinstance(stage, nn.ModuleList | nn.Sequential) else [stage]:
            if part in layers and sum(weight.numel() for weight in part.parameters()) >= BLOCK:
                yield part


def _all(model: nn.Module | None) -> list[FSDPModule]:
    return [] if model is None else [each for each in model.modules() if isinstance(each, FSDPModule)]


def _give_up(model: nn.Module | None) -> None:
    """Keep of a model's weights no more than this process's share."""
    for part in _all(model):
        part.reshard()


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """In the order of the optimizer's state."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _share(whole: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor, as it has one of another; of one of another shape it has all."""
    if not isinstance(like, DTensor):
        return whole
    if whole.numel() == 1 == like.numel():
        whole = whole.reshape(like.shape)
    placements = like.placements if whole.shape == like.shape else [Replicate()]
    # A copy, as what has no memory of its own would keep all of the whole one's.
    return distribute_tensor(whole, like.device_mesh, placements, src_data_rank=None).clone()
