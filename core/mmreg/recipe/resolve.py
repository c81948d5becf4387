"""A recipe's components: found in the registry, their options checked and completed, before any data are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmreg import registry
from mmreg.contract.interfaces import FeatureFusion, Modality, ModelFusion, Task
from mmreg.errors import ComponentImportError, ComponentNotFoundError, MmregError, OptionError, RecipeError
from mmreg.messages import near
from mmreg.recipe.form import FusionNode, Input, OnBad
from mmreg.recipe.recipe import Recipe
from mmreg.registry import Entry
from mmreg.registry.options import Path, Problem, options_model, validate


@dataclass(frozen=True)
class Component:
    """A component that a recipe names, with complete options.

    Attributes:
        entry: what the registry knows of it.
        cls: its class.
        options: all of its options by name.
    """

    entry: Entry
    cls: Any
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self.entry.spec.name

    def to_data(self) -> dict[str, Any]:
        """The component as a recipe spells it out."""
        return {"name": self.name, **self.options}


@dataclass(frozen=True)
class InputPlan:
    """One modality of a recipe.

    Attributes:
        name: the input's name.
        columns: the columns that it reads.
        modality: how they are read.
        encoder: what encodes it.
        on_bad: what to do with cells that cannot be loaded.
    """

    name: str
    columns: tuple[str, ...]
    modality: Component
    encoder: Component
    on_bad: OnBad


@dataclass(frozen=True)
class FusionPlan:
    """One fusion operator of a recipe, with what it fuses.

    Attributes:
        name: unique among the recipe's operators and inputs.
        fusion: the operator.
        of: what it fuses, in order: names of inputs, or further operators.
        own_losses: at model level, the weight of each part's own loss, by the part's name.
        gradient_blending: at model level, whether these weights are to be estimated (Wang et al. 2020).
        joint_loss: at model level, the weight of the combination's loss for the parts.
    """

    name: str
    fusion: Component
    of: tuple[str | FusionPlan, ...]
    own_losses: Mapping[str, float]
    gradient_blending: bool = False
    joint_loss: float = 0.0

    @property
    def level(self) -> str:
        """The operator's level, "feature" or "model"."""
        return self.fusion.entry.spec.level

    def nodes(self) -> Iterator[FusionPlan]:
        """This operator and all below it."""
        yield self
        for part in self.of:
            if isinstance(part, FusionPlan):
                yield from part.nodes()


@dataclass(frozen=True)
class Plan:
    """A recipe whose components all exist, with their complete options.

    Attributes:
        recipe: where it comes from.
        inputs: the modalities by name, in order.
        fusion: the top operator; None for a single modality.
        task: what is to be predicted.
    """

    recipe: Recipe
    inputs: Mapping[str, InputPlan]
    fusion: FusionPlan | None
    task: Component

    def to_data(self) -> dict[str, Any]:
        """The recipe with every default spelled out and every component by the name that means no other."""
        form = self.recipe.form
        data = self.recipe.to_data()
        data["target"] = {
            **{k: v for k, v in data["target"].items() if k not in self.task.options},
            **self.task.options,
        }
        for name, plan in self.inputs.items():
            data["modalities"][name] = {
                "type": plan.modality.entry.reference,
                **({"columns": list(plan.columns)} if form.modalities[name].columns else {"column": plan.columns[0]}),
                **plan.modality.options,
                "encoder": {**plan.encoder.to_data(), "name": plan.encoder.entry.reference},
                "on_bad": plan.on_bad,
            }
        data["fusion"] = None if self.fusion is None else _fusion_data(self.fusion)
        return data

    def components(self) -> dict[str, Component]:
        """Every component by its role, such as "encoder/image" or "fusion/concat"."""
        found = {"task": self.task}
        for name, plan in self.inputs.items():
            found[f"modality/{name}"] = plan.modality
            found[f"encoder/{name}"] = plan.encoder
        if self.fusion is not None:
            found |= {f"fusion/{node.name}": node.fusion for node in self.fusion.nodes()}
        return found


def resolve(recipe: Recipe) -> Plan:
    """Find and check every component that a recipe names.

    Raises:
        RecipeError: names every problem with its line.
    """
    return _Resolver(recipe).plan()


def find_problems(recipe: Recipe) -> list[Problem]:
    """Everything that is wrong with a recipe's components."""
    resolver = _Resolver(recipe)
    with contextlib.suppress(RecipeError):
        resolver.plan()
    return resolver.problems


