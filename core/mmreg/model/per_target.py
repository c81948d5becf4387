"""A model-level operator for several targets: one of it for each, on that target's scores.

Axes: B batch, N rows, K the scores of all targets, D features, M parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        targets = self.task.targets()
        for name, operator in self._named():
            own = {part: targets[name].scores(each) for part, each in scores.items()}
            fused: Fused = operator(own, present, features)
            combined.append(fused.scores)
            losses |= {f"{name}.{key}": loss for key, loss in fused.losses.items()}
            extras |= {f"{name}.{key}": each for key, each in fused.extras.items()}
        return Fused(torch.cat(combined, -1), losses, extras)

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Fit each operator on those of N held-out rows that have its target."""
        views = self.task.targets()
        for name, operator in self._named():
            rows = views[name].has(targets)
            if rows.any():
                own = {part: views[name].scores(each)[rows.to(each.device)] for part, each in scores.items()}
                operator.fit(own, present[rows], views[name].own(targets))

    def state(self) -> dict[str, Any]:
        """The operators' states by target."""
        states = {name: operator.state() for name, operator in self._named()}
        return states if any(states.values()) else {}

    def _named(self) -> Iterator[tuple[str, ModelFusion]]:
        """The operators by target."""
        for name, operator in zip(self.names, self.operators, strict=True):
            assert isinstance(operator, ModelFusion)
            yield name, operator
