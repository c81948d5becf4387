"""A constructor's signature as the schema of its options: types, bounds, defaults and documentation."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from mmreg.errors import OptionError
from mmreg.messages import near, shown
from mmreg.registry.signature import argument_docs, parameters

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value of a recipe."""

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with some options.

    Attributes:
        path: the keys that lead to it.
        message: what was found, what is allowed and the nearest match, in words that read on after the key.
    """

    path: KeyPath
    message: str

    def __str__(self) -> str:
        key = ".".join(str(part) for part in self.path)
        return f"{key}: {self.message}" if key else self.message


@cache
def options_model(cls: type) -> type[BaseModel]:
    """The keyword-only parameters of a class's constructor as a pydantic model, less what is passed in."""
    passed_in: frozenset[str] = getattr(cls, "passed_in", frozenset())
    described = argument_docs(cls)
    fields: dict[str, Any] = {}
    for name, parameter in parameters(cls).items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name in passed_in:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        # A field must not start with an underscore or shadow a method of pydantic's: the alias carries the real name.
        fields[f"option_{name}"] = (
            parameter.annotation,
            Field(default, alias=name, description=described.get(name)),
        )
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(cls.__name__, __config__=config, **fields)


def option_names(cls: type) -> set[str]:
    """The names of a class's options."""
    return {info.alias or name for name, info in options_model(cls).model_fields.items()}


def marked(cls: type, mark: type[Mark]) -> dict[str, Mark]:
    """The options of a class whose type is marked so, by name; see `mmreg.contract.markers`."""
    found = {}
    for name, info in options_model(cls).model_fields.items():
        marks = [each for each in (*info.metadata, *_metadata(info.annotation)) if isinstance(each, mark)]
        if marks:
            found[info.alias or name] = marks[0]
    return found


def _metadata(annotation: Any) -> list[Any]:
    """What a type is annotated with, at any depth."""
    inner = [each for part in typing.get_args(annotation) for each in _metadata(part)]
    return [*getattr(annotation, "__metadata__", ()), *inner]


