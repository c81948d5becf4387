"""Muon for matrices and AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from torch import nn

from mmreg import Optimizer, ParameterGroup
from mmreg_optim.groups import param_group
from mmreg_optim.options import Betas, Doc, Epsilon, LearningRate, Momentum, NotNegative, WeightDecay, options


class MuonAndAdamW(torch.optim.Optimizer):
    """Steps some groups by Muon and the others by AdamW; rates, gradients and state are those of any optimizer.

    Args:
        param_groups: in order; those with a "momentum" are Muon's.
        muon: the other options of Muon.
        adamw: the other options of AdamW.
    """

    def __init__(self, param_groups: list[dict[str, Any]], muon: dict[str, Any], adamw: dict[str, Any]) -> None:
        matrices = [group for group in param_groups if "momentum" in group]
        others = [group for group in param_groups if "momentum" not in group]
        self.muon = torch.optim.Muon(matrices, **muon) if matrices else None
        self.adamw = torch.optim.AdamW(others, **adamw) if others else None
        super().__init__(param_groups, {"lr": muon["lr"]})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both; the loss, if a closure gives it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in (self.muon, self.adamw):
            if part is not None:
                # Anew every time, as loading a state puts other objects in their place.
                is_muon = part is self.muon
                part.param_groups = [group for group in self.param_groups if ("momentum" in group) == is_muon]
                part.state = self.state
                part.step()  # type: ignore[no-untyped-call]  # torch leaves Muon's unannotated
        return loss


@options
class Muon(Optimizer):
    """Matrices by orthogonal steps with momentum (Jordan et al. 2024), all else by AdamW.

    As torch.optim.Muon, it takes for a matrix what has two axes, embeddings included; convolutions, biases and norms
    are AdamW's.
    """

    lr: Annotated[NotNegative, Doc("the learning rate of matrices.")] = 0.001
    weight_decay: Annotated[NotNegative, Doc("the weight decay of matrices.")] = 0.1
    momentum: Momentum = 0.95
    nesterov: Annotated[bool, Doc("whether to look ahead.")] = True
    ns_coefficients: Annotated[
        tuple[float, float, float], Doc("the polynomial of the Newton-Schulz iteration that makes a step orthogonal.")
    ] = (3.4445, -4.775, 2.0315)
    eps: Epsilon = 1e-7
    ns_steps: Annotated[int, Ge(1), Lt(100), Doc("how many such iterations.")] = 5
    adjust_lr_fn: Annotated[
        Literal["original", "match_rms_adamw"] | None,
        Doc(
            "how the rate follows a matrix's shape: by the root of rows / columns where that is above one, or so that "
            "steps are as long as AdamW's; null: original."
        ),
    ] = None
    adamw_lr: LearningRate = 0.001
    adamw_betas: Betas = (0.9, 0.999)
    adamw_eps: Epsilon = 1e-8
    adamw_weight_decay: WeightDecay = 0.01

    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """See `Optimizer`; a group with matrices and others becomes two, the matrices first."""
        given = vars(self)
        adamw = {name.removeprefix("adamw_"): value for name, value in given.items() if name.startswith("adamw_")}
        muon = {name: value for name, value in given.items() if not name.startswith("adamw_")}
        param_groups = []
        for group in groups:
            for part in _by_shape(group):
                if _is_matrix(part.parameters[0]):
                    matrices = param_group(part, self.lr, self.weight_decay)
                    param_groups.append({**matrices, "momentum": self.momentum})
                else:
                    param_groups.append(param_group(part, self.adamw_lr, self.adamw_weight_decay))
        return MuonAndAdamW(param_groups, muon, adamw)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2


def _by_shape(group: ParameterGroup) -> list[ParameterGroup]:
    """A group's matrices and its other parameters, as far as there are any."""
    matrices = [parameter for parameter in group.parameters if _is_matrix(parameter)]
    others = [parameter for parameter in group.parameters if not _is_matrix(parameter)]
    return [replace(group, parameters=parameters) for parameters in (matrices, others) if parameters]
