"""A JSON schema of recipes that covers the options of every installed component, for editors."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from mmreg import registry
from mmreg.errors import MmregError
from mmreg.recipe.form import Form
from mmreg.registry.options import json_schema

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """The schema. Components that cannot be imported are left out; imports all others."""
    schema = Form.model_json_schema()
    definitions = schema["$defs"]
    _specialise(definitions, "Target", "task", "task")
    modalities = _specialise(definitions, "Input", "modality", "type")
    _specialise(definitions, "FusionNode", "fusion", "name")
    definitions["Encoder"] = copy.deepcopy(definitions["Named"])
    _specialise(definitions, "Encoder", "encoder", "name")
    encoder = _component(definitions, "Encoder")
    for form in [definitions["Input"], *modalities.values()]:
        form["properties"]["encoder"] = encoder
        form["properties"]["type"] = {"anyOf": [form["properties"]["type"], {"type": "null"}]}
    schema["properties"]["modalities"] |= _inputs(modalities)
    schema["properties"]["fusion"] = _component(definitions, "FusionNode")
    training = definitions["Training"]["properties"]
    for key in ("optimizer", "schedule"):
        training[key] = {
            "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Named"}, {"type": "null"}],
            "description": training[key].get("description", ""),
        }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _specialise(definitions: dict[str, Schema], definition: str, kind: str, name_key: str) -> dict[str, Schema]:
    """Close a definition that is open to any option, differently for each component that its name key may name.

    Returns:
        The closed form by the component's name.
    """
    form = definitions[definition]
    entries = registry.specs(kind)
    count = Counter(entry.spec.name for entry in entries)
    closed: dict[str, Schema] = {}
    rules = []
    for entry in entries:
        try:
            options = json_schema(registry.load(entry))
        except MmregError:
            continue
        definitions.update(options.pop("$defs", {}))
        names = [entry.reference] if count[entry.spec.name] > 1 else [entry.spec.name, entry.reference]
        closed[names[0]] = {
            "properties": {**form["properties"], **options["properties"]},
            "required": options.get("required", []),
            "additionalProperties": False,
        }
        condition = {"properties": {name_key: {"enum": names}}, "required": [name_key]}
        rules.append({"if": condition, "then": closed[names[0]]})
    default = form["properties"][name_key].get("default")
    if default in closed:
        rules.append({"if": {"not": {"required": [name_key]}}, "then": closed[default]})
    form["additionalProperties"] = True
    form["allOf"] = rules
    description = form["properties"][name_key].get("description", "")
    # Editors offer the names; one that says where it comes from, such as "dist:name", is left to `mmreg validate`.
    known = [{"enum": sorted(closed)}, {"type": "string", "pattern": "[:/]"}]
    form["properties"][name_key] = {"anyOf": known, "description": description}
    return closed


def _component(definitions: dict[str, Schema], definition: str) -> Schema:
    """A component by its bare name, or with its options; null for none."""
    names = definitions[definition]["properties"]["name"]["anyOf"]
    return {"anyOf": [*names, {"$ref": f"#/$defs/{definition}"}, {"type": "null"}]}


def _inputs(modalities: dict[str, Schema]) -> Schema:
    """Inputs by name: one that says no type is of the modality whose name it has."""
    given = {"$ref": "#/$defs/Input"}
    untyped = {"not": {"required": ["type"]}}
    return {
        "properties": {name: {"allOf": [given, {"if": untyped, "then": form}]} for name, form in modalities.items()},
        "additionalProperties": {"allOf": [given, {"required": ["type"]}]},
    }
