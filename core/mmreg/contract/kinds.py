"""The kinds of components: adding one is an entry here, an interface, and where a recipe names it a key of its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of component.

    Attributes:
        interfaces: the class that a component implements, as "package.module:Class", by level; mostly there is one
            level alone, "".
        recipe: how a recipe names one, for people: "{name}" is its name, "{named}" the same or, where options have to
            be given, a mapping of name and options, "{options}" such options after a comma.
    """

    interfaces: Mapping[str, str]
    recipe: str


_INTERFACES = "mmreg.contract.interfaces"
_FUSION = "mmreg.contract.fusion"
_OPTIMIZATION = "mmreg.contract.optimization"

KINDS: Mapping[str, Kind] = {
    "modality": Kind({"": f"{_INTERFACES}:Modality"}, "modalities:\n  {name}: {{column: {name}{options}}}"),
    "encoder": Kind(
        {"": f"{_INTERFACES}:Encoder"}, "modalities:\n  mine: {{type: ..., column: ..., encoder: {named}}}"
    ),
    "fusion": Kind(
        {"feature": f"{_FUSION}:FeatureFusion", "model": f"{_FUSION}:ModelFusion"},
        "fusion: {named}",
    ),
    "task": Kind({"": "mmreg.contract.task:Task"}, "target: {{column: ..., task: {name}{options}}}"),
    "metric": Kind({"": "mmreg.contract.task:Metric"}, "metrics: [{named}]"),
    "optimizer": Kind({"": f"{_OPTIMIZATION}:Optimizer"}, "training: {{optimizer: {named}}}"),
    "schedule": Kind({"": f"{_OPTIMIZATION}:Schedule"}, "training: {{schedule: {named}}}"),
    "balance": Kind({"": "mmreg.contract.balance:Balance"}, "training: {{balance: {named}}}"),
    "callback": Kind({"": "mmreg.contract.callback:Callback"}, "callbacks: [{named}]"),
}
"""Every kind by name, in the order of listings."""
