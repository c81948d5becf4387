"""Which variants there are, and how they are called: those of a grid, and those of runs that somebody trained."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmreg import registry
from mmreg.errors import OptionError, RecipeError
from mmreg.messages import near
from mmreg.recipe.components import FusionPlan
from mmreg.recipe.diff import comparable, recipe_differences
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.studies.compare.predictions import TrainedRun

Choice = str | Mapping[str, Any]
"""A component by name, or as a mapping of `name` and options."""

ALL = "all"
NONE = "none"
"""Stands for no balance."""
BALANCE = "training.balance"
"""The key of a recipe that a choice of balances sets."""
MOST_TOLD = 160
"""Characters of what differs between variants that a name may hold."""


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
    balances: Sequence[Choice] | None = None,
) -> list[GridVariant]:
    """Every variant of a grid, fused ones first; whether their components fit the recipe is not checked here.

    Raises:
        RecipeError: encoders are given for what is no modality.
        OptionError: nothing is left to compare, or a level is given beside operators by name.
    """
    modalities = list(recipe.form.modalities)
    unknown = [f"{name!r} is no modality{near(name, modalities)}" for name in encoders if name not in modalities]
    if unknown:
        raise RecipeError(f"encoders: {', '.join(unknown)}; there are {', '.join(modalities)}")
    operators = _operators(recipe, fusions, level)
    by_modality = {name: _encoder_choices(name, encoders.get(name)) for name in modalities}
    by_balance = _balance_choices(balances)
    variants = []
    for operator, optional in operators:
        for choices in itertools.product(*by_modality.values(), by_balance):
            changes = {"fusion": operator, **{key: encoder for _, change in choices for key, encoder in change.items()}}
            variants.append(GridVariant(_name(choice_name(operator), [text for text, _ in choices]), changes, optional))
    for modality in modalities if singles or not operators else ():
        for text, change in by_modality[modality]:
            variants.append(GridVariant(_name(alone(modality), [text]), {**_only(recipe, modality), **change}))
    unique = {variant.name: variant for variant in variants}
    if len(unique) < 2:
        raise OptionError(f"there is nothing to compare {next(iter(unique))} with; name fusions, encoders or balances")
    return list(unique.values())


def _name(name: str, encoders: Sequence[str]) -> str:
    told = [text for text in encoders if text]
    return f"{name} [{', '.join(told)}]" if told else name


def _encoder_choices(modality: str, choices: Sequence[Choice] | None) -> list[tuple[str, dict[str, Any]]]:
    """A modality's encoders: what each adds to a variant's name (nothing if there is one), and the key it sets."""
    if not choices:
        return [("", {})]
    key = f"modalities.{modality}.encoder"
    several = len(choices) > 1
    return [(f"{modality}={choice_name(choice)}" if several else "", {key: choice}) for choice in choices]


def _balance_choices(choices: Sequence[Choice] | None) -> list[tuple[str, dict[str, Any]]]:
    """The balances: what each adds to a variant's name (nothing if there is one), and the key it sets."""
    if not choices:
        return [("", {})]
    several = len(choices) > 1
    return [
        (f"balance={choice_name(choice)}" if several else "", {BALANCE: None if choice == NONE else choice})
        for choice in choices
    ]


def _only(recipe: Recipe, modality: str) -> dict[str, Any]:
    """The keys that leave one modality of a recipe."""
    given = dict(recipe.data["modalities"][modality])
    encoder = recipe.form.modalities[modality].encoder
    if encoder is not None and encoder.share in recipe.data["modalities"]:
        given["encoder"] = recipe.data["modalities"][encoder.share].get("encoder")  # its owner is not there
    changes: dict[str, Any] = {"modalities": {modality: given}, "fusion": None}
    if isinstance(recipe.form.training.modality_dropout, dict):
        changes["training.modality_dropout"] = 0
    if recipe.form.training.balance is not None:
        changes[BALANCE] = None
    missing = recipe.form.training.missing
    if missing.rate and not missing.among:  # what a row keeps is drawn among all, so it learns from the same rows
        among = {name: each.reads(name) for name, each in recipe.form.modalities.items()}
        changes["training.missing_rate"] = {"rate": missing.rate, "among": among}
    return changes


