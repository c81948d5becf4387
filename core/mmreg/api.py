"""What a program calls: train, load, build_model, init."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreg.building import build
from mmreg.experiment import open_experiment
from mmreg.interfaces import Task
from mmreg.model import MultimodalModel
from mmreg.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.runs import load
from mmreg.spec import Spec
from mmreg.training.session import train

__all__ = ["build_model", "load", "train"]


def build_model(
    recipe: Recipe | Mapping[str, Any] | str | Path, specs: Mapping[str, Spec] | None = None, task: Task | None = None
) -> MultimodalModel:
    """Build the model of a recipe, with new weights keyed to its seed.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        specs: what each modality gives; taken from the recipe's table if not given.
        task: a fitted task; fitted on the recipe's table if not given.

    Raises:
        RecipeError: the recipe is wrong, or its components do not fit together.
        TableError, TargetError: specs or task are not given and the table is wrong.
    """
    plan = resolve(read_recipe(recipe))
    if specs is not None and task is not None:
        return build(plan, specs, task)
    experiment = open_experiment(plan)
    return build(plan, {**experiment.specs, **(specs or {})}, task or experiment.task)
