"""The JSON schema of recipes whose values may be left open, made of that of plain ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmreg.recipe.ranges import SEARCHES, Range
from mmreg.recipe.search import FIXED, FIXED_ANYWHERE, FIXED_OF_TARGET, FIXED_OF_TRAINING

Schema = dict[str, Any]

FIXED_AT_TOP = {*FIXED, "table", "target", "targets", "training"}
FIXED_DEFINITIONS = {"MetricChoice", "CallbackChoice", "Fractions", "MissingRate", "Tables", "OneTable"}
"""What all trials have in common as a whole."""
FIXED_KEYS = {"Target": FIXED_OF_TARGET, "NamedTarget": FIXED_OF_TARGET, "Training": FIXED_OF_TRAINING}
"""The keys of other definitions that all trials have in common."""
TOLD = ("default", "description", "title")


def searched_schema(schema: Schema) -> Schema:
    """The schema of plain recipes, with a range or a choice allowed wherever `mmreg tune` takes one."""
    opened: dict[str, Schema] = {}
    top = {key: each for key, each in schema.items() if key != "$defs"}
    definitions = {
        name: each if name in FIXED_DEFINITIONS else _mapping(each, opened, FIXED_KEYS.get(name, ()))
        for name, each in schema["$defs"].items()
    }
    return {
        **_mapping(top, opened, FIXED_AT_TOP),
        "$defs": definitions | {each.pop("name"): each for each in opened.values()},
    }


def _mapping(schema: Schema, opened: dict[str, Schema], fixed: Collection[str] = ()) -> Schema:
    """A schema with what it says of values within opened, but for those of fixed keys; conditions stay as they are."""
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {
            key: each if key in fixed or key in FIXED_ANYWHERE else _value(each, opened)
            for key, each in schema["properties"].items()
        }
    for key in ("additionalProperties", "items"):
        if isinstance(schema.get(key), Mapping):
            result[key] = _value(schema[key], opened)
    if "prefixItems" in schema:
        result["prefixItems"] = [_value(each, opened) for each in schema["prefixItems"]]
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            result[key] = [_mapping(each, opened, fixed) for each in schema[key]]
    if "then" in schema:
        result["then"] = _mapping(schema["then"], opened, fixed)
    return result


def _value(schema: Schema, opened: dict[str, Schema]) -> Schema:
    """What may stand where one value may: the value, a range if it is a number, or a choice of all of these.

    Args:
        schema: of the value.
        opened: what values may be by their schemas as text; a definition each, as a choice may hold others.
    """
    plain = {key: each for key, each in schema.items() if key not in TOLD}
    text = json.dumps(plain, sort_keys=True)
    if text not in opened:
        opened[text] = {"name": f"Open{len(opened) + 1}"}
        own = {"$ref": f"#/$defs/{opened[text]['name']}"}
        choices = {"type": "array", "items": own, "minItems": 2, "uniqueItems": True}
        # A component that needs no name would take a choice for options of its own: a choice is told apart first.
        opened[text] |= {
            "if": {"type": "object", "required": ["choice"], "maxProperties": 1},
            "then": {"properties": {"choice": choices}},
            "else": {"anyOf": [_mapping(plain, opened), *map(_range, _numbers(plain))]},
        }
    told = {key: each for key, each in schema.items() if key in TOLD}
    return {"$ref": f"#/$defs/{opened[text]['name']}", **told}


def _numbers(schema: Schema) -> Iterator[Schema]:
    """The schemas of numbers that a value may be."""
    if schema.get("type") in ("number", "integer"):
        yield schema
    for each in schema.get("anyOf", ()):
        yield from _numbers(each)


def _range(number: Schema) -> Schema:
    """A range both ends of which are such numbers."""
    schema = Range.model_json_schema()
    ends = {key: each for key, each in number.items() if key not in TOLD}
    properties = schema["properties"]
    for end in ("low", "high"):
        properties[end] = {**ends, "description": properties[end]["description"]}
    searches = ["int"] if number["type"] == "integer" else list(SEARCHES)
    properties["search"] = {"enum": searches, "description": properties["search"]["description"]}
    return schema
