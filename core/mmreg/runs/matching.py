"""Matching the rows that several runs predicted: by the `key` of their recipes, or by number on one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mmreg.errors import RunError
from mmreg.recipe.components import Component
from mmreg.recipe.resolve import Plan


class Trained(Protocol):
    """A run, as far as its rows are matched with another's."""

    @property
    def folder(self) -> Path:
        """Where it is kept."""

    @property
    def plan(self) -> Plan:
        """Its resolved recipe."""

    @property
    def fingerprint(self) -> str:
        """That of its table."""


def check_same_task(found: Sequence[Trained]) -> None:
    """Refuse runs of different tasks, or of one without a target.

    Raises:
        RunError: names two; or the one.
    """
    first = found[0]
    if not first.plan.task.cls.needs_target:
        raise RunError(
            f"{first.folder} is a {first.plan.task.name}, which has no target: it predicts nothing that could be "
            "compared or combined row by row"
        )
    for run in found[1:]:
        if not same_tasks(run.plan.task, first.plan.task):
            raise RunError(f"{first.folder} is a {first.plan.task.name}, {run.folder} a {run.plan.task.name}")


def same_tasks(one: Component, other: Component) -> bool:
    """Whether two recipes have the same tasks, of targets that are called the same."""
    references = ({name: task.entry.reference for name, task in each.targets.items()} for each in (one, other))
    return next(references) == next(references)


def matching_key(found: Sequence[Trained]) -> str:
    """What the rows of runs are matched by: their recipes' `key`, or "row", their number.

    Raises:
        RunError: they have different keys, or none and different tables.
    """
    first = found[0]
    key = first.plan.recipe.form.key
    for run in found[1:]:
        other = run.plan.recipe.form.key
        if other != key:
            raise RunError(
                f"rows are matched by the recipes' `key`, but {first.folder} has {key or 'none'} and {run.folder} has "
                f"{other or 'none'}: give every recipe the same `key` column and train again"
            )
    if key is None and len({run.fingerprint for run in found}) > 1:
        raise RunError(
            "rows of runs on different tables are matched by a key: "
            "give every recipe the same `key` column and train again"
        )
    return key or "row"


def written_keys(folder: Path, split: str, predictions: pa.Table) -> list[Any]:
    """The keys of the rows that a run predicted, in order.

    Raises:
        RunError: one stands there twice.
    """
    keys: list[Any] = predictions.column(0).to_pylist()  # as `with_keys` puts them first, whatever they are called
    if len(set(keys)) < len(keys):
        name = predictions.column_names[0]
        raise RunError(f"the {split} predictions of {folder} have the same {name!r} twice; keys must be unique")
    return keys


class Targets:
    """The target of each row, on which all runs have to agree.

    Args:
        key: what rows are matched by.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._known: dict[Any, tuple[Any, Path]] = {}

    def add(self, folder: Path, rows: Iterable[tuple[Any, Any]]) -> None:
        """Add a run's rows, each a key and a target.

        Raises:
            RunError: another run has another target for a key.
        """
        for key, target in rows:
            other, where = self._known.setdefault(key, (target, folder))
            if other != target:
                raise RunError(
                    f"row {key!r} has the target {target!r} in {folder} and {other!r} in {where}: "
                    f"the same {self.key!r} must name the same row"
                )
