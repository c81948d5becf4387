"""mmreg: a plugin-based modality registry for PyTorch.

The names below are all there is to import. Each is loaded when it is first used, so that `import mmreg` stays fast
and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg import registry, testing
    from mmreg.api import build_model, load, train
    from mmreg.callbacks import Callback
    from mmreg.comparing import compare
    from mmreg.components import CommandSpec, ComponentSpec, SourceSpec
    from mmreg.errors import MmregError
    from mmreg.fusing import fuse
    from mmreg.hookspecs import hookimpl
    from mmreg.interfaces import Encoder, FeatureFusion, Modality, ModelFusion, Task
    from mmreg.recipe import Recipe
    from mmreg.runs import Run
    from mmreg.signals import Features, Fused, Signal
    from mmreg.spec import GRID, SEQUENCE, TOKENS, VECTOR, Spec

_WHERE = {
    "build_model": "mmreg.api",
    "load": "mmreg.api",
    "train": "mmreg.api",
    "Callback": "mmreg.callbacks",
    "compare": "mmreg.comparing",
    "CommandSpec": "mmreg.components",
    "ComponentSpec": "mmreg.components",
    "SourceSpec": "mmreg.components",
    "MmregError": "mmreg.errors",
    "fuse": "mmreg.fusing",
    "hookimpl": "mmreg.hookspecs",
    "Encoder": "mmreg.interfaces",
    "FeatureFusion": "mmreg.interfaces",
    "Modality": "mmreg.interfaces",
    "ModelFusion": "mmreg.interfaces",
    "Task": "mmreg.interfaces",
    "Recipe": "mmreg.recipe",
    "Run": "mmreg.runs",
    "Features": "mmreg.signals",
    "Fused": "mmreg.signals",
    "Signal": "mmreg.signals",
    "GRID": "mmreg.spec",
    "SEQUENCE": "mmreg.spec",
    "TOKENS": "mmreg.spec",
    "VECTOR": "mmreg.spec",
    "Spec": "mmreg.spec",
}

__all__ = [
    "GRID",
    "SEQUENCE",
    "TOKENS",
    "VECTOR",
    "Callback",
    "CommandSpec",
    "ComponentSpec",
    "Encoder",
    "FeatureFusion",
    "Features",
    "Fused",
    "MmregError",
    "Modality",
    "ModelFusion",
    "Recipe",
    "Run",
    "Signal",
    "SourceSpec",
    "Spec",
    "Task",
    "build_model",
    "compare",
    "fuse",
    "hookimpl",
    "load",
    "registry",
    "testing",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("registry", "testing"):
        return importlib.import_module(f"mmreg.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'mmreg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
