"""The names of variants: of a grid's choices, and of runs that somebody trained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmreg.errors import RunError
from mmreg.recipe.components import FusionPlan
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.studies.compare.outcomes import Outcome

MOST_TOLD = 160
"""Characters of what differs between variants that a name may hold."""


def choice_name(choice: str | Mapping[str, Any]) -> str:
    """A component as a recipe names it, in short: "low_rank", "low_rank(rank=8)", "product(low_rank(a, b), c)"."""
    if isinstance(choice, str):
        return choice
    inner = [choice_name(part) for part in choice.get("of") or ()]
    inner += [f"{key}={_short(value)}" for key, value in choice.items() if key not in ("name", "of")]
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


def group_runs(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Runs by variant: those whose recipes say the same but for the seed and the table's place.

    A variant is named by its fusion (or its only modality), and where that is not enough by what differs, or by a
    run's folder if that is shorter.

    Raises:
        RunError: two runs have the same recipe, seed included.
    """
    groups: dict[str, list[Outcome]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        data = recipe_data(outcome.plan)
        data.pop("table")
        seed = data["training"].pop("seed")
        key = json.dumps(data, sort_keys=True)
        recipes[key] = data
        for other in groups.setdefault(key, []):
            if other.seed == seed:
                raise RunError(f"{other.folder} and {outcome.folder} are the same recipe with the same seed, {seed}")
        groups[key].append(outcome)
    names = {key: _plan_name(group[0].plan) for key, group in groups.items()}
    found = {}
    for key, group in groups.items():
        alike = [recipes[other] for other in groups if names[other] == names[key]]
        different = sorted({path for other in alike for path, _, _ in differences(recipes[key], other)})
        told = ", ".join(f"{path}={_short(_at(recipes[key], path))}" for path in different)
        if len(told) > MOST_TOLD:
            told = str(group[0].folder)
        found[names[key] + (f" ({told})" if told else "")] = group
    return found


def recipe_data(plan: Plan) -> dict[str, Any]:
    """A resolved recipe as it stands in a run's folder."""
    return Recipe(plan.to_data()).to_data()


def differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two recipes differ: the dotted key, and what stands there in each (None: nothing)."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield path, before, now


def _at(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _plan_name(plan: Plan) -> str:
    if len(plan.inputs) == 1:
        return alone(next(iter(plan.inputs)))
    assert plan.fusion is not None
    return _fusion_name(plan.fusion, len(plan.inputs))


def _fusion_name(fusion: FusionPlan, inputs: int) -> str:
    parts = [part if isinstance(part, str) else _fusion_name(part, inputs) for part in fusion.of]
    nested = len(parts) < inputs or any(not isinstance(part, str) for part in fusion.of)
    return f"{fusion.fusion.name}({', '.join(parts)})" if nested else fusion.fusion.name


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
