"""The rows that several runs predicted, and fitting an operator that combines their predictions on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmreg.contract.fusion import ModelFusion
from mmreg.contract.task import Task
from mmreg.errors import RunError
from mmreg.model.inference import Predicted
from mmreg.model.nodes import ModelNode, Part
from mmreg.runs.measuring import with_keys

MAX_ITERATIONS = 200


class CommonRows:
    """Rows of one split that all runs have: keys, targets, each part's scores, and which modalities they had."""

    def __init__(
        self,
        name: str,
        keys: list[Any],
        targets: list[Any],
        scores: Mapping[str, list[Any]],
        k: int,
        modalities: list[str],
    ) -> None:
        self.name, self.keys, self.targets, self.modalities = name, keys, targets, modalities
        self.present = torch.tensor([[row is not None for row in rows] for rows in scores.values()]).T
        zeros = [0.0] * k
        self.scores = {part: torch.tensor([row or zeros for row in rows]) for part, rows in scores.items()}

    def predict(self, fusion: ModelFusion, task: Task, prior: Tensor) -> tuple[Predicted, dict[str, list[Any]]]:
        """The combination's predictions, (K,) the prior where no part is there, and the columns that people read."""
        present = self.present.any(1)
        with torch.no_grad():
            fused = fusion(self.scores, self.present)
            scores = torch.where(present[:, None], fused.scores, prior.to(fused.scores.dtype))
        parts = {name: Part(self.scores[name], self.present[:, i]) for i, name in enumerate(self.scores)}
        predicted = Predicted(scores, present, parts, fused.extras)
        columns = {**task.predictions(scores), **{name: values.tolist() for name, values in fused.extras.items()}}
        return predicted, with_keys(self.name, self.keys, {**columns, "modalities": self.modalities})


def fit_operator(node: ModelNode, task: Task, rows: CommonRows | None) -> list[str]:
    """Fit what the operator has to learn on validation rows: by its own `fit`, or its parameters by the task's loss.

    Returns:
        What a person should know of the result.
    """
    fusion = node.fusion
    parameters = [parameter for parameter in fusion.parameters() if parameter.requires_grad]
    if not (fusion.fitted or parameters):
        return []
    if rows is None:
        raise RunError(f"{type(fusion).__name__} is fitted on validation rows, which not all of the runs have")
    targets = torch.from_numpy(task.encode(rows.targets))
    if fusion.fitted:
        fusion.fit(rows.scores, rows.present, targets)
    if parameters:
        _minimise(fusion, parameters, task, rows, targets)
    return node.fit_notes(targets, task)


def fit_task(fusion: ModelFusion, task: Task, prior: Tensor, rows: CommonRows | None) -> list[str]:
    """Let the task learn what the combination's scores tell, from rows that no run learned from.

    Returns:
        What a person should know of the result.
    """
    if not task.learns_from_scores:
        return []
    if rows is None:
        return ["what the task learns of a finished model's scores is not known: not all runs have validation rows"]
    predicted, _ = rows.predict(fusion, task, prior)
    targets = torch.from_numpy(task.encode(rows.targets))
    task.fit_scores(predicted.scores[predicted.present], targets[predicted.present])
    return []


def _minimise(
    fusion: ModelFusion, parameters: list[nn.Parameter], task: Task, rows: CommonRows, targets: Tensor
) -> None:
    """Set an operator's parameters to those of least loss."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")
    present = rows.present.any(1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.loss(fusion(rows.scores, rows.present).scores, targets)[present].mean()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
