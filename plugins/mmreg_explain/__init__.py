"""Bundled plugin: which modality decided a prediction, and what within it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg_explain.explanation import Explanation
    from mmreg_explain.modalities import explain
    from mmreg_explain.within import Attribution, explain_within

__all__ = ["Attribution", "Explanation", "explain", "explain_within"]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: commands that only list plugins must not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'mmreg_explain' has no attribute {name!r}")
    from mmreg_explain import explanation, modalities, within

    return next(getattr(module, name) for module in (explanation, modalities, within) if hasattr(module, name))
