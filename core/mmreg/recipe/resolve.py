"""A recipe with its components: found in the registry, options checked and completed, before any data are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmreg.contract.task import Task
from mmreg.errors import RunError
from mmreg.files import irregular
from mmreg.recipe.assets import folder_at_hand
from mmreg.recipe.components import Component, FusionPlan, InputPlan
from mmreg.recipe.find import find_components, metric_name
from mmreg.recipe.recipe import Recipe
from mmreg.registry.options import Problem
from mmreg.run_files.finished import finished_facts


@dataclass(frozen=True)
class Plan:
    """A recipe whose components all exist, with their complete options.

    Attributes:
        recipe: where it comes from.
        inputs: the modalities by name, in order.
        fusion: the top operator; None for a single modality, or a task without a target.
        task: what is to be predicted.
        optimizer: what moves the weights.
        schedule: the learning rate's course; None for a constant rate.
        balance: what keeps one modality from starving the others; None for nothing.
        metrics: the metrics that are none of the task's own, by name.
        callbacks: who follows the training.
    """

    recipe: Recipe
    inputs: Mapping[str, InputPlan]
    fusion: FusionPlan | None
    task: Component
    optimizer: Component
    schedule: Component | None
    metrics: Mapping[str, Component]
    callbacks: tuple[Component, ...]
    balance: Component | None = None

    def new_task(self, restored: bool = False) -> Task:
        """A task that has learned nothing yet, and knows its inputs if it has no target.

        Args:
            restored: whether its state is loaded afterwards.
        """
        inputs = {} if self.task.cls.needs_target else {"inputs": tuple(self.inputs)}
        task: Task = self.task.build(restored=restored, **inputs)
        return task

    @property
    def metric(self) -> str | None:
        """The metric that the best weights are chosen by; None for the task's main one."""
        name = self.recipe.form.training.metric
        return name if name is None or name in self.task.cls.metrics else metric_name(name, self.task)

    @property
    def metric_directions(self) -> dict[str, bool]:
        """Every metric of the task and of the recipe, with whether more is better."""
        return {**self.task.cls.metrics, **{name: metric.cls.more_is_better for name, metric in self.metrics.items()}}

    @property
    def metric_names(self) -> list[str]:
        """The further metrics that the recipe asks for."""
        own = [each.name for each in self.recipe.form.metrics if each.name in self.task.cls.metrics]
        return list(dict.fromkeys([*own, *self.metrics]))

    def to_data(self, asset: Callable[[str], str] = str) -> dict[str, Any]:
        """The recipe with every default spelled out and every component by the name that means no other.

        Args:
            asset: what is to stand for the path of an asset.
        """
        form = self.recipe.form
        data = self.recipe.to_data()
        for name, task in self.task.targets.items():
            of, key = (data["targets"], name) if name else (data, "target")
            target = {k: v for k, v in of[key].items() if k not in task.options and (k, v) != ("columns", None)}
            of[key] = target | task.options_with(asset)
        data = {key: value for key, value in data.items() if value is not None or key not in ("target", "targets")}
        for name, plan in self.inputs.items():
            data["modalities"][name] = {
                "type": plan.modality.entry.reference,
                **({"columns": list(plan.columns)} if form.modalities[name].columns else {"column": plan.columns[0]}),
                **plan.modality.options_with(asset),
                "encoder": plan.encoder_data(asset),
                "on_bad": plan.on_bad,
                "store": plan.store,
                "augmented_copies": plan.augmented_copies,
                **(plan.many.to_data() if plan.many else {}),
            }
        data["fusion"] = None if self.fusion is None else self.fusion.to_data(asset)
        data["training"]["optimizer"] = self.optimizer.to_data(asset)
        data["training"]["schedule"] = None if self.schedule is None else self.schedule.to_data(asset)
        data["training"]["balance"] = None if self.balance is None else self.balance.to_data(asset)
        data["metrics"] = [self._metric_data(name, asset) for name in self.metric_names]
        data["callbacks"] = [callback.to_data(asset) for callback in self.callbacks]
        return data

    def _metric_data(self, name: str, asset: Callable[[str], str]) -> Any:
        """A metric as a recipe spells it out: the task's own by its name, others with the target that they are of."""
        if name not in self.metrics:
            return name
        data = self.metrics[name].to_data(asset)
        target = name.removesuffix(self.metrics[name].name)
        return {**data, "name": f"{target}{data['name']}"}

    def components(self) -> dict[str, Component]:
        """Every component by its role, such as "encoder/image" or "fusion/concat"; those within others after a dot."""
        roles: dict[str, Component | None] = {"task": self.task, "optimizer": self.optimizer, "schedule": self.schedule}
        roles["balance"] = self.balance
        for name, plan in self.inputs.items():
            roles |= {f"modality/{name}": plan.modality, f"encoder/{name}": None if plan.shares else plan.encoder}
        roles |= {f"fusion/{node.name}": node.fusion for node in (self.fusion.nodes() if self.fusion else ())}
        roles |= {f"metric/{name}": metric for name, metric in self.metrics.items()}
        roles |= {f"callback/{callback.name}": callback for callback in self.callbacks}
        return {role: part for first, top in roles.items() if top is not None for role, part in _with_parts(first, top)}


