"""YAML as plain data, with the line that every key stands on; and plain data as YAML."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mmreg.errors import RecipeError
from mmreg.messages import shortened, shown
from mmreg.registry.options import KeyPath

MOST_BYTES = 1 << 20
"""Bytes that a document may have: it takes seconds to read so many."""
MOST_REPEATED = 10_000
"""Values that aliases may add to those which are written out."""
DEEPEST = 100
"""Brackets that may be open at a time."""
_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
)
"""What YAML 1.2 takes for null, a truth value or a number, and how it begins; all else is text."""
_PATTERNS = {name: re.compile(f"^(?:{pattern})$") for name, pattern, _ in _SCALARS}
_TAGS = {"mapping": ("map",), "sequence": ("seq",), "scalar": ("str", *_PATTERNS)}


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: 1e-3 is a number; yes, no, on and off are words."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level >= DEEPEST:  # the scanner takes quadratic time before anything else would notice
            raise RecursionError
        super().fetch_flow_collection_start(token_class)


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts quotes around texts that a loader of YAML 1.1 or 1.2 takes for something else."""


_Loader.yaml_implicit_resolvers = {}
for _name, _, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, _PATTERNS[_name], [*_first, *([""] if _name == "null" else [])])


def read_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parse YAML.

    Args:
        text: the document.
        name: what it is called in messages.

    Returns:
        Plain data, and for the path of every key and list item the line it stands on, from 1.

    Raises:
        RecipeError: the text is no YAML, is too large, also by its aliases, a key stands twice, a number is none or has
            more than 64 bits, or a tag asks for an object to be built.
    """
    if len(text) > MOST_BYTES:
        raise RecipeError(f"{name}: {len(text):,} characters of YAML are refused; there may be {MOST_BYTES:,}")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(name, len(text) + MOST_REPEATED)
            return (None if node is None else reader.plain(node, ())), reader.lines
        finally:
            loader.dispose()
    except RecipeError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{name}, line {line}: this is no valid YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        told = f"the character U+{error.character:04X}"
        raise RecipeError(f"{name}, line {line}: this is no valid YAML: {told} may not stand in it") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter of an escape that means no character
        raise RecipeError(f"{name}: this is no valid YAML: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{name}: this is nested too deeply, or an alias refers to itself") from error


class _Reader:
    """Makes plain data of nodes.

    Args:
        name: what the document is called in messages.
        most: values that there may be; a written one takes a character at least, and aliases repeat them.

    Attributes:
        lines: the line of every key and list item.
    """

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most = name, most
        self.values = 0
        self.lines: dict[KeyPath, int] = {}

    def refuse(self, node: yaml.Node, why: str) -> RecipeError:
        """An error that names a node's line."""
        return RecipeError(f"{self.name}, line {node.start_mark.line + 1}: {why}")

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        """A node as plain data."""
        self.values += 1
        if self.values > self.most:
            raise self.refuse(node, f"aliases repeat more than {MOST_REPEATED:,} values; write out what is meant")
        self.lines.setdefault(path, node.start_mark.line + 1)
        kind = self.kind(node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, kind)

    def kind(self, node: yaml.Node) -> str:
        """What a node is by its tag, which must be one that its form may have; its text must be one."""
        if isinstance(node, yaml.ScalarNode):
            try:  # JSON writes characters beyond the first 65,536 as pairs
                node.value = node.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError as error:
                told = f"{shown(node.value)} holds what is no character of Unicode"
                raise self.refuse(node, told) from error
        kind = str(node.tag).removeprefix(_TAG)
        if kind not in _TAGS[_form(node)]:
            raise self.refuse(node, f"the tag {shortened(node.tag)!r} is refused; a recipe holds plain data only")
        return kind

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        """A mapping, its keys as they are written."""
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse(key_node, f"a key must be a word, found a {_form(key_node)}")
            self.kind(key_node)
            key = str(key_node.value)
            if key in data:
                first = self.lines[(*path, key)]
                raise self.refuse(key_node, f"the key {key!r} stands here twice, first in line {first}")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            data[key] = self.plain(value_node, (*path, key))
        return data

    def scalar(self, node: yaml.Node, kind: str) -> Any:
        """A text, a number, a truth value or nothing."""
        text: str = node.value
        if kind == "str":
            return text
        if not _PATTERNS[kind].match(text):
            raise self.refuse(node, f"{shown(text)} is no {kind}")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        digits = text.lstrip("+-")
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        number = int(text, base) if len(digits) <= 25 else 1 << 64
        if not -(1 << 63) <= number < 1 << 64:
            raise self.refuse(node, f"the number {shown(text)} has more than 64 bits")
        return number


def _form(node: yaml.Node) -> str:
    forms = {yaml.MappingNode: "mapping", yaml.SequenceNode: "sequence"}
    return next((name for kind, name in forms.items() if isinstance(node, kind)), "scalar")


def yaml_text(value: Any, *, flow: bool = False) -> str:
    """Plain data as YAML that `read_yaml` reads back: a line for every key, or all in one as within brackets."""
    if not flow:
        return str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False))
    text = str(yaml.dump([value], Dumper=_Dumper, allow_unicode=True, default_flow_style=True, width=1_000_000))
    return text.strip()[1:-1]
