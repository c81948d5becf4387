"""YAML as plain data, with the line that every key stands on."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mmreg.errors import RecipeError
from mmreg.registry.options import KeyPath


class _Loader(yaml.SafeLoader):
    """Safe YAML with the numbers and booleans of YAML 1.2: 1e-3 is a number; yes, no, on and off are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    "-+.0123456789",
)


def read_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parse YAML.

    Args:
        text: the document.
        name: what it is called in messages.

    Returns:
        Plain data, and for the path of every key and list item the line it stands on, from 1.

    Raises:
        RecipeError: the text is no YAML, a key stands twice, or a tag asks for an object to be built.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[KeyPath, int] = {}
            return (None if node is None else _plain(loader, node, (), lines, name)), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{name}, line {line}: this is no valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: this is no valid YAML: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{name}: this is nested too deeply, or an alias refers to itself") from error


def _plain(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    here = node.start_mark.line + 1
    lines.setdefault(path, here)
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
        raise RecipeError(f"{name}, line {here}: the tag {node.tag!r} is refused; a recipe holds plain data only")
    if isinstance(node, yaml.MappingNode):
        data: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str | int | float | bool | None):
                raise RecipeError(f"{name}, line {line}: a key must be a word, found {key!r}")
            key = key if isinstance(key, str) else str(key_node.value)
            if key in data:
                raise RecipeError(
                    f"{name}, line {line}: the key {key!r} stands here twice, first in line {lines[(*path, key)]}"
                )
            lines[(*path, key)] = line
            data[key] = _plain(loader, value_node, (*path, key), lines, name)
        return data
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, index), lines, name) for index, item in enumerate(node.value)]
    return loader.construct_object(node)