def _operators(recipe: Recipe, fusions: Sequence[Choice] | None, level: str | None) -> list[tuple[Choice, bool]]:
    """The fusions in order, "all" expanded; each with whether it came from there."""
    if fusions is None and level is None:
        own = recipe.data.get("fusion")
        return [(own or "concat", False)] if own or len(recipe.form.modalities) > 1 else []
    choices: Sequence[Choice] = [ALL] if fusions is None else fusions
    if level is not None and ALL not in choices:
        raise OptionError(f"level {level!r} chooses among all operators; leave it out where they are named")
    every = [
        entry.reference if registry.ambiguous(entry) else entry.spec.name
        for entry in registry.specs("fusion")
        if level in (None, entry.spec.level)
    ]
    operators: list[tuple[Choice, bool]] = []
    for choice in choices:
        if choice != ALL:
            operators.append((choice, False))
            continue
        named = [operator for operator, _ in operators]
        operators += [(name, True) for name in every if name not in named]
    return operators


def choice_name(choice: str | Mapping[str, Any]) -> str:
    """A component as a recipe names it, in short: "low_rank", "low_rank(rank=8)", "product(low_rank(a, b), c)"."""
    if isinstance(choice, str):
        return choice
    inner = [choice_name(part) for part in choice.get("of") or ()]
    inner += [f"{key}={_spelled_out(value)}" for key, value in choice.items() if key not in ("name", "of")]
    return f"{choice['name']}({', '.join(inner)})" if inner else str(choice["name"])


def alone(modality: str) -> str:
    """The name of the variant that uses one modality only."""
    return f"{modality} alone"


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """A folder name for each variant's name."""
    short = {name: re.sub(r"[^\w.=+-]+", "_", name).strip("_.")[:100] for name in names}
    clashing = {slug for slug in short.values() if list(short.values()).count(slug) > 1}
    return {
        name: f"{slug}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}" if slug in clashing else slug
        for name, slug in short.items()
    }


def group_runs(trained: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Runs by variant: those whose recipes say the same but for the seed and the table's place.

    A variant is named by its fusion (or its only modality), and where that is not enough by what differs, or by a
    run's folder if that is shorter.
    """
    groups: dict[str, list[TrainedRun]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for run in trained:
        recipe = comparable(run.plan)
        recipe["training"]["seed"] = 0
        key = json.dumps(recipe, sort_keys=True)
        recipes[key] = recipe
        groups.setdefault(key, []).append(run)
    short = {key: _plan_name(group[0].plan) for key, group in groups.items()}
    named = {}
    for key, group in groups.items():
        namesakes = [recipes[other] for other in groups if short[other] == short[key]]
        differing = {path: own for other in namesakes for path, own, _ in recipe_differences(recipes[key], other)}
        told = ", ".join(f"{path}={_spelled_out(differing[path])}" for path in sorted(differing))
        if len(told) > MOST_TOLD:
            told = str(group[0].folder)
        named[short[key] + (f" ({told})" if told else "")] = group
    return named


def _plan_name(plan: Plan) -> str:
    if len(plan.inputs) == 1:
        return alone(next(iter(plan.inputs)))
    assert plan.fusion is not None
    return _fusion_name(plan.fusion, len(plan.inputs))


def _fusion_name(fusion: FusionPlan, inputs: int) -> str:
    parts = [part if isinstance(part, str) else _fusion_name(part, inputs) for part in fusion.of]
    nested = len(parts) < inputs or any(not isinstance(part, str) for part in fusion.of)
    return f"{fusion.fusion.name}({', '.join(parts)})" if nested else fusion.fusion.name


def _spelled_out(value: Any) -> str:
    """An option's whole value, as what is left out could be what differs."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
