"""Finding what a recipe predicts: the task of its target, or those of several targets, joined to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from mmreg.contract.components import ComponentSpec
from mmreg.contract.task import Task
from mmreg.data.multitask import MultiTask, several
from mmreg.errors import MmregError
from mmreg.messages import listed, one_line
from mmreg.recipe.components import Component
from mmreg.recipe.finder import Finder
from mmreg.recipe.form import Form, Target
from mmreg.registry import Entry
from mmreg.registry.installed import BUNDLED
from mmreg.registry.options import KeyPath

NAME = "several_targets"
"""What the task of several targets is called where one is named."""


@dataclass(frozen=True)
class SeveralTasks(Component):
    """The tasks of several targets, which are its parts, as one.

    Attributes:
        loss_weights: by target; None for one that is learned.
    """

    loss_weights: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called: the targets, each with its task."""
        return listed(f"{name} ({part.name})" for name, part in self.parts.items())

    @property
    def targets(self) -> Mapping[str, Component]:
        """The task of each target."""
        return self.parts

    def build(self, *arguments: Any, restored: bool = False, **passed_in: Any) -> MultiTask:
        """It, made of the targets' own tasks; see `Component.build`."""
        tasks = {name: part.build(restored=restored) for name, part in self.parts.items()}
        built: MultiTask = self.cls(tasks, self.loss_weights)
        return built


def find_task(finder: Finder, form: Form) -> Component | None:
    """The task of a recipe; None if there is a problem."""
    if form.target is not None and form.targets is not None:
        finder.problem(("targets",), "several targets stand instead of target: give one of the two keys")
        return None
    if form.targets is None:
        if form.target is None:
            finder.problem(("target",), "is missing; or targets, for several")
            return None
        target, keys = form.target, form.target.own_keys()
        return finder.component("task", target.task, target.options, ("target",), name_key="task", beside=keys)
    parts, weights = {}, {}
    for name, target in form.targets.items():
        if not name or set(name) & set("./\\,=+: "):
            finder.problem(
                ("targets", name), "a target's name must not be empty nor hold any of . / \\ , = + : or blanks"
            )
            return None
        keys, path = target.own_keys(), ("targets", name)
        found = finder.component("task", target.task, target.options, path, name_key="task", beside=keys)
        if found is not None:
            parts[name] = found
        weights[name] = None if target.loss_weight == "uncertainty" else target.loss_weight
    if not any(weight is None or weight > 0 for weight in weights.values()):
        finder.problem(("targets",), "every loss_weight is 0, so nothing would be learned")
    if len(parts) < len(form.targets):
        return None
    for name, part in parts.items():
        if not part.cls.needs_target:
            finder.problem(("targets", name), f"the task {part.name!r} predicts no column; it stands alone, as target")
            return None
    cls = several({name: part.cls for name, part in parts.items()})
    spec = ComponentSpec("task", NAME, f"{MultiTask.__module__}:{MultiTask.__name__}")
    return SeveralTasks(Entry(spec, BUNDLED, version(BUNDLED)), cls, {}, parts, loss_weights=weights)


def _check_columns(finder: Finder, target: Target, task: type[Task], path: KeyPath) -> None:
    """Note where a target names other columns than its task reads."""
    reads = task.columns
    if target.reads is None:
        key, what = ("columns", f"reads {listed(reads)}") if reads else ("column", "predicts one")
        finder.problem((*path, key), f"is missing: the task {target.task!r} {what}; name it")
    elif target.columns is None and reads:
        each = ", ".join(f"{name}: .." for name in reads)
        told = f"the task {target.task!r} reads several columns; give columns: {{{each}}} instead"
        finder.problem((*path, "column"), told)
    elif target.columns is not None and set(target.columns) != set(reads):
        told = f"{listed(reads)}, found {listed(target.columns)}" if reads else "one column; give column instead"
        finder.problem((*path, "columns"), f"the task {target.task!r} reads {told}")


def check_targets(finder: Finder, form: Form, task: Component) -> None:
    """Note what the columns of targets, or the lack of one, do not go with."""
    if task.cls.needs_target:
        for name, target in form.predicted.items():
            own = task.parts[name] if name else task
            _check_columns(finder, target, own.cls, ("targets", name) if name else ("target",))
        return
    if form.predicted[""].reads is not None:
        key = "column" if form.predicted[""].columns is None else "columns"
        finder.problem(("target", key), f"the task {task.name!r} predicts no column; leave it out")
    if form.fusion is not None:
        told = f"the task {task.name!r} takes the features of each modality apart, so nothing fuses them; leave it out"
        finder.problem(("fusion",), told)
    for key in ("mixup", "cutmix"):
        if getattr(form.training, key) is not None:
            finder.problem(("training", key), f"mixes targets, and the task {task.name!r} has none; leave it out")
    try:
        task.build(inputs=tuple(form.modalities))
    except MmregError as error:
        finder.problem(("target",), str(error))
    except Exception as error:  # whatever a plugin's code raises
        finder.problem(("target",), f"task {task.entry.reference} cannot be built: {one_line(error)}")