def _fusion_data(plan: FusionPlan) -> dict[str, Any]:
    data: dict[str, Any] = {"name": plan.fusion.entry.reference, **plan.fusion.options}
    data["of"] = [part if isinstance(part, str) else _fusion_data(part) for part in plan.of]
    if plan.level == "model":
        data["own_loss"] = "gradient_blending" if plan.gradient_blending else dict(plan.own_losses)
        data["joint_loss"] = plan.joint_loss
    return data


class _Resolver:
    """Goes through a recipe and gathers problems, so that all are reported at once."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        form = self.recipe.form
        task_options = form.target.options
        task = self.component("task", form.target.task, task_options, ("target",), name_key="task")
        inputs = {name: self.input(name, given) for name, given in form.modalities.items()}
        fusion = self.fusion_tree(list(inputs))
        if task is not None:
            self.check_task(task.cls, fusion)
        self.check_training(list(inputs))
        self.recipe.fail_if(self.problems)
        assert task is not None
        return Plan(self.recipe, {name: plan for name, plan in inputs.items() if plan is not None}, fusion, task)

    def problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))

    def component(
        self, kind: str, name: str, options: Mapping[str, Any], path: Path, name_key: str = "name"
    ) -> Component | None:
        """Find one component and check its options; None if there is a problem."""
        try:
            entry = registry.find(kind, name)
            cls = registry.load(entry)
        except (ComponentNotFoundError, ComponentImportError) as error:
            self.problem((*path, name_key), str(error))
            return None
        complete, problems = validate(options_model(cls), options)
        self.problems += [replace(found, path=(*path, *found.path)) for found in problems]
        if problems:
            return None
        if kind in ("modality", "task"):  # the others are built when their inputs are known
            try:
                cls(**complete)
            except MmregError as error:
                self.problem(path, str(error))
        return Component(entry, cls, complete)

    def input(self, name: str, given: Input) -> InputPlan | None:
        path: Path = ("modalities", name)
        if not name or set(name) & set("./\\,=+"):
            self.problem(path, "an input's name must not be empty nor hold any of . / \\ , = +")
        try:
            modality_cls: type[Modality] = registry.get("modality", given.type or name)
        except (ComponentNotFoundError, ComponentImportError) as error:
            hint = (
                ""
                if given.type
                else f" (an input whose name is no modality needs a type: {', '.join(registry.names('modality'))})"
            )
            self.problem((*path, "type"), f"{error}{hint}")
            return None
        if given.columns is not None and not modality_cls.multiple_columns:
            self.problem((*path, "columns"), "this modality reads one column; give column instead")
        if given.columns is None and modality_cls.multiple_columns:
            self.problem(path, "this modality reads several columns; give columns: [..]")
        choice = given.encoder
        encoder_name = choice.name if choice else modality_cls.default_encoder
        if encoder_name is None:
            self.problem(path, f"encoder is missing; there are {', '.join(registry.names('encoder'))}")
            return None
        encoder = self.component("encoder", encoder_name, choice.options if choice else {}, (*path, "encoder"))
        options = dict(given.options)
        if encoder is not None:
            for key, value in encoder.cls.modality_options(encoder.options).items():
                if options.setdefault(key, value) != value:
                    found = f"must be {value!r}, as encoder {encoder.name!r} needs it, found {options[key]!r}"
                    self.problem((*path, key), found)
        modality = self.component("modality", given.type or name, options, path, name_key="type")
        if modality is None or encoder is None:
            return None
        columns = tuple(given.columns or [given.column or name])
        return InputPlan(name, columns, modality, encoder, given.on_bad or self.recipe.form.on_bad)

    def fusion_tree(self, inputs: list[str]) -> FusionPlan | None:
        """The tree of operators; None for a single modality without one, or if there is a problem."""
        node = self.recipe.form.fusion
        if node is None:
            if len(inputs) == 1:
                return None
            node = FusionNode(name="concat")
        self.taken = set(inputs)
        used: dict[str, Path] = {}
        tree = self.fusion_node(node, ("fusion",), inputs, used)
        for name in inputs:
            if name not in used:
                self.problem(("fusion", "of"), f"the modality {name!r} is used by no operator; name it or remove it")
        return tree

    def fusion_node(self, node: FusionNode, path: Path, inputs: list[str], used: dict[str, Path]) -> FusionPlan | None:
        fusion = self.component("fusion", node.name, node.options, path)
        parts: list[str | FusionPlan | None] = []
        for index, part in enumerate(node.of or inputs):
            here: Path = (*path, "of", index) if node.of else path
            if isinstance(part, FusionNode):
                parts.append(self.fusion_node(part, here, inputs, used))
                continue
            if part not in inputs:
                self.problem(here, f"there is no modality {part!r}{near(part, inputs)}; there are {', '.join(inputs)}")
            elif part in used:
                self.problem(here, f"the modality {part!r} is fused twice")
            used.setdefault(part, here)
            parts.append(part)
        if fusion is None:
            return None
        cls: type[FeatureFusion] | type[ModelFusion] = fusion.cls
        most = cls.max_inputs
        if len(parts) < cls.min_inputs or (most is not None and len(parts) > most):
            allowed = f"at least {cls.min_inputs}" if most is None else f"{cls.min_inputs} to {most}"
            self.problem(path, f"{node.name} fuses {allowed} inputs, found {len(parts)}")
        complete = tuple(part for part in parts if part is not None)
        names = [part if isinstance(part, str) else part.name for part in complete]
        losses = self.own_losses(node, fusion, names, path)
        return FusionPlan(
            self.unique(fusion.name),
            fusion,
            complete,
            losses,
            node.own_loss == "gradient_blending",
            float(node.joint_loss),
        )

    def unique(self, name: str) -> str:
        """A name that no input and no other operator has."""
        candidate, number = name, 1
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def own_losses(self, node: FusionNode, fusion: Component, names: list[str], path: Path) -> dict[str, float]:
        if fusion.entry.spec.level == "feature":
            for key in ("own_loss", "joint_loss"):
                if key in node.model_fields_set:
                    self.problem((*path, key), f"is for model-level fusion; {node.name} fuses features")
            return {}
        given = node.own_loss
        if isinstance(given, dict):
            for key in given:
                if key not in names:
                    self.problem(
                        (*path, "own_loss", key), f"is no part of {node.name}; its parts are {', '.join(names)}"
                    )
            return {name: given.get(name, 1.0) for name in names}
        if given is False and not node.joint_loss:
            self.problem((*path, "own_loss"), "false leaves the parts untrained; set joint_loss: true")
        return dict.fromkeys(names, 1.0 if isinstance(given, str) else float(given))

    def check_task(self, task: type[Task], fusion: FusionPlan | None) -> None:
        form = self.recipe.form
        for node in fusion.nodes() if fusion else ():
            if node.level == "model" and task.space not in node.fusion.cls.spaces:
                fits = [
                    e.spec.name
                    for e in registry.specs("fusion")
                    if e.spec.level == "model" and task.space in getattr(registry.load(e), "spaces", ())
                ]
                self.problem(
                    ("fusion",),
                    f"{node.fusion.name} cannot combine predictions of the task {form.target.task!r}; "
                    f"these can: {', '.join(fits)}",
                )
        wanted: list[tuple[Path, str]] = [(("metrics", i), name) for i, name in enumerate(form.metrics)]
        if form.training.metric is not None:
            wanted.append((("training", "metric"), form.training.metric))
        for path, name in wanted:
            if name not in task.metrics:
                known = ", ".join(task.metrics)
                self.problem(
                    path,
                    f"the task {form.target.task!r} has no metric {name!r}{near(name, task.metrics)}; it has {known}",
                )

    def check_training(self, inputs: list[str]) -> None:
        from torch import nn

        from mmreg.training.optimizers import build_optimizer, try_schedule

        training = self.recipe.form.training
        path: Path = ("training",)
        probe = nn.Linear(2, 2)
        try:
            optimizer = build_optimizer(training.optimizer.name, training.optimizer.options, probe)
        except OptionError as error:
            self.problem((*path, "optimizer"), str(error))
            optimizer = build_optimizer("SGD", {"lr": 0.1, "momentum": 0.9}, probe)
        if training.schedule is not None:
            try:
                try_schedule(training.schedule.name, training.schedule.options, optimizer, training.epochs)
            except OptionError as error:
                self.problem((*path, "schedule"), str(error))
        for name in training.modality_dropout if isinstance(training.modality_dropout, dict) else ():
            if name not in inputs:
                self.problem((*path, "modality_dropout", name), f"is no modality; there are {', '.join(inputs)}")
