"""What is fitted after the model was trained: operators, on held-out rows, and what a task learns of its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.task import Task
from mmreg.data.prepared import Prepared
from mmreg.errors import RunError
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import FusionNode, ModelNode
from mmreg.run_files.facts import WEIGHTS, run_file
from mmreg.run_files.weights import read_weights
from mmreg.runs import Run


def fit_fusions(
    run: Run,
    values: Mapping[str, Prepared],
    rows: NDArray[np.int64],
    targets: NDArray[Any],
    task: Task,
    note: Callable[[str], None],
) -> None:
    """Fit the operators that are fitted on held-out rows, those below before those above.

    Args:
        run: its model, which is changed.
        values: of the modalities.
        rows: the held-out ones.
        targets: of all rows, as the task encodes them.
        task: fitted.
        note: told what a person should know.
    """
    for node in _model_nodes(run.model):
        if node.fusion.fitted:
            predicted = run.predict_rows(values, rows)
            parts = {name: predicted.parts[name] for name in node.part_names}
            present = torch.stack([part.present for part in parts.values()], 1)
            true = torch.from_numpy(targets[rows])
            node.fusion.cpu().fit({name: part.scores for name, part in parts.items()}, present, true)
            node.fusion.to(run.device)
            for text in node.fit_notes(true, task):
                note(text)
    for name in _fitted_too_late(run.model.root):
        note(
            f"{name} was fitted after what is above it had learned from its unfitted scores, which may cost "
            "accuracy: an operator that is fitted belongs on top"
        )


def take_fitted(model: MultimodalModel, folder: Path) -> None:
    """Give operators that are fitted on held-out rows what they were fitted to in an earlier run.

    Args:
        model: of the same recipe, but for how it is trained.
        folder: the run's.

    Raises:
        RunError: the run has no such operators, or its weights are damaged.
    """
    weights = read_weights(run_file(folder, WEIGHTS))
    for path, node in model.named_modules():
        if isinstance(node, ModelNode) and node.fusion.fitted:
            start = f"{path}.fusion."
            found = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
            own = node.fusion.state_dict()
            if {name: value.shape for name, value in found.items()} != {name: own[name].shape for name in own}:
                raise RunError(
                    f"what {node.name} was fitted to in the run {folder} does not fit: it is another operator"
                )
            node.fusion.load_state_dict(found)


def hold_fitted(model: MultimodalModel) -> list[str]:
    """Keep a training from changing the operators that are fitted on held-out rows; their names."""
    fitted = [node for node in _model_nodes(model) if node.fusion.fitted]
    for node in fitted:
        node.fusion.requires_grad_(False)
    return [node.name for node in fitted]


def fit_task(run: Run, values: Mapping[str, Prepared], rows: NDArray[np.int64], targets: NDArray[Any]) -> None:
    """Let the task learn what the finished model's scores tell.

    Args:
        run: its task, which is changed.
        values: of the modalities.
        rows: the training rows.
        targets: of all rows, as the task encodes them.
    """
    if run.task.learns_from_scores:
        predicted = run.predict_rows(values, rows)
        known = torch.from_numpy(targets[rows])
        run.task.fit_scores(predicted.scores[predicted.present], known[predicted.present])


def _model_nodes(model: MultimodalModel) -> list[ModelNode]:
    """The model-level operators, those below before those above."""
    nodes = [module for module in model.modules() if isinstance(module, ModelNode)]
    return nodes[::-1]


def _fitted_too_late(node: FusionNode | None, learned_from: bool = False) -> Iterator[str]:
    """The operators that are fitted, but stand below layers that are trained."""
    if node is None:
        return
    if isinstance(node, ModelNode) and node.fusion.fitted and learned_from:
        yield node.name
    for part in node.nodes.children():
        assert isinstance(part, FusionNode)
        yield from _fitted_too_late(part, learned_from or node.learns_from(part.name))
