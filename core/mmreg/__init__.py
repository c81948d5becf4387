"""mmreg: a plugin-based modality registry for PyTorch.

The names below are public, and so are the modules `errors`, `files`, `layers`, `convolution`, `pretrained`, `messages`,
`console`, `registry`, `sections` and `testing`. Each is loaded when it is first used, so that `import mmreg` stays fast
and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg import console, convolution, errors, files, layers, messages, pretrained, registry, sections, testing
    from mmreg.contract.balance import Balance, BalanceBatch, EncoderGradients, Observed
    from mmreg.contract.callback import Callback, FollowedRun, Step
    from mmreg.contract.components import CommandSpec, ComponentSpec, EngineSpec, SectionSpec, SourceSpec
    from mmreg.contract.engine import Engine
    from mmreg.contract.fusion import FeatureFusion, ModelFusion
    from mmreg.contract.hookspecs import hookimpl
    from mmreg.contract.interfaces import Encoder, EncoderSuggestion, Modality, Outputs
    from mmreg.contract.markers import Asset, ComponentOf, WeightsAsset
    from mmreg.contract.metrics import Epoch, MetricValue
    from mmreg.contract.optimization import Optimizer, ParameterGroup, Schedule
    from mmreg.contract.signals import Features, Fused, Signal
    from mmreg.contract.spec import GRID, SEQUENCE, TOKENS, VECTOR, Spec
    from mmreg.contract.target_values import TargetValues
    from mmreg.contract.task import Concern, Metric, Space, Task
    from mmreg.data.dialect import TableFile
    from mmreg.errors import MmregError
    from mmreg.experiment import build_model
    from mmreg.recipe.recipe import Recipe
    from mmreg.recipe.search import SearchedRecipe
    from mmreg.runs.fuse import fuse
    from mmreg.runs.loading import load
    from mmreg.runs.run import Run
    from mmreg.studies.compare import compare
    from mmreg.training.checking import validate
    from mmreg.training.find_lr import find_lr
    from mmreg.training.parameters import count_trained
    from mmreg.training.refit import refit
    from mmreg.training.signals import Signals
    from mmreg.training.stopping import Stop, Stopped
    from mmreg.training.train import finish, train

_MODULES = (
    "console",
    "convolution",
    "errors",
    "files",
    "layers",
    "messages",
    "pretrained",
    "registry",
    "sections",
    "testing",
)
_NAMES = {
    "mmreg.contract.balance": ["Balance", "BalanceBatch", "EncoderGradients", "Observed"],
    "mmreg.contract.callback": ["Callback", "FollowedRun", "Step"],
    "mmreg.contract.components": ["CommandSpec", "ComponentSpec", "EngineSpec", "SectionSpec", "SourceSpec"],
    "mmreg.contract.engine": ["Engine"],
    "mmreg.contract.hookspecs": ["hookimpl"],
    "mmreg.contract.fusion": ["FeatureFusion", "ModelFusion"],
    "mmreg.contract.interfaces": ["Encoder", "EncoderSuggestion", "Modality", "Outputs"],
    "mmreg.contract.task": ["Concern", "Metric", "Space", "Task"],
    "mmreg.contract.target_values": ["TargetValues"],
    "mmreg.contract.markers": ["Asset", "ComponentOf", "WeightsAsset"],
    "mmreg.contract.metrics": ["Epoch", "MetricValue"],
    "mmreg.contract.optimization": ["Optimizer", "ParameterGroup", "Schedule"],
    "mmreg.contract.signals": ["Features", "Fused", "Signal"],
    "mmreg.contract.spec": ["GRID", "SEQUENCE", "TOKENS", "VECTOR", "Spec"],
    "mmreg.data.dialect": ["TableFile"],
    "mmreg.errors": ["MmregError"],
    "mmreg.experiment": ["build_model"],
    "mmreg.recipe.recipe": ["Recipe"],
    "mmreg.recipe.search": ["SearchedRecipe"],
    "mmreg.runs.fuse": ["fuse"],
    "mmreg.runs.loading": ["load"],
    "mmreg.runs.run": ["Run"],
    "mmreg.studies.compare": ["compare"],
    "mmreg.studies.ensembles": ["cross_validate", "train_seeds"],
    "mmreg.training.checking": ["validate"],
    "mmreg.training.find_lr": ["find_lr"],
    "mmreg.training.parameters": ["count_trained"],
    "mmreg.training.refit": ["refit"],
    "mmreg.training.signals": ["Signals"],
    "mmreg.training.stopping": ["Stop", "Stopped"],
    "mmreg.training.train": ["finish", "train"],
}
"""The public names by where they are."""

__all__ = [
    "GRID",
    "SEQUENCE",
    "TOKENS",
    "VECTOR",
    "Asset",
    "Balance",
    "BalanceBatch",
    "Callback",
    "CommandSpec",
    "ComponentOf",
    "ComponentSpec",
    "Concern",
    "Encoder",
    "EncoderGradients",
    "EncoderSuggestion",
    "Engine",
    "EngineSpec",
    "Epoch",
    "FeatureFusion",
    "Features",
    "FollowedRun",
    "Fused",
    "Metric",
    "MetricValue",
    "MmregError",
    "Modality",
    "ModelFusion",
    "Observed",
    "Optimizer",
    "Outputs",
    "ParameterGroup",
    "Recipe",
    "Run",
    "Schedule",
    "SearchedRecipe",
    "SectionSpec",
    "Signal",
    "Signals",
    "SourceSpec",
    "Space",
    "Spec",
    "Step",
    "Stop",
    "Stopped",
    "TableFile",
    "TargetValues",
    "Task",
    "WeightsAsset",
    "build_model",
    "compare",
    "console",
    "convolution",
    "count_trained",
    "cross_validate",
    "errors",
    "files",
    "find_lr",
    "finish",
    "fuse",
    "hookimpl",
    "layers",
    "load",
    "messages",
    "pretrained",
    "refit",
    "registry",
    "sections",
    "testing",
    "train",
    "train_seeds",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"mmreg.{name}")
    for module, names in _NAMES.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'mmreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
