"""Bundled plugin: which modality decided a prediction, and what within it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg_explain.explanation import Explanation
    from mmreg_explain.modalities import explain
    from mmreg_explain.within import Attribution, explain_within

__all__ = ["Attribution", "Explanation", "explain", "explain_within"]

_WHERE = {"Explanation": "explanation", "explain": "modalities", "Attribution": "within", "explain_within": "within"}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: commands that only list plugins must not import torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'mmreg_explain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mmreg_explain.{_WHERE[name]}"), name)
