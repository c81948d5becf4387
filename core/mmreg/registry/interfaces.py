"""Which class components of a kind implement, and whether one does."""

from __future__ import annotations

import importlib
from typing import Any

from mmreg.contract.kinds import KINDS
from mmreg.errors import RegistrationError


def interface(kind: str, level: str) -> type:
    """The class that components of a kind and level implement."""
    module, _, attribute = KINDS[kind].interfaces[level].partition(":")
    cls: type = getattr(importlib.import_module(module), attribute)
    return cls


def level_of(kind: str, cls: Any) -> str:
    """The level whose interface a class implements; empty if none."""
    levels = KINDS[kind].interfaces if kind in KINDS else {}
    matching = (level for level in levels if isinstance(cls, type) and issubclass(cls, interface(kind, level)))
    return next(matching, next(iter(levels), ""))


def check_class(kind: str, level: str, cls: Any) -> None:
    """Refuse what is no class that implements the interface of a kind and level.

    Raises:
        RegistrationError: says what is missing.
    """
    base = interface(kind, level)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise RegistrationError(f"a {kind} must be a subclass of mmreg.{base.__name__}, found {cls!r}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise RegistrationError(f"{cls.__name__} does not implement {', '.join(missing)} of {base.__name__}")
