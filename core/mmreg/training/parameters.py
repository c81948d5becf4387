"""The parameters that a training moves: in groups that are treated alike, and frozen for as long as the recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from mmreg.contract.interfaces import Encoder
from mmreg.contract.optimization import ParameterGroup
from mmreg.model.model import MultimodalModel
from mmreg.recipe.components import TrainedWeights
from mmreg.recipe.resolve import Plan


def trained_weights(plan: Plan) -> dict[str, TrainedWeights]:
    """How the weights of each component are trained, by role."""
    encoders = {f"encoder/{name}": given.encoder.weights for name, given in plan.inputs.items() if not given.shares}
    nodes = plan.fusion.nodes() if plan.fusion else ()
    return {**encoders, **{f"fusion/{node.name}": node.fusion.weights for node in nodes}}


def parameter_groups(model: MultimodalModel, settings: Mapping[str, TrainedWeights]) -> list[ParameterGroup]:
    """The parameters that are trained; first those that are trained as the optimizer's options say.

    Args:
        model: whose parameters.
        settings: as `trained_weights` gives them.
    """
    usual = TrainedWeights()
    own: dict[nn.Parameter, TrainedWeights] = {}
    for role, module in model.components().items():
        setting = settings.get(role, usual)
        own |= dict.fromkeys(module.parameters(), setting)
        stages = module.stages() if isinstance(module, Encoder) else ()
        for number, stage in enumerate(stages):
            staged = replace(
                setting,
                lr=setting.lr * setting.layer_decay ** (len(stages) - number),
                frozen_epochs=None if number < setting.frozen_stages else setting.frozen_epochs,
            )
            own |= dict.fromkeys(stage.parameters(), staged)
    by_setting: dict[tuple[float, float | None], list[nn.Parameter]] = {(usual.lr, usual.weight_decay): []}
    for parameter in model.parameters():
        setting = own.get(parameter, usual)
        if parameter.requires_grad and setting.frozen_epochs is not None:
            by_setting.setdefault((setting.lr, setting.weight_decay), []).append(parameter)
    groups = []
    for (lr, decay), parameters in by_setting.items():
        groups.append(ParameterGroup([p for p in parameters if p.ndim > 1], True, lr, decay))
        groups.append(ParameterGroup([p for p in parameters if p.ndim <= 1], False, lr, decay))
    return [group for group in groups if group.parameters]


def count_trained(model: MultimodalModel, plan: Plan, part: nn.Module | None = None) -> int:
    """How many numbers a training moves, of a whole model or of a part of it; those that stay frozen do not count."""
    groups = parameter_groups(model, trained_weights(plan))
    own = None if part is None else set(part.parameters())
    trained = (parameter for group in groups for parameter in group.parameters)
    return sum(parameter.numel() for parameter in trained if own is None or parameter in own)


class Freezing:
    """Keeps weights as they are for as long as the recipe says.

    Args:
        model: whose weights.
        settings: as `trained_weights` gives them.
    """

    def __init__(self, model: MultimodalModel, settings: Mapping[str, TrainedWeights]) -> None:
        self._frozen = []
        for role, module in model.components().items():
            setting = settings.get(role, TrainedWeights())
            frozen: list[tuple[nn.Module, int | None]] = []
            if setting.frozen_epochs != 0:
                frozen.append((module, setting.frozen_epochs))
            if isinstance(module, Encoder):
                frozen += [(stage, None) for stage in module.stages()[: setting.frozen_stages]]
            self._frozen += [
                (part, epochs, [p for p in part.parameters() if p.requires_grad]) for part, epochs in frozen
            ]

    def begin(self, epochs: int) -> None:
        """Freeze and thaw for the epoch that comes after so many; frozen modules compute as they do in use."""
        for module, frozen_epochs, parameters in self._frozen:
            frozen = frozen_epochs is None or epochs < frozen_epochs
            module.train(not frozen)
            for parameter in parameters:
                parameter.requires_grad_(not frozen)

    def end(self) -> None:
        """Leave the parameters as they were."""
        for _, _, parameters in self._frozen:
            for parameter in parameters:
                parameter.requires_grad_()
