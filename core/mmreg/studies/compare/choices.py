"""Which variants a grid has: its fusions and encoders as recipes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmreg import registry
from mmreg.contract.fusion import ModelFusion
from mmreg.errors import MmregError, OptionError, RecipeError
from mmreg.messages import near
from mmreg.recipe.recipe import Recipe
from mmreg.studies.compare.variants import alone, choice_name

Choice = str | Mapping[str, Any]
"""A component by name, or as a mapping of `name` and options."""

ALL = "all"


@dataclass(frozen=True)
class GridVariant:
    """One cell of the grid, without its seed.

    Attributes:
        name: unique in the grid.
        changes: the recipe's keys that it sets, each a dotted path.
        optional: whether it was not asked for by name, so that it is left out if it does not fit.
    """

    name: str
    changes: Mapping[str, Any]
    optional: bool = False


def grid_variants(
    recipe: Recipe,
    fusions: Sequence[Choice] | None,
    level: str | None,
    encoders: Mapping[str, Sequence[Choice]],
    singles: bool,
) -> tuple[list[GridVariant], list[str]]:
    """Every variant of a grid, fused ones first, and what was left out of "all" and why.

    Raises:
        RecipeError: encoders are given for what is no modality.
        OptionError: nothing is left to compare, or a level is given beside operators by name.
    """
    inputs = list(recipe.form.modalities)
    unknown = [f"{name!r} is no modality{near(name, inputs)}" for name in encoders if name not in inputs]
    if unknown:
        raise RecipeError(f"encoders: {', '.join(unknown)}; there are {', '.join(inputs)}")
    operators, notes = _operators(recipe, fusions, level)
    combinations = list(itertools.product(*(_encoder_choices(name, encoders.get(name)) for name in inputs)))
    variants = []
    for operator, optional in operators:
        for parts in combinations:
            name = _with_encoders(choice_name(operator), [text for text, _ in parts if text])
            changes = {"fusion": operator, **{key: value for _, change in parts for key, value in change.items()}}
            variants.append(GridVariant(name, changes, optional))
    for modality in inputs if singles or not operators else ():
        for text, change in _encoder_choices(modality, encoders.get(modality)):
            name = _with_encoders(alone(modality), [text] if text else [])
            variants.append(GridVariant(name, {**_only(recipe, modality), **change}))
    unique = {variant.name: variant for variant in variants}
    if len(unique) < 2:
        raise OptionError(f"there is nothing to compare {next(iter(unique))} with; name fusions or encoders")
    return list(unique.values()), notes


def _with_encoders(name: str, encoders: Sequence[str]) -> str:
    return f"{name} [{', '.join(encoders)}]" if encoders else name


def _encoder_choices(modality: str, choices: Sequence[Choice] | None) -> list[tuple[str, dict[str, Any]]]:
    """A modality's encoders: what each adds to a variant's name (nothing if there is one), and the key it sets."""
    if not choices:
        return [("", {})]
    key = f"modalities.{modality}.encoder"
    told = len(choices) > 1
    return [(f"{modality}={choice_name(choice)}" if told else "", {key: choice}) for choice in choices]


def _only(recipe: Recipe, modality: str) -> dict[str, Any]:
    """The keys that leave one modality of a recipe."""
    changes: dict[str, Any] = {"modalities": {modality: recipe.data["modalities"][modality]}, "fusion": None}
    if isinstance(recipe.form.training.modality_dropout, dict):
        changes["training.modality_dropout"] = 0
    return changes


def _operators(
    recipe: Recipe, fusions: Sequence[Choice] | None, level: str | None
) -> tuple[list[tuple[Choice, bool]], list[str]]:
    """The fusions in order, "all" expanded; each with whether it came from there."""
    count = len(recipe.form.modalities)
    if fusions is None and level is None:
        own = recipe.data.get("fusion")
        return ([(own or "concat", False)] if own or count > 1 else []), []
    given: Sequence[Choice] = fusions if fusions is not None else [ALL]
    if level is not None and ALL not in given:
        raise OptionError(f"level {level!r} chooses among all operators; leave it out where they are named")
    found: list[tuple[Choice, bool]] = []
    notes: list[str] = []
    for choice in given:
        if choice != ALL:
            found.append((choice, False))
            continue
        for entry in registry.specs("fusion"):
            if level not in (None, entry.spec.level):
                continue
            names = [other.spec.name for other in registry.specs("fusion")]
            name = entry.spec.name if names.count(entry.spec.name) == 1 else entry.reference
            reason = _misfit(recipe, entry, count)
            if reason is not None:
                notes.append(f"{name} is left out: {reason}")
            elif name not in [operator for operator, _ in found]:
                found.append((name, True))
    return found, notes


def _misfit(recipe: Recipe, entry: registry.Entry, count: int) -> str | None:
    """Why an operator cannot take a recipe's task or its number of modalities; None if it can."""
    try:
        cls: Any = registry.load(entry)
        task: Any = registry.get("task", recipe.form.target.task)
    except MmregError as error:
        return str(error)
    most = cls.max_inputs
    if count < cls.min_inputs or (most is not None and count > most):
        allowed = f"at least {cls.min_inputs}" if most is None else f"{cls.min_inputs} to {most}"
        return f"it fuses {allowed} inputs, the recipe has {count}"
    if issubclass(cls, ModelFusion) and task.space not in cls.spaces:
        return f"it cannot combine predictions of the task {recipe.form.target.task!r}"
    return None
