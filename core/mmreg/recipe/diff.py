"""Where two recipes differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmreg.recipe.recipe import Recipe


def recipe_differences(before: Recipe, now: Recipe) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which two recipes differ, each with what stands there in the first and in the second.

    What stands nowhere is None. The table's place does not count, as a table may be moved.
    """
    old, new = ({**recipe.to_data(), "table": None} for recipe in (before, now))
    return list(_differences(old, new, ""))


def _differences(before: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield path, before, now