def missing_assets(plan: Plan) -> list[Problem]:
    """A problem for every file, or earlier run, that is not there of those which components are built from."""
    places: dict[str, tuple[str, ...]] = {"modality": ("modalities",), "encoder": ("modalities",)}
    problems = []
    has_weights = set()  # the encoders whose earlier run has their weights, so that nothing reads their file
    for name, given in plan.inputs.items():
        if given.earlier is not None and not given.shares:
            try:
                given.earlier.check()
                has_weights |= set() if given.earlier.is_referred_to else {f"encoder/{name}"}
            except RunError as error:
                problems.append(Problem(("modalities", name, "encoder", "from"), str(error)))
    if folder := plan.recipe.refitted_run():
        try:
            finished_facts(folder)
        except RunError as error:
            problems.append(Problem(("training", "refit", "run"), str(error)))
    for role, component in plan.components().items():
        kind, _, name = role.partition("/")
        name, *parts = name.split(".")
        key = (*places[kind], name, *(["encoder"] if kind == "encoder" else [])) if kind in places else (kind,)
        for option, path in component.assets.items():
            is_weights = path in component.uncopied
            if (told := _missing(path, is_weights)) and not (is_weights and role.partition(".")[0] in has_weights):
                problems.append(Problem((*key, *parts, option), told))
    return problems


def _missing(path: str, is_weights: bool) -> str:
    """What is wrong with the file that a component is built from, or folder of weights; empty if it is there."""
    what = irregular(Path(path))
    if what:
        return "" if is_weights and what == "a folder" else f"{path} is {what}, not a file"
    if os.path.isfile(path):  # noqa: PTH113 (no error for what no file can be called)
        return ""
    return f"there is no file {path}" + (f"; put it there, or into {folder_at_hand()}" if is_weights else "")


def _with_parts(role: str, component: Component) -> Iterator[tuple[str, Component]]:
    yield role, component
    for name, part in component.parts.items():
        yield from _with_parts(f"{role}.{name}", part)


def resolve(recipe: Recipe, trains: bool = True) -> Plan:
    """Find and check every component that a recipe names.

    Args:
        recipe: the recipe.
        trains: whether it is for a training, of which optimizer and schedule are then tried.

    Raises:
        RecipeError: names every problem with its line.
    """
    found = find_components(recipe.form, recipe.folder, trains)
    recipe.fail_if(found.problems)
    assert found.task is not None
    assert found.optimizer is not None
    return Plan(
        recipe,
        found.inputs,
        found.fusion,
        found.task,
        found.optimizer,
        found.schedule,
        found.metrics,
        found.callbacks,
        found.balance,
    )


def find_problems(recipe: Recipe) -> list[Problem]:
    """Everything that is wrong with a recipe's components."""
    return find_components(recipe.form, recipe.folder).problems
