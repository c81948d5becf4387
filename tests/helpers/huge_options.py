"""Gives every bundled component each of its numbers far too large, in 8 GB of memory, and prints what came of it."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

import toys

from mmreg import Recipe, Spec, registry
from mmreg.errors import MmregError
from mmreg.model.build import build
from mmreg.recipe.resolve import resolve

LIMIT = 8 << 30
SPECS = {
    "image_cnn": Spec("CHW", (3, 16, 16)),
    "audio_cnn": Spec("CHW", (1, 40, None)),
    "text_rnn": Spec("T", (None,), "int64", 100),
}
NEEDED: dict[str, dict[str, Any]] = {
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [1]},
    "OneCycleLR": {"max_lr": 0.1},
    "StepLR": {"step_size": 2},
}


def huge(option: dict[str, Any]) -> list[Any]:
    """Values of an option that are far too large; none if it is no number."""
    whole, text = "integer" in option["type"], option["type"]
    if not whole and "number" not in text:
        return []
    numbers: list[Any] = [10**12, 2 * 10**9] if whole else [1e300]
    if text.startswith("["):
        return [[number] * (text.count(",") + 1) for number in numbers]
    return [[number] if text.startswith("list") else number for number in numbers]


def recipe(kind: str, component: dict[str, Any]) -> dict[str, Any]:
    """A recipe that names a component."""
    modalities: dict[str, Any] = {name: {"type": "numbers"} for name in "ab"}
    if kind == "fusion":
        return toys.recipe("x.csv", fusion=component)
    if kind in ("optimizer", "schedule", "balance"):
        return toys.recipe("x.csv", training={"epochs": 2, kind: component})
    if kind == "metric":
        return toys.recipe("x.csv", metrics=[component])
    if kind == "task":
        task = {key: value for key, value in component.items() if key != "name"}
        return toys.recipe("x.csv", target={"column": "label", "task": component["name"], **task})
    if kind == "encoder":
        modalities["a"]["encoder"] = component
    else:
        modalities["a"] = {"type": component.pop("name"), **component}
    return toys.recipe("x.csv", modalities=modalities)


def outcome(kind: str, name: str, option: str, value: Any) -> str:
    """What came of it: "built", or the type of the error."""
    task = registry.build("task", "classification")
    task.fit(["a", "b"] * 3)
    specs = dict.fromkeys("ab", Spec("C", (4,)))
    if kind == "encoder":
        specs["a"] = SPECS[name]
    try:
        plan = resolve(Recipe(recipe(kind, {"name": name, **NEEDED.get(name, {}), option: value})))
        if kind == "modality":
            specs["a"] = plan.inputs["a"].new_modality().spec
        else:
            build(plan, specs, task)
    except MmregError as error:
        return f"refused: {error}"
    except BaseException as error:  # what this looks for
        return f"{type(error).__name__}: {error}"
    return "built"


def cases() -> Iterator[tuple[str, str, str, Any]]:
    for entry in registry.specs():
        bundled = entry.distribution == "mmreg"
        if not bundled or (entry.spec.kind == "encoder" and entry.spec.name not in SPECS):
            continue
        for option in registry.describe(entry.spec.kind, entry.reference)["options"]:
            for value in huge(option):
                yield entry.spec.kind, entry.spec.name, option["name"], value


if __name__ == "__main__":
    toys.register()
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    found = [[*case, outcome(*case)] for case in cases()]
    json.dump(found, sys.stdout)