def find_problems(cls: type, options: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with options for this class; nothing if they are right."""
    return validate(options_model(cls), options)[1]


def check_options(cls: type, options: Mapping[str, Any], what: str = "") -> dict[str, Any]:
    """Options checked and completed with their defaults.

    Args:
        cls: the class whose constructor they are for.
        options: by name.
        what: whose options they are, for the message; the class's name if empty.

    Raises:
        OptionError: names every problem.
    """
    checked, problems = validate(options_model(cls), options)
    if problems:
        raise OptionError(f"{what or cls.__name__}: " + "; ".join(str(problem) for problem in problems))
    return checked


def validate(
    model: type[BaseModel], data: Mapping[str, Any], beside: Sequence[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """Check data by a pydantic model: its fields by name, and the problems in words of our own.

    Data are checked as JSON is: a list may stand for a tuple and a text for a path, but "3" is no number.

    Args:
        model: whose fields they are.
        data: by name.
        beside: keys that may stand beside these data and are checked elsewhere, for what is told of an unknown key.
    """
    try:
        plain = json.dumps(data, default=_plain)
    except (TypeError, ValueError) as error:
        return {}, [Problem((), f"must be plain data such as YAML can hold ({error})")]
    try:
        checked = model.model_validate_json(plain)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":  # nothing else is wrong with what json wrote
            return {}, [Problem((), "must hold characters of Unicode only; rename a file whose name is not UTF-8")]
        return {}, _problems(error, data, model, beside)
    return {info.alias or name: getattr(checked, name) for name, info in model.model_fields.items()}, []


def _plain(value: object) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"found {value!r} of type {type(value).__name__}")


def _problems(
    error: ValidationError, data: Mapping[str, Any], model: type[BaseModel], beside: Sequence[str]
) -> list[Problem]:
    """Pydantic's errors, those for the alternatives of one union as one problem."""
    messages: dict[KeyPath, list[str]] = {}
    found: dict[KeyPath, Any] = {}
    for item in error.errors(include_url=False):
        path, value = _follow(data, item["loc"])
        if item["type"] == "missing":
            path, message = (*path, str(item["loc"][-1])), "is missing"
        elif item["type"] == "extra_forbidden":
            names = [info.alias or name for name, info in _model_at(model, path).model_fields.items()]
            names += [key for key in beside if len(path) == 1 and key not in names]
            message = f"is no option here{near(str(path[-1]), names)} (there are {', '.join(names) or 'none'})"
        else:
            message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            message = message.replace("an object", "a mapping").replace("a valid string", "text")
            found[path] = value
        if message not in messages.setdefault(path, []):
            messages[path].append(message)
    problems = []
    for path, texts in messages.items():
        if len(texts) == 1 and path in found and any(len(p) > len(path) and p[: len(path)] == path for p in messages):
            continue  # one alternative's error, where another one's is told in more detail
        text = " or ".join([texts[0], *(other.removeprefix("must be ") for other in texts[1:])])
        problems.append(Problem(path, f"{text}, found {shown(found[path])}" if path in found else text))
    return problems


def _follow(data: Any, location: tuple[str | int, ...]) -> tuple[KeyPath, Any]:
    """As much of a pydantic location as leads somewhere in the data (the rest names members of unions)."""
    path: list[str | int] = []
    for step in location:
        if isinstance(data, Mapping):
            inside = step in data
        else:
            inside = isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)
        if inside:
            data = data[step]
            path.append(step)
    return tuple(path), data


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model that the last key of a path belongs to."""
    for step in path[:-1]:
        info = next((i for n, i in model.model_fields.items() if (i.alias or n) == step), None)
        annotations = [] if info is None else [info.annotation, *typing.get_args(info.annotation)]
        for candidate in annotations:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return model


def describe_options(cls: type) -> list[dict[str, Any]]:
    """Each option as plain data: name, type, default (absent if required), required, bounds, description."""
    schema = options_model(cls).model_json_schema()
    definitions = schema.get("$defs", {})
    rows = []
    for name, info in options_model(cls).model_fields.items():
        option = info.alias or name
        entry = schema["properties"][option]
        row: dict[str, Any] = {
            "name": option,
            "type": type_text(entry, definitions),
            "required": info.is_required(),
            "bounds": _bounds(entry),
            "description": info.description or "",
        }
        if not info.is_required():
            row["default"] = _default(info)
        rows.append(row)
    return rows


def _bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of a number, also where something else may stand instead of it."""
    found = [{key: _whole(member[key]) for key in _BOUNDS if key in member} for member in schema.get("anyOf", [schema])]
    return next((bounds for bounds in found if bounds), {})


def _default(info: FieldInfo) -> Any:
    return json.loads(json.dumps(info.get_default(call_default_factory=True), default=_plain))


def _whole(bound: float) -> float:
    """A bound as it is told: `typing` gives 1000 for 1e3 where an equal annotation with 1000 was made before."""
    return int(bound) if float(bound).is_integer() else bound


_BOUNDS = {"minimum": ">= {}", "exclusiveMinimum": "> {}", "maximum": "<= {}", "exclusiveMaximum": "< {}"}


def type_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema of one value in words, such as "integer >= 1" or "one of flatten, global"."""
    if "component" in schema:
        return f"{schema['component']} by name, or with options"
    if "$ref" in schema:
        return type_text(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in schema:
        return " or ".join(type_text(member, definitions) for member in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "one of " + ", ".join(str(value) for value in values) if len(values) > 1 else str(values[0])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return "[" + ", ".join(type_text(item, definitions) for item in schema["prefixItems"]) + "]"
        return f"list of {type_text(schema.get('items', {}), definitions)}"
    if schema.get("type") == "object":
        if "properties" in schema:
            inner = ", ".join(f"{k}: {type_text(v, definitions)}" for k, v in schema["properties"].items())
            return f"{{{inner}}}"
        values = schema.get("additionalProperties")
        return f"mapping to {type_text(values, definitions)}" if isinstance(values, Mapping) else "mapping"
    bounds = " and ".join(text.format(_whole(schema[key])) for key, text in _BOUNDS.items() if key in schema)
    return f"{schema.get('type', 'any')} {bounds}".strip()


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON schema of a class's options, as an object that allows no others."""
    return options_model(cls).model_json_schema()
