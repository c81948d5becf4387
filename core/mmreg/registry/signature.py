"""The parameters of a component's constructor, its own and inherited ones, and what the docstrings say of them."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from inspect import Parameter
from typing import Any

_ARGS = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)


def parameters(cls: type) -> dict[str, Parameter]:
    """The constructor's named parameters, each with its resolved type as the annotation (`Any` where it has none).

    A constructor that takes `**options` hands them on, as in `super().__init__(inputs, **options)`: the parameters of
    the next base class's constructor come first then, in that one's order. What both name is as the class itself says.
    """
    merged: dict[str, Parameter] = {}
    for owner in reversed(_owners(cls)):
        constructor = vars(owner).get("__init__")
        if constructor is None:
            continue
        hints = typing.get_type_hints(constructor, include_extras=True)
        _, *own = inspect.signature(constructor).parameters.values()
        for parameter in own:
            if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                merged[parameter.name] = parameter.replace(annotation=hints.get(parameter.name, Any))
    return merged


def argument_docs(cls: type) -> dict[str, str]:
    """What the docstrings say of each of the `parameters`, by name; the class's own words before those of its bases.

    They say it in the `Args:` section (Google form) of a class's docstring, or of its constructor's.
    """
    described: dict[str, str] = {}
    for owner in reversed(_owners(cls)):
        constructor = vars(owner).get("__init__")
        described |= _args_section(vars(owner).get("__doc__")) or _args_section(getattr(constructor, "__doc__", None))
    return described


def documentation(cls: type) -> str:
    """A class's docstring without its `Args:` section."""
    return _ARGS.sub("", inspect.cleandoc(cls.__doc__ or "") + "\n").strip()


def _owners(cls: type) -> list[type]:
    """The class and its bases, as far as the first constructor that hands no `**options` on."""
    owners = []
    for owner in cls.__mro__[:-1]:
        owners.append(owner)
        constructor = vars(owner).get("__init__")
        if constructor is not None and not _hands_on(constructor):
            break
    return owners


def _hands_on(constructor: Any) -> bool:
    return any(each.kind is Parameter.VAR_KEYWORD for each in inspect.signature(constructor).parameters.values())


def _args_section(docstring: str | None) -> dict[str, str]:
    """The `Args:` section of a docstring: text by parameter name."""
    section = _ARGS.search(inspect.cleandoc(docstring or "") + "\n")
    if section is None:
        return {}
    entries = re.split(r"^(\w+)(?: \([^)]*\))?:", textwrap.dedent(section.group(1)), flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(entries[1::2], entries[2::2], strict=True)}
