"""Whether a recipe's target goes with its task: which needs a column, or learns from its inputs alone."""

from __future__ import annotations

from mmreg.errors import MmregError
from mmreg.messages import one_line
from mmreg.recipe.components import Component
from mmreg.recipe.finder import Finder
from mmreg.recipe.form import Form


def check_target(finder: Finder, form: Form, task: Component) -> None:
    """Note what a task's column, or its lack of one, does not go with."""
    name = form.target.task
    if task.cls.needs_target:
        if form.target.column is None:
            finder.problem(("target", "column"), f"is missing: the task {name!r} predicts one; name it")
        return
    if form.target.column is not None:
        finder.problem(("target", "column"), f"the task {name!r} predicts no column; leave it out")
    if form.fusion is not None:
        told = f"the task {name!r} takes the features of each modality apart, so nothing fuses them; leave it out"
        finder.problem(("fusion",), told)
    for key in ("mixup", "cutmix"):
        if getattr(form.training, key) is not None:
            finder.problem(("training", key), f"mixes targets, and the task {name!r} has none; leave it out")
    try:
        task.build(inputs=tuple(form.modalities))
    except MmregError as error:
        finder.problem(("target",), str(error))
    except Exception as error:  # whatever a plugin's code raises
        finder.problem(("target",), f"task {task.entry.reference} cannot be built: {one_line(error)}")
