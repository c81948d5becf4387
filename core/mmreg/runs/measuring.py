"""What is told of predictions: figures, and the columns that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.metrics import numbers
from mmreg.contract.task import Task
from mmreg.data.prepare import Prepared
from mmreg.data.table import Table
from mmreg.model.inference import Predicted
from mmreg.model.measures import Measures
from mmreg.recipe.resolve import Plan
from mmreg.runs.folder import write_predictions
from mmreg.runs.same_inputs import modality_texts


def evaluation(
    plan: Plan, task: Task, predicted: Predicted, targets: NDArray[Any], split: str, metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """The figures of some predictions, as plain data; see `Run.evaluate`."""
    chosen = [] if plan.metric is None else [plan.metric]  # by what the weights are chosen, they are told
    wanted = list(dict.fromkeys([*plan.metric_names, *chosen, *metrics]))
    measures = Measures(task, plan.metrics)
    true = torch.from_numpy(targets)
    result = measures.evaluate(predicted.scores, true, wanted)
    parts = {}
    for name, part in predicted.parts.items():
        rows = part.present
        figures = measures.evaluate(task.scores(part.scores)[rows], true[rows], wanted) if rows.any() else {}
        of_targets = {f"{target}.rows": each["rows"] for target, each in figures.get("targets", {}).items()}
        parts[name] = {"rows": int(rows.sum()), **of_targets, **numbers(figures)}
    result["modalities"] = parts
    figures = {"split": split, "rows": len(true), "metrics": result}
    missing = int((~predicted.present).sum())
    if missing:
        figures["rows_without_any_modality"] = missing
    return figures


def prediction_columns(
    plan: Plan,
    task: Task,
    table: Table,
    prepared: Mapping[str, Prepared],
    rows: NDArray[np.int64],
    predicted: Predicted,
    inputs: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[Any]]:
    """Predictions as named columns: the row's key, the task's columns, extras, and the modalities that it had.

    Args:
        plan: the recipe.
        task: what is predicted.
        table: the rows' table.
        prepared: the inputs' values.
        rows: (R,) which rows of them.
        predicted: the predictions of these rows.
        inputs: the names of the inputs by modality, where one may have several.
    """
    key, keys = row_keys(plan, table, rows)
    named = inputs or {name: [name] for name in prepared}
    present = np.stack([np.any([prepared[name].present[rows] for name in of], 0) for of in named.values()], 1)
    patterns, which = np.unique(present, axis=0, return_inverse=True)
    texts = modality_texts(named, patterns.tolist())
    had = [texts[number] for number in which.reshape(-1).tolist()]
    columns: dict[str, list[Any]] = task.predictions(predicted.scores)
    columns |= {name: values.tolist() for name, values in predicted.extras.items()}
    columns["modalities"] = had
    return with_keys(key, keys, columns)


def row_keys(plan: Plan, table: Table, rows: NDArray[np.int64]) -> tuple[str, list[Any]]:
    """What rows are called in predictions: the recipe's key, or "row" and their numbers from 1."""
    key = plan.recipe.form.key
    if key is None or key not in table.columns:
        return "row", (table.row_numbers[rows] + 1).tolist()
    return key, list(table.iter_values(key, rows))


def with_keys(key: str, keys: list[Any], columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns of predictions after that of the rows' keys, whose name none of theirs may hide."""
    taken = {*columns, "target", "scores"}  # the latter two are those of `write_predictions`
    return {f"{key}_key" if key in taken else key: keys, **columns}


def report_split(
    folder: Path,
    plan: Plan,
    task: Task,
    split: str,
    columns: Mapping[str, list[Any]],
    targets: list[Any],
    predicted: Predicted,
) -> dict[str, Any]:
    """Write a split's predictions and measure them."""
    write_predictions(folder, split, columns, targets if task.needs_target else None, predicted)
    return evaluation(plan, task, predicted, task.encode(targets), split)
