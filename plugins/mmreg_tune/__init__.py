"""Searches for the values that a recipe leaves open: `mmreg tune`, or `mmreg_tune.tune` from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg_tune.results import TrialResult, Tuning
    from mmreg_tune.study import tune

__all__ = ["TrialResult", "Tuning", "tune"]


def __getattr__(name: str) -> Any:
    if name == "tune":
        from mmreg_tune.study import tune

        return tune
    if name in __all__:
        from mmreg_tune import results

        return getattr(results, name)
    raise AttributeError(f"module 'mmreg_tune' has no attribute {name!r}")
