"""A JSON schema of recipes that covers the options of every installed component, for editors."""

from __future__ import annotations

import copy
from typing import Any

from mmreg import registry
from mmreg.errors import MmregError
from mmreg.options import json_schema
from mmreg.recipe.form import Form


def recipe_schema() -> dict[str, Any]:
    """The schema. Components that cannot be imported are left out; imports all others."""
    schema = Form.model_json_schema()
    definitions = schema["$defs"]
    _specialise(definitions, "Target", "task", "task")
    _specialise(definitions, "Input", "modality", "type", named_by_key=True)
    _specialise(definitions, "FusionNode", "fusion", "name")
    definitions["Encoder"] = copy.deepcopy(definitions["Named"])
    _specialise(definitions, "Encoder", "encoder", "name")
    encoder = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Encoder"}, {"type": "null"}]}
    for variant in [definitions["Input"], *definitions["Input"]["allOf"]]:
        if "encoder" in variant.get("properties", {}):
            variant["properties"]["encoder"] = encoder
    schema["properties"]["fusion"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/FusionNode"}, {"type": "null"}]}
    training = definitions["Training"]["properties"]
    for key in ("optimizer", "schedule"):
        training[key] = {
            "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Named"}, {"type": "null"}],
            "description": training[key].get("description", ""),
        }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _specialise(
    definitions: dict[str, Any], definition: str, kind: str, name_key: str, named_by_key: bool = False
) -> None:
    """Make a definition that is open to any option closed for each component that its name key may name."""
    open_form = definitions[definition]
    names = []
    rules = []
    for entry in registry.specs(kind):
        try:
            options = json_schema(registry.load(entry))
        except MmregError:
            continue
        definitions.update(options.pop("$defs", {}))
        properties = {**open_form["properties"], **options["properties"]}
        references = [entry.spec.name, entry.reference]
        names += references
        rules.append(
            {
                "if": {"properties": {name_key: {"enum": references}}, "required": [name_key]},
                "then": {
                    "properties": properties,
                    "required": options.get("required", []),
                    "additionalProperties": False,
                },
            }
        )
    open_form["additionalProperties"] = True
    open_form["allOf"] = rules
    name_schema = {"type": "string", "examples": sorted(set(names))}
    description = open_form["properties"][name_key].get("description", "")
    open_form["properties"][name_key] = {**name_schema, "description": description}
    if named_by_key:
        open_form["properties"][name_key] = {
            "anyOf": [name_schema, {"type": "null"}],
            "description": description,
        }
