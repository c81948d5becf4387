"""Restoring a run's components: from their options, states and weights alone, under the same or another version."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreg.allocation import MemoryGuard
from mmreg.contract.interfaces import Modality
from mmreg.contract.lifecycle import migrated, migrates
from mmreg.contract.spec import Specs, specs_from_json
from mmreg.contract.task import Task
from mmreg.errors import ComponentRestoreError, RunError
from mmreg.messages import listed, one_line
from mmreg.model.build import build
from mmreg.model.model import MultimodalModel
from mmreg.recipe.resolve import Plan
from mmreg.runs.references import check_references

logger = logging.getLogger("mmreg")


class Restoring:
    """The components of a run, restored; what goes wrong names the plugin and both versions.

    Args:
        folder: the run's.
        plan: its recipe, resolved with what is installed now.
        facts: what the run says of its components.
    """

    def __init__(self, folder: Path, plan: Plan, facts: Mapping[str, Any]) -> None:
        self.folder, self.plan, self.facts = folder, plan, facts
        self.components = plan.components()

    def tell_versions(self) -> None:
        """Say of each component that has another version now, and cannot tell what has changed, that it has."""
        for role, component in self.components.items():
            written = self._written(role)["component_version"]
            current = getattr(component.cls, "version", 1)
            if written != current and not (written < current and migrates(component.cls)):
                logger.warning(
                    "mmreg: %s of the run %s %s; it is used as it was saved", role, self.folder, self._versions(role)
                )

    def modalities(self) -> dict[str, Modality]:
        """The modalities by name."""
        found = {}
        for name, given in self.plan.inputs.items():
            role = f"modality/{name}"
            with self._naming(role):
                modality = given.new_modality(restored=True)
                modality.load_state(self._state(role, self.facts["modalities"][name]["state"]))
                found[name] = modality
        return found

    def task(self) -> Task:
        """The task."""
        with self._naming("task"):
            task = self.plan.new_task(restored=True)
            task.load_state(self._state("task", self.facts["task"]))
        return task

    def specs(self) -> dict[str, Specs]:
        """What each modality gives."""
        return {name: specs_from_json(self.facts["modalities"][name]["spec"]) for name in self.plan.inputs}

    def states(self) -> dict[str, Mapping[str, Any]]:
        """What encoders, operators and a balance saved, by role; less those that are built again from a file."""
        saved = self.facts.get("states", {})
        built = {f"encoder/{name}" for name in self.facts.get("references", {})}
        found = {}
        for role in self.components:
            if role not in built and role.startswith(("encoder/", "fusion/", "balance")) and "." not in role:
                with self._naming(role):
                    found[role] = self._own_state(role, saved.get(role, {}))
        return found

    def _own_state(self, role: str, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a component saved; of a model-level operator for several targets, what each of its own did."""
        if self.components[role].entry.spec.level == "model" and "" not in self.plan.task.targets:
            return {target: self._state(role, own) for target, own in state.items()}
        return self._state(role, state)

    def model(self, task: Task) -> MultimodalModel:
        """The model, without its weights."""
        try:
            return build(self.plan, self.specs(), task, states=self.states())
        except ComponentRestoreError as error:
            raise self._lost(error.role, error.reason) from error

    def load_weights(self, model: MultimodalModel, weights: Mapping[str, Tensor]) -> None:
        """Put a run's weights into its model.

        Raises:
            RunError: they do not fit, or are no finite numbers; names the components, or the weights.
        """
        built = tuple(f"encoders.{name}." for name in self.facts.get("references", {}))
        own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(built)}
        wrong = [name for name, tensor in own.items() if name not in weights or weights[name].shape != tensor.shape]
        wrong += [name for name in weights if name not in own]
        if wrong:
            misfits = self._misfits(model, wrong)
            raise RunError(f"the weights of {self.folder} do not fit its components: {misfits}")
        # Buffers may mark by them what is not known, or masked; a parameter would make every prediction such a number.
        bad = [name for name, _ in model.named_parameters() if name in own and not weights[name].isfinite().all()]
        if bad:
            raise RunError(
                f"the weights of {self.folder} hold numbers that are not finite: {listed(bad, 3)}; put back the file "
                "that the training wrote, or train again"
            )
        model.load_state_dict(dict(weights), strict=False)
        check_references(self.folder, self.facts, model)

    def _misfits(self, model: MultimodalModel, names: list[str]) -> str:
        places = {part: name for name, part in model.named_modules()}
        told = []
        for role, part in model.components().items():
            own = [name for name in names if name.startswith(f"{places[part]}.")]
            if own:
                told.append(f"{role} ({', '.join(own[:3])}{', ...' if len(own) > 3 else ''}) {self._versions(role)}")
        return "; ".join(told) or ", ".join(names[:5])

    def _state(self, role: str, state: Mapping[str, Any]) -> Mapping[str, Any]:
        return migrated(self.components[role].cls, state, self._written(role)["component_version"])

    def _written(self, role: str) -> dict[str, Any]:
        return {"component_version": 1, "distribution": "?", "version": "", **self.facts["components"].get(role, {})}

    def _versions(self, role: str) -> str:
        """The versions of a component that was saved and of the one that is installed, to read on after its role."""
        written, component = self._written(role), self.components[role]
        now = component.entry
        return (
            f"was saved by version {written['component_version']} of {component.name} "
            f"({written['distribution']} {written['version']}), installed is version "
            f"{getattr(component.cls, 'version', 1)} ({now.distribution} {now.version})"
        )

    @contextmanager
    def _naming(self, role: str) -> Iterator[None]:
        try:
            with MemoryGuard(role):
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's code may raise anything
            raise self._lost(role, one_line(error)) from error

    def _lost(self, role: str, reason: str) -> RunError:
        told = f"{role} of the run {self.folder} cannot be restored: {reason}; it {self._versions(role)}"
        return RunError(f"{told}; install the release that it was saved by, or train again")
