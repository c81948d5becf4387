"""Where two recipes differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmreg.recipe.assets import digest

if TYPE_CHECKING:  # it imports torch, which looking at two recipes does without
    from mmreg.recipe.resolve import Plan

Difference = tuple[str, Any, Any]
"""A dotted key, and what stands there in the first and in the second recipe; None where nothing does."""


def comparable(plan: Plan) -> dict[str, Any]:
    """A recipe as plain data without what changes nothing of a training: the table's place, and who follows.

    The table may be moved, and is known by its fingerprint; assets are known by their contents.
    """
    data = plan.to_data(lambda path: digest(path) or path)
    del data["table"], data["callbacks"]
    return data


def recipe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Where two recipes differ, as plain data."""
    return list(_differences(before, now, ""))


def _differences(before: Any, now: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        if before.get("name") != now.get("name"):  # options of different components have nothing in common
            yield f"{path}.name", before.get("name"), now.get("name")
            return
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield path, before, now
