"""What torch.optim calls parameter groups, of the groups that a training asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mmreg import ParameterGroup
from mmreg.errors import OptionError


def param_group(group: ParameterGroup, lr: float, weight_decay: float) -> dict[str, Any]:
    """A group with its own learning rate and weight decay.

    Args:
        group: parameters that are treated alike.
        lr: the optimizer's learning rate.
        weight_decay: the optimizer's weight decay.
    """
    own = weight_decay if group.weight_decay is None else group.weight_decay
    return {"params": list(group.parameters), "lr": lr * group.lr, "weight_decay": own if group.decays else 0.0}


def param_groups_without_decay(groups: Sequence[ParameterGroup], lr: float) -> list[dict[str, Any]]:
    """Groups for an optimizer that has no weight decay: one for each learning rate, in order of appearance.

    Raises:
        OptionError: a group asks for weight decay of its own.
    """
    by_rate: dict[float, list[nn.Parameter]] = {}
    for group in groups:
        if group.weight_decay:
            raise OptionError(f"weight_decay {group.weight_decay} was asked for, but this optimizer has none")
        by_rate.setdefault(group.lr, []).extend(group.parameters)
    return [{"params": parameters, "lr": lr * rate} for rate, parameters in by_rate.items()]
