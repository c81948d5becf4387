"""Reads from a run's folder what its card tells; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmreg.console import finished_facts, finished_report, run_file
from mmreg.errors import RunError
from mmreg.messages import listed, one_line


@dataclass(frozen=True)
class Facts:
    """What a run's folder says.

    Attributes:
        name: the folder's name.
        recipe: recipe.yaml.
        report: report.json.
        components: components.json.
    """

    name: str
    recipe: Mapping[str, Any]
    report: Mapping[str, Any]
    components: Mapping[str, Any]

    @property
    def modalities(self) -> Mapping[str, Mapping[str, Any]]:
        """The recipe's, by name."""
        return self.recipe["modalities"]  # type: ignore[no-any-return]

    @property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """The modalities by the inputs that they read: of combined runs that share one, the first run's."""
        shared = self.components["table"].get("inputs") or {name: [name] for name in self.modalities}
        return {name: self.modalities[modalities[0]] for name, modalities in shared.items()}

    @property
    def table(self) -> str:
        """What the table is called; of runs that were combined, these."""
        table = self.components["table"]
        return str(table["name"]) if "name" in table else "of " + listed(map(str, table["fused"]))

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """What is predicted, by its name: of one target, its column; a task without a target has none."""
        if self.recipe.get("targets"):
            return self.recipe["targets"]  # type: ignore[no-any-return]
        target = self.recipe["target"]
        return {str(target.get("column") or ""): target}


def read_facts(folder: Path) -> Facts:
    """The facts of a run whose training has ended.

    Raises:
        RunError: the folder is no run, is damaged, or its training has not ended.
    """
    components, report = finished_facts(folder), finished_report(folder)
    with told(folder):
        recipe = yaml.safe_load(run_file(folder, "recipe.yaml").read_text(encoding="utf-8"))
    return Facts(folder.absolute().name, recipe, report, components)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Let whoever reads a run's files say so where these are damaged.

    Raises:
        RunError: they are.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"the run {str(folder)!r} is damaged, or was edited: {one_line(error)}") from error


def plain_name(component: Any) -> str:
    """A component's name of a recipe, without its distribution: "audio" of "mmreg:audio", also with its options."""
    name = component["name"] if isinstance(component, Mapping) else component
    return str(name).rpartition(":")[2]
