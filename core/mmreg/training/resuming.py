"""Going on with a training that was stopped: what has to be as it was, and what may be another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmreg import runs
from mmreg.data.prepared import Prepared
from mmreg.errors import RunError
from mmreg.messages import shown
from mmreg.recipe.assets import at_hand, digest
from mmreg.recipe.diff import comparable, recipe_differences
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.runs.folder import component_facts
from mmreg.runs.restoring import Restoring

EXTENDING = (
    *("training.epochs", "training.max_steps", "training.max_minutes", "training.early_stopping"),
    *("training.checkpoint", "training.on_nonfinite"),
)
"""What may be another when a training goes on: when it ends, when it is kept, and what to do at a bad step."""


@dataclass
class Resumption:
    """A training that goes on.

    Attributes:
        facts: what its run's folder says.
        restoring: its components, restored from there.
        extends: what the recipe says otherwise, in what may be another.
        finishes: whether to end here, with the weights that there are.
        accepts: whether to go on although something has changed.
        accepted: what has changed and is to be used nevertheless.
    """

    facts: dict[str, Any]
    restoring: Restoring
    extends: list[str] = field(default_factory=list)
    finishes: bool = False
    accepts: bool = False
    accepted: list[str] = field(default_factory=list)


def resumption(folder: Path, plan: Plan, *, accept_changes: bool, finishes: bool = False) -> Resumption:
    """What there is to go on with in a run's folder.

    Args:
        folder: the run's, in which there is a checkpoint.
        plan: the recipe to go on with.
        accept_changes: whether components and versions may be others than those that the training was started with.
        finishes: see `Resumption`.

    Raises:
        RunError: the recipe is another, or components are and that is not accepted; names every difference.
    """
    extends = check_recipe(folder, plan)
    facts = runs.read_facts(folder)
    _check_files(folder, facts)
    changes = _changes(facts, plan)
    if changes and not accept_changes:
        raise RunError(changed(folder, changes))
    return Resumption(facts, Restoring(folder, plan, facts), extends, finishes, accept_changes, changes)


def _check_files(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse files that a training was built from, and keeps no copy of, if they are others by now."""
    for path, content in facts.get("assets", {}).items():
        if Path(path).is_absolute() and digest(found := at_hand(Path(path))) != content:
            what = "has changed" if digest(path) else "is gone"
            if digest(found) and str(found) != path:
                what += f", and {found} in the folder of weights at hand is another one"
            raise RunError(
                f"{path}, which the run in {str(folder)!r} was started with, {what}; bring it back, or train anew by "
                "--overwrite"
            )


def identity(plan: Plan, fingerprint: str) -> str:
    """What tells a training from others: its recipe, but for when it ends, and its table.

    Args:
        plan: the recipe.
        fingerprint: the table's.
    """
    recipe = comparable(plan)
    recipe["training"] = {key: value for key, value in recipe["training"].items() if f"training.{key}" not in EXTENDING}
    return hashlib.blake2b(json.dumps([recipe, fingerprint], sort_keys=True).encode(), digest_size=16).hexdigest()


def check_recipe(folder: Path, plan: Plan) -> list[str]:
    """Refuse a recipe that is not that of the training in a folder; what differs that may be another.

    Raises:
        RunError: names every difference.
    """
    before = resolve(read_recipe(runs.run_file(folder, runs.RECIPE)), trains=False)
    differences = recipe_differences(comparable(before), comparable(plan))
    others: list[str] = []
    lengths: list[str] = []
    for key, old, new in differences:
        text = f"{key}: was {_written(old)}, is {_written(new)}"
        (lengths if key.startswith(EXTENDING) else others).append(text)
    if others:
        raise RunError(
            f"the run in {str(folder)!r} was started with another recipe:\n  " + "\n  ".join(others) + "\n"
            "resume with the same one, or name another folder"
        )
    return lengths


def _written(value: Any) -> str:
    """A recipe's value as a recipe has it."""
    return "null" if value is None else shown(value)


def changed(folder: Path, changes: list[str]) -> str:
    """The message that says what has changed since a training was started."""
    return "\n".join(
        [
            f"since the run in {str(folder)!r} was started, these have changed:",
            *(f"  {text}" for text in changes),
            "go on with what there was then, or nevertheless by --accept-changes, or train anew by --overwrite",
        ]
    )


def check_values(folder: Path, goes_on: Resumption, prepared: Mapping[str, Prepared]) -> None:
    """Refuse values that are others than those that a training was started with, as where files have been replaced.

    Raises:
        RunError: some are and that is not accepted; names the modalities.
    """
    before = goes_on.facts["table"].get("values", {})
    changes = [
        f"{name}: what was loaded from its cells, or from the files that they name"
        for name, values in prepared.items()
        if before.get(name, values.contents) != values.contents
    ]
    if changes and not goes_on.accepts:
        raise RunError(changed(folder, changes))
    goes_on.accepted += changes


def _changes(facts: dict[str, Any], plan: Plan) -> list[str]:
    """What computes otherwise than it did, as far as versions and code tell."""
    packages = {package: version(package) for package in ("mmreg", "torch")}
    others = {package: now for package, now in packages.items() if facts.get(package, now) != now}
    changes = [f"{package} was {facts[package]}, is {now}" for package, now in others.items()]
    for role, now in component_facts(plan).items():
        if role.startswith("callback/"):  # who follows changes nothing
            continue
        before = {"component_version": 1, **facts["components"].get(role, {})}  # mmreg 0.1.0 kept none
        releases = [f"{each.get('distribution')} {each.get('version')}".strip() for each in (before, now)]
        versions = [each.get("component_version") for each in (before, now)]
        if releases[0] != releases[1]:
            if now["distribution"] != "mmreg":  # which is told above
                changes.append(f"{role} ({now['name']}) was of {releases[0]}, is of {releases[1]}")
        elif versions[0] != versions[1]:
            changes.append(f"{role} ({now['name']}) was version {versions[0]}, is version {versions[1]}")
        elif before.get("code", now["code"]) != now["code"]:
            changes.append(f"{role} ({now['name']}): the file with its code has changed")
    return changes
