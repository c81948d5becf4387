"""`mmreg validate`: whether a recipe is right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mmreg.console import Debug, Device, Precision, RecipeArgument, Seed, Set, note, print_table, recipe_overrides

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmreg.data.table import Table
    from mmreg.experiment import Experiment

FILES = 1000
"""Files of a column that are looked for."""
SEPARATORS = ("|", ";", ",")
"""What may stand between several files in one cell."""


def validate(
    recipe: RecipeArgument,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = None,
    debug: Debug = False,
) -> None:
    """Check a recipe and its table, and show shapes and sizes; decodes no file and trains nothing.

    Example: mmreg validate recipe.yaml --set training.epochs=3
    """
    from mmreg.data.lookalikes import notes
    from mmreg.recipe.columns import read_columns
    from mmreg.recipe.recipe import read_recipe
    from mmreg.training.checking import checked_experiment

    experiment = checked_experiment(read_recipe(recipe, recipe_overrides(set_, precision, seed)), device)
    for text in [*experiment.messages, *missing_files(experiment)]:
        note(text)
    for text in notes(experiment.table, read_columns(experiment.plan.recipe)):
        note(text)
    print_model(experiment)
    print(f"\n{recipe} is right: nothing was decoded or trained")


def missing_files(experiment: Experiment) -> list[str]:
    """A line for every column that names files which are not there, as far as a sample of its rows tells."""
    import numpy as np

    from mmreg.data.cells import iter_paths
    from mmreg.experiment import list_inputs
    from mmreg.messages import shown_address

    lists, warnings = list_inputs(experiment.plan, experiment.table), []
    used = np.sort(np.concatenate(list(experiment.splits.values())))
    rows = used[np.linspace(0, len(used) - 1, min(FILES, len(used))).astype(np.int64)]
    for name, modality in experiment.plan.inputs.items():
        table, own = experiment.table, rows
        if name in lists:
            table, own = lists[name].values, lists[name].places(rows)[:FILES]
        for column in modality.columns if modality.modality.cls.paths else ():
            paths = list(iter_paths(table, column, own))
            lists_unread = 0 if name in lists else _arrow_lists(table, column, own)
            if lists_unread:
                warnings.append(f"{name}: {lists_unread:,} of {len(own):,} cells looked at hold lists; set many: mean")
            missing = [at for at, path in enumerate(paths) if path is not None and not os.path.exists(path)]  # noqa: PTH110 (texts)
            if missing:
                first, file = own[missing[0]], shown_address(str(paths[missing[0]]))
                files = sum(path is not None for path in paths)
                warnings.append(
                    f"{name}: {len(missing):,} of {files:,} files looked at are missing (first: {table.where(first)}, "
                    f"column {column}: {file}){_several(table, column, first, name in lists)}"
                )
    return warnings


def _arrow_lists(table: Table, column: str, rows: NDArray[np.int64]) -> int:
    """How many cells of some rows are lists."""
    from mmreg.data.hashing import is_any_list

    cells = table.column(column)
    return len(rows) - cells.take(rows).null_count if is_any_list(cells.type) else 0


def _several(table: Table, column: str, row: int, takes_lists: bool) -> str:
    """What to set where a cell names several files, and the recipe reads one; empty where it does not."""
    from mmreg.data.list_cells import json_list

    (text,) = table.column(column).slice(row, 1).to_pylist()
    if not isinstance(text, str):
        return ""
    many = "" if takes_lists else "many: mean"
    if json_list(text):
        return "" if takes_lists else f"; the cell is a list: set {many}"
    folder = table.folders(slice(row, row + 1))[0]
    for separator in SEPARATORS:
        parts = [part.strip() for part in text.split(separator)]
        if len(parts) > 1 and all(os.path.exists(os.path.join(folder, part)) for part in parts if part):  # noqa: PTH110, PTH118 (texts)
            settings = ", ".join(filter(None, (many, f'separator: "{separator}"')))
            return f"; the cell names several files: set {settings}"
    return ""


def print_model(experiment: Experiment) -> None:
    """Rows, shapes and parameters of an experiment."""
    from mmreg.contract.spec import specs_text
    from mmreg.layers import trainable_parameters
    from mmreg.training.parameters import count_trained

    model = experiment.build_model()
    rows = ", ".join(f"{len(numbers)} {split}" for split, numbers in experiment.splits.items())
    task = f"task {experiment.plan.task.name}, {experiment.task.num_outputs} outputs"
    print(f"{experiment.table.name}: {rows} rows; {task}\n")
    table = []
    for name, modality in experiment.plan.inputs.items():
        encoder = model.encoder_of(name)
        shared = f" of {modality.shares}" if modality.shares else ""
        frozen = " (frozen)" if modality.encoder.weights.frozen_epochs is None else ""
        table.append(
            {
                "part": name,
                "component": f"{modality.modality.name} -> {modality.encoder.name}{shared}{frozen}",
                "input": specs_text(experiment.specs[name]),
                "output": f"{encoder.out_features} features",
                "parameters": 0 if shared or frozen else trainable_parameters(encoder),
            }
        )
    for node in experiment.plan.fusion.nodes() if experiment.plan.fusion else ():
        module = next(m for m in model.modules() if getattr(m, "name", None) == node.name)
        parts = " + ".join(part if isinstance(part, str) else part.name for part in node.of)
        size = getattr(module.fusion, "out_features", None)
        table.append(
            {
                "part": node.name,
                "component": f"{node.fusion.name} ({node.level} level)",
                "input": parts,
                "output": f"{size} features" if size else f"{experiment.task.num_outputs} scores",
                "parameters": trainable_parameters(module.get_submodule("fusion")),
            }
        )
    print_table(table, ("part", "component", "input", "output", "parameters"))
    print(f"\n{count_trained(model, experiment.plan):,} trainable parameters in all, heads included")
