"""Finding one component that a recipe names, with its options checked and completed; gathers problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmreg import registry
from mmreg.allocation import MemoryGuard
from mmreg.contract.markers import ComponentOf
from mmreg.errors import ComponentImportError, ComponentNotFoundError, MmregError
from mmreg.messages import one_line
from mmreg.recipe.assets import with_absolute_assets
from mmreg.recipe.components import Component, TrainedWeights
from mmreg.recipe.form import Weights
from mmreg.registry.options import KeyPath, Problem, marked, option_names, options_model, validate

TRIED = ("modality", "task", "optimizer", "schedule", "callback")
"""Kinds that are built from their options alone and may refuse them with more to say than an option's bounds."""


WITH_WEIGHTS = ("encoder", "fusion")
"""Kinds whose weights are trained as a recipe says."""
WEIGHT_KEYS = tuple(Weights.model_fields)


class Finder:
    """Finds components and gathers problems, so that all are reported at once.

    Args:
        folder: what the paths of assets are relative to.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.problems: list[Problem] = []

    def problem(self, path: KeyPath, message: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(Problem(path, message))

    def component(
        self,
        kind: str,
        name: str,
        options: Mapping[str, Any],
        path: KeyPath,
        name_key: str = "name",
        within: bool = False,
        beside: Sequence[str] = (),
    ) -> Component | None:
        """Find one component and check its options; None if there is a problem.

        Args:
            kind: its kind.
            name: its name.
            options: those that are given, and of one with weights how these are trained.
            path: where it stands in the recipe.
            name_key: the key of its name.
            within: whether it is an option of another one, with which its weights are trained.
            beside: the keys that a recipe has beside its options.
        """
        try:
            entry = registry.find(kind, name)
            cls = registry.load(entry)
        except (ComponentNotFoundError, ComponentImportError) as error:
            self.problem((*path, name_key), str(error))
            return None
        trained_keys = WEIGHT_KEYS if kind in WITH_WEIGHTS and not within else ()
        keys = [key for key in trained_keys if key not in option_names(cls)]
        given = {key: value for key, value in options.items() if key in keys}
        weights, problems = validate(Weights, given)
        own = {key: value for key, value in options.items() if key not in keys}
        complete, others = validate(options_model(cls), own, [*keys, *beside])
        self.problems += [replace(each, path=(*path, *each.path)) for each in (*problems, *others)]
        if problems or others:
            return None
        complete = with_absolute_assets(cls, complete, self.folder)
        parts = self.parts(cls, complete, path)
        if parts is None:
            return None
        if kind in TRIED:
            try:
                with MemoryGuard(f"{kind} {name}"):
                    cls(**complete)
            except MmregError as error:
                self.problem(path, str(error))
            except Exception as error:  # whatever a plugin's code raises
                self.problem(path, f"{kind} {entry.reference} cannot be built: {one_line(error)}")
        trained = TrainedWeights.of(Weights.model_construct(**weights))
        found = Component(entry, cls, complete, parts, trained)
        if trained.in_run == "reference" and (trained.frozen_epochs is not None or not found.uncopied):
            told = "a run can only refer to weights that are frozen for good (freeze: true) and come from a file"
            self.problem((*path, "weights_in_run"), told)
        return found

    def parts(self, cls: type, options: dict[str, Any], path: KeyPath) -> dict[str, Component] | None:
        """The components among a component's options, whose values become complete; None if there is a problem."""
        parts = {}
        for name, mark in marked(cls, ComponentOf).items():
            given = options[name]
            if given is None:
                continue
            chosen = {"name": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
            inner = chosen.pop("name", None)
            if not isinstance(inner, str):
                told = f"must name a component of the kind {mark.kind}, or be a mapping with its name"
                self.problem((*path, name), told)
                return None
            part = self.component(mark.kind, inner, chosen, (*path, name), within=True)
            if part is None:
                return None
            parts[name] = part
            options[name] = part.to_data()
        return parts
