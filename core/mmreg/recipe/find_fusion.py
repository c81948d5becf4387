"""Finding the tree of fusion operators that a recipe names."""

from __future__ import annotations

from mmreg import registry
from mmreg.contract.fusion import FeatureFusion, ModelFusion
from mmreg.messages import near
from mmreg.recipe.components import Component, FusionPlan
from mmreg.recipe.finder import Finder
from mmreg.recipe.form import FusionChoice
from mmreg.registry.options import KeyPath


class FusionFinder:
    """Goes through a recipe's fusion.

    Args:
        finder: finds components and gathers problems.
        inputs: the names of the recipe's inputs.
    """

    def __init__(self, finder: Finder, inputs: list[str]) -> None:
        self.finder, self.inputs = finder, inputs
        self.taken = set(inputs)
        self.used: dict[str, KeyPath] = {}

    def tree(self, top: FusionChoice | None) -> FusionPlan | None:
        """The tree of operators; None for a single modality without one, or if there is a problem."""
        if top is None:
            if len(self.inputs) == 1:
                return None
            top = FusionChoice(name="concat")
        tree = self.node(top, ("fusion",))
        for name in self.inputs:
            if name not in self.used:
                told = f"the modality {name!r} is used by no operator; name it or remove it"
                self.finder.problem(("fusion", "of"), told)
        return tree

    def node(self, node: FusionChoice, path: KeyPath) -> FusionPlan | None:
        """One operator with what it fuses."""
        fusion = self.finder.component("fusion", node.name, node.options, path, beside=node.own_keys())
        given = [(part, (*path, "of", index)) for index, part in enumerate(node.of or ())]
        parts = [self.part(*each) for each in given or [(name, path) for name in self.inputs]]
        if fusion is None:
            return None
        cls: type[FeatureFusion] | type[ModelFusion] = fusion.cls
        most = cls.max_inputs
        if len(parts) < cls.min_inputs or (most is not None and len(parts) > most):
            allowed = f"at least {cls.min_inputs}" if most is None else f"{cls.min_inputs} to {most}"
            self.finder.problem(path, f"{node.name} fuses {allowed} inputs, found {len(parts)}")
        complete = tuple(part for part in parts if part is not None)
        names = [part if isinstance(part, str) else part.name for part in complete]
        return FusionPlan(
            self.unique(node.called or fusion.name),
            fusion,
            complete,
            self.own_losses(node, fusion, names, path),
            node.own_loss == "gradient_blending",
            float(node.joint_loss),
            node.absent == "learned",
            node.called,
        )

    def part(self, part: str | FusionChoice, path: KeyPath) -> str | FusionPlan | None:
        """What an operator fuses: an input, or another operator."""
        if isinstance(part, FusionChoice):
            return self.node(part, path)
        if part not in self.inputs:
            told = f"there is no modality {part!r}{near(part, self.inputs)}; there are {', '.join(self.inputs)}"
            self.finder.problem(path, told)
        elif part in self.used:
            self.finder.problem(path, f"the modality {part!r} is fused twice")
        self.used.setdefault(part, path)
        return part

    def unique(self, name: str) -> str:
        """A name that no input and no other operator has."""
        candidate, number = name, 1
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def own_losses(self, node: FusionChoice, fusion: Component, names: list[str], path: KeyPath) -> dict[str, float]:
        """The weight of each part's own loss, of a model-level operator."""
        if fusion.entry.spec.level == "feature":
            for key in ("own_loss", "joint_loss"):
                if key in node.model_fields_set:
                    self.finder.problem((*path, key), f"is for model-level fusion; {node.name} fuses features")
            return {}
        if "absent" in node.model_fields_set:
            told = f"is for feature-level fusion; {node.name} combines the predictions of the parts that are there"
            self.finder.problem((*path, "absent"), told)
        given = node.own_loss
        if isinstance(given, dict):
            for key in given:
                if key not in names:
                    told = f"is no part of {node.name}; its parts are {', '.join(names)}"
                    self.finder.problem((*path, "own_loss", key), told)
            return {name: given.get(name, 1.0) for name in names}
        if given is False and not node.joint_loss:
            self.finder.problem((*path, "own_loss"), "false leaves the parts untrained; set joint_loss: true")
        return dict.fromkeys(names, 1.0 if isinstance(given, str) else float(given))


def check_space(finder: Finder, tree: FusionPlan | None, task: Component) -> None:
    """Note the operators that have no meaning for a task's scores."""
    spaces = {own.cls.space for own in task.targets.values()}
    for node in tree.nodes() if tree else ():
        if node.level != "model":
            continue
        for name, own in task.targets.items():
            if own.cls.space not in node.fusion.cls.spaces:
                fits = [
                    entry.spec.name
                    for entry in registry.specs("fusion")
                    if entry.spec.level == "model" and spaces <= getattr(registry.load(entry), "spaces", set())
                ]
                of = f"the task {own.name!r}" + (f" (target {name!r})" if name else "")
                told = f"{node.fusion.name} cannot combine predictions of {of}; these can: {', '.join(fits)}"
                finder.problem(("fusion",), told)
        if "" not in task.targets and node.fusion.cls.evidential:
            told = f"{node.fusion.name} trains its parts by a loss of its own, which it has for a single target alone"
            finder.problem(("fusion",), f"{told}; choose another operator, or train a recipe for each target")
