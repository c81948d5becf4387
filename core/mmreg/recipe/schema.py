"""A JSON schema of recipes that covers the options of every installed component, for editors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from mmreg import registry
from mmreg.errors import MmregError
from mmreg.recipe.finder import WITH_WEIGHTS
from mmreg.recipe.form import Form, Weights
from mmreg.recipe.searched_schema import searched_schema
from mmreg.registry.options import json_schema

Schema = dict[str, Any]

CHOICES = {
    "encoder": "EncoderChoice",
    "fusion": "FusionChoice",
    "optimizer": "OptimizerChoice",
    "schedule": "ScheduleChoice",
    "balance": "BalanceChoice",
    "metric": "MetricChoice",
    "callback": "CallbackChoice",
}
"""Where a component may be named by its bare name or with options: the definition of each kind."""


def recipe_schema(searched: bool = False) -> Schema:
    """The schema. Components that cannot be imported are left out; imports all others.

    Args:
        searched: whether values may be left open, by ranges and choices, as `mmreg tune` takes them.
    """
    schema = Form.model_json_schema()
    definitions = schema["$defs"]
    _specialise(definitions, "Target", "task", "task")
    _specialise(definitions, "NamedTarget", "task", "task")
    modalities = _specialise(definitions, "Input", "modality", "type")
    for kind, definition in CHOICES.items():
        _specialise(definitions, definition, kind, "name", _task_metrics() if kind == "metric" else ())
    for form in [definitions["Input"], *modalities.values()]:
        form["properties"]["type"] = {"anyOf": [form["properties"]["type"], {"type": "null"}]}
    schema["properties"]["modalities"] |= _inputs(modalities)
    schema["oneOf"] = [{"required": ["target"]}, {"required": ["targets"]}]
    allowed: Schema = _with_bare_names(schema)
    allowed["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return searched_schema(allowed) if searched else allowed


def _specialise(
    definitions: dict[str, Schema], definition: str, kind: str, name_key: str, further: Iterable[str] = ()
) -> dict[str, Schema]:
    """Close a definition that is open to any option, differently for each component that its name key may name.

    Args:
        definitions: of the whole schema.
        definition: which one.
        kind: of the components.
        name_key: the key that names one.
        further: names that stand for something else and take no options.

    Returns:
        The closed form by the component's name.
    """
    form = definitions[definition]
    weights = Weights.model_json_schema() if kind in WITH_WEIGHTS else {}
    definitions.update(weights.pop("$defs", {}))
    weights = weights.get("properties", {})
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
            "properties": {**form["properties"], **weights, **options["properties"]},
            "required": options.get("required", []),
            "additionalProperties": False,
        }
        condition = {"properties": {name_key: {"enum": names}}, "required": [name_key]}
        rules.append({"if": condition, "then": closed[names[0]]})
    default = form["properties"][name_key].get("default")
    if default in closed:
        rules.append({"if": {"not": {"required": [name_key]}}, "then": closed[default]})
    form["additionalProperties"] = True
    if rules:
        form["allOf"] = rules
    description = form["properties"][name_key].get("description", "")
    # Editors offer the names; one that says where it comes from, such as "dist:name", is left to `mmreg validate`.
    known = [{"enum": sorted({*closed, *further})}, {"type": "string", "pattern": "[:/]"}]
    form["properties"][name_key] = {"anyOf": known, "description": description}
    return closed


def _task_metrics() -> set[str]:
    """The metrics that the installed tasks have of their own."""
    names: set[str] = set()
    for entry in registry.specs("task"):
        try:
            names.update(registry.load(entry).metrics)  # type: ignore[attr-defined]
        except MmregError:
            continue
    return names


def _with_bare_names(schema: Any) -> Any:
    """The schema, with every place of a component open to its bare name as well."""
    names = schema["$defs"]
    choices = {f"#/$defs/{definition}": definition for definition in CHOICES.values()}

    def opened(node: Any) -> Any:
        if isinstance(node, list):
            return [opened(item) for item in node]
        if not isinstance(node, dict):
            return node
        definition = choices.get(node.get("$ref", "")) or CHOICES.get(str(node.get("component", "")))
        if definition is None:
            return {key: opened(value) for key, value in node.items()}
        bare = names[definition]["properties"]["name"]["anyOf"]
        told = {key: value for key, value in node.items() if key in ("default", "description", "title")}
        return {"anyOf": [*bare, {"$ref": f"#/$defs/{definition}"}], **told}

    return opened(schema)


def _inputs(modalities: dict[str, Schema]) -> Schema:
    """Inputs by name: one that says no type is of the modality whose name it has."""
    given = {"$ref": "#/$defs/Input"}
    untyped = {"not": {"required": ["type"]}}
    return {
        "properties": {name: {"allOf": [given, {"if": untyped, "then": form}]} for name, form in modalities.items()},
        "additionalProperties": {"allOf": [given, {"required": ["type"]}]},
    }
