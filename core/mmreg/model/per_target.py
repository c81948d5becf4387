"""A model-level operator for several targets: one of it for each, on that target's scores.

Axes: B batch, N rows, K the scores of all targets, D features, M parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmreg.contract.fusion import ModelFusion
from mmreg.contract.signals import Fused
from mmreg.contract.task import Task


class PerTarget(ModelFusion):
    """Operators of one class, each of which combines the predictions for one target.

    Args:
        task: of several targets.
        operators: by target.
    """

    def __init__(self, task: Task, operators: Mapping[str, ModelFusion]) -> None:
        super().__init__()
        self.task, self.names = task, list(operators)
        self.operators = nn.ModuleList(operators.values())
        first = next(iter(operators.values()))
        # What the framework asks of an operator is what its class says.
        vars(self).update(uses_features=first.uses_features, fitted=first.fitted)

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """The targets' combined scores side by side; losses and extras have the target before their names."""
        combined = []
        losses: dict[str, Tensor] = {}
        extras: dict[str, Tensor] = {}
        for name, operator in zip(self.names, self.operators, strict=True):
            fused: Fused = operator(self._own(name, scores), present, features)
            combined.append(fused.scores)
            losses |= {f"{name}.{key}": loss for key, loss in fused.losses.items()}
            extras |= {f"{name}.{key}": each for key, each in fused.extras.items()}
        return Fused(torch.cat(combined, -1), losses, extras)

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Fit each operator on those of N held-out rows that have its target."""
        for name, operator in zip(self.names, self.operators, strict=True):
            assert isinstance(operator, ModelFusion)
            target = self.task.targets()[name]
            rows = target.has(targets)
            if rows.any():
                own = {part: target.known(each, targets) for part, each in scores.items()}
                known = next(iter(own.values()))[1]
                operator.fit({part: each for part, (each, _) in own.items()}, present[rows], known)

    def _own(self, name: str, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        target = self.task.targets()[name]
        return {part: target.scores(each) for part, each in scores.items()}

    def state(self) -> dict[str, Any]:
        """The operators' states by target."""
        states = {}
        for name, operator in zip(self.names, self.operators, strict=True):
            assert isinstance(operator, ModelFusion)
            states[name] = operator.state()
        return states if any(states.values()) else {}
