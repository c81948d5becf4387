"""Damage to data of mappings, lists and values, such as JSON and YAML hold: the form stays, what it says is wrong."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from fuzzing.texts import VALUES


def damaged_tree(random: Random, data: Any) -> Any:
    """A copy with one to three of its nodes changed, deleted, doubled, exchanged or put deeper."""
    data = copy.deepcopy(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        nodes = list(_nodes(data))
        if not nodes:
            return random.choice(VALUES)
        holder, key = random.choice(nodes)
        change = random.choice((_replace, _replace, _near, _delete, _double, _exchange, _deepen))
        change(random, holder, key, nodes)
    return data


def _nodes(data: Any) -> list[tuple[Any, Any]]:
    """Where each node is: what holds it, and its key or index there."""
    found: list[tuple[Any, Any]] = []
    pending = [data]
    while pending:
        holder = pending.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            pending.append(holder[key])
    return found


def _replace(random: Random, holder: Any, key: Any, _: Any) -> None:
    holder[key] = copy.deepcopy(random.choice(VALUES))


def _near(random: Random, holder: Any, key: Any, _: Any) -> None:
    """A value of the same type, but another."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = random.choice((value + 1, -value, value * 1000, value / 3, value * 10**9, str(value)))
    elif isinstance(value, str):
        holder[key] = random.choice((value[:-1], value + "x", value.upper(), value[::-1], [value], value * 50))


def _delete(_: Random, holder: Any, key: Any, __: Any) -> None:
    del holder[key]


def _double(random: Random, holder: Any, key: Any, _: Any) -> None:
    value = copy.deepcopy(holder[key])
    if isinstance(holder, list):
        holder.extend([value] * random.choice((1, 3, 500)))
    else:
        holder[random.choice(("name", "x", "", str(key).upper(), f"{key} ", "a.b/c"))] = value


def _exchange(random: Random, holder: Any, key: Any, nodes: list[tuple[Any, Any]]) -> None:
    other, place = random.choice(nodes)
    holder[key] = copy.deepcopy(other[place])


def _deepen(random: Random, holder: Any, key: Any, _: Any) -> None:
    value = holder[key]
    for _level in range(random.choice((1, 2, 60))):
        value = [value] if random.random() < 0.5 else {"name": value}
    holder[key] = value
