"""Which recipes predict something that can be compared or combined row by row."""

from __future__ import annotations

from mmreg import registry
from mmreg.contract.task import Task
from mmreg.errors import ComponentImportError, ComponentNotFoundError, OptionError
from mmreg.recipe.recipe import Recipe


def expect_target(recipe: Recipe, study: str) -> None:
    """Refuse a recipe whose task has no target; one whose task cannot be found is told of later.

    Args:
        recipe: the recipe.
        study: what it is to be used for, such as "a comparison".

    Raises:
        OptionError: says what to do instead.
    """
    if recipe.form.target is None:
        return
    name = recipe.form.target.task
    try:
        task: type[Task] = registry.get("task", name)
    except (ComponentNotFoundError, ComponentImportError):
        return
    if not task.needs_target:
        raise OptionError(
            f"{recipe.name}: the task {name!r} has no target, so there are no predictions for {study}; train it by "
            "mmreg train, and let a recipe with a target begin with its encoders (encoder: {from: RUN})"
        )
