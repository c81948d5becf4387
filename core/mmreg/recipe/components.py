"""What a recipe names: components with complete options, inputs, and the tree of fusion operators."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmreg.allocation import MemoryGuard
from mmreg.contract.interfaces import Modality
from mmreg.contract.markers import AssetMark
from mmreg.recipe.earlier import EarlierInput
from mmreg.recipe.form import FreezeUntil, OnBad, Pooling, Store, Weights
from mmreg.registry import Entry
from mmreg.registry.options import marked
from mmreg.registry.signature import parameters


@dataclass(frozen=True)
class TrainedWeights:
    """How a component's weights are trained.

    Attributes:
        lr: by what the learning rate is multiplied.
        frozen_epochs: how many epochs they stay as they are; None for always.
        weight_decay: their own weight decay; None for the optimizer's.
        frozen_stages: how many of an encoder's stages stay as they are for ever.
        layer_decay: by what the learning rate is multiplied once more for each stage that comes after a weight's own.
        in_run: whether a run keeps a copy of them, or a reference to their file.
    """

    lr: float = 1.0
    frozen_epochs: int | None = 0
    weight_decay: float | None = None
    frozen_stages: int = 0
    layer_decay: float = 1.0
    in_run: Literal["copy", "reference"] = "copy"

    @classmethod
    def of(cls, given: Weights) -> TrainedWeights:
        """Those that a recipe asks for."""
        freeze = given.freeze
        epochs = freeze.until_epoch if isinstance(freeze, FreezeUntil) else None if freeze is True else 0
        stages = freeze if isinstance(freeze, int) and not isinstance(freeze, bool) else 0
        return cls(given.lr, epochs, given.weight_decay, stages, given.layer_decay, given.weights_in_run)

    def to_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same as a recipe spells it out, less what the component has options for."""
        freeze: Any = {"until_epoch": self.frozen_epochs} if self.frozen_epochs else self.frozen_epochs is None
        data = {
            "lr": self.lr,
            "layer_decay": self.layer_decay,
            "freeze": self.frozen_stages or freeze,
            "weight_decay": self.weight_decay,
            "weights_in_run": self.in_run,
        }
        return {key: value for key, value in data.items() if key not in options}


@dataclass(frozen=True)
class Component:
    """A component that a recipe names, with complete options.

    Attributes:
        entry: what the registry knows of it.
        cls: its class.
        options: all of its options by name; paths of assets are absolute.
        parts: those of its options that are components themselves.
        weights: how its weights are trained, if it has any.
    """

    entry: Entry
    cls: Any
    options: Mapping[str, Any]
    parts: Mapping[str, Component] = field(default_factory=dict)
    weights: TrainedWeights = field(default_factory=lambda: TrainedWeights())

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self.entry.spec.name

    @property
    def targets(self) -> Mapping[str, Component]:
        """Of a task, that of each target by name; a single target is called ""."""
        return {"": self}

    def to_data(self, asset: Callable[[str], str] = str) -> dict[str, Any]:
        """The component as a recipe spells it out.

        Args:
            asset: what is to stand for the path of an asset.
        """
        return {"name": self.entry.reference, **self.options_with(asset)}

    def options_with(self, asset: Callable[[str], str]) -> dict[str, Any]:
        """Its options, with something else for the path of each asset."""
        changed: dict[str, Any] = {name: asset(path) for name, path in self.assets.items()}
        changed |= {name: part.to_data(asset) for name, part in self.parts.items()}
        return {**self.options, **changed}

    @property
    def assets(self) -> dict[str, str]:
        """The absolute paths of the files that it is built from, by option, less those of its parts."""
        found = {}
        for name, mark in marked(self.cls, AssetMark).items():
            given = self.options[name]
            if isinstance(given, str) and (not mark.named or os.path.isabs(given)):  # noqa: PTH117 (of any text)
                found[name] = given
        return found

    @property
    def uncopied(self) -> set[str]:
        """The paths of those of `assets` of which a run keeps no copy, those of its parts included."""
        marks = marked(self.cls, AssetMark)
        own = {path for name, path in self.assets.items() if not marks[name].copied}
        return own.union(*(part.uncopied for part in self.parts.values()))

    def build(self, *arguments: Any, restored: bool = False, **passed_in: Any) -> Any:
        """It, constructed.

        Args:
            arguments: what the interface's constructor takes first.
            restored: whether its state and weights are loaded afterwards; told to a constructor that asks for it.
            passed_in: what the framework passes in by keyword.

        Raises:
            MemoryLimitError: it asks for more memory than there is.
        """
        if restored and "restored" in parameters(self.cls):
            passed_in["restored"] = True
        with MemoryGuard(f"{self.entry.spec.kind} {self.name}"):
            return self.cls(*arguments, **passed_in, **self.options)


@dataclass(frozen=True)
class Many:
    """How cells of any number of values are read, and what becomes of these.

    Attributes:
        pooling: how one vector a row, or tokens, are made of the values' features.
        separator: what stands between the values of a text.
        ordered: whether their order counts.
    """

    pooling: Pooling
    separator: str | None = None
    ordered: bool = False

    def to_data(self) -> dict[str, Any]:
        """The same as a recipe spells it out."""
        return {"many": self.pooling, "separator": self.separator, "ordered": self.ordered}


@dataclass(frozen=True)
class InputPlan:
    """One modality of a recipe.

    Attributes:
        name: the input's name.
        columns: the columns that it reads.
        modality: how they are read.
        encoder: what encodes it.
        shares: the input whose encoder this is, if it is not its own.
        on_bad: what to do with cells that cannot be loaded.
        store: whether the cache keeps arrays, or files as they are.
        augmented_copies: how many augmented versions of a row are encoded once.
        earlier: the input of an earlier run whose encoder it begins with.
        many: how cells of any number of values are read; None where each is one value.
    """

    name: str
    columns: tuple[str, ...]
    modality: Component
    encoder: Component
    on_bad: OnBad
    shares: str | None = None
    store: Store = "decoded"
    augmented_copies: int = 0
    earlier: EarlierInput | None = None
    many: Many | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder stays as it is for the whole training."""
        return self.encoder.weights.frozen_epochs is None

    @property
    def is_unaugmented(self) -> bool | None:
        """Whether the modality gives in training what it gives in use; None where it does not tell."""
        plain: Mapping[str, Any] | None = self.modality.cls.unaugmented
        return None if plain is None else all(self.modality.options.get(key) == value for key, value in plain.items())

    @property
    def takes_modality(self) -> bool:
        """Whether what its modality learns is taken over from an earlier run."""
        return self.earlier is not None and self.earlier.has_modality(self.modality.entry)

    def encoder_data(self, asset: Callable[[str], str] = str) -> dict[str, Any]:
        """The encoder as a recipe spells it out; see `Component.to_data`."""
        if self.shares:
            return {"share": self.shares}
        data = {**self.encoder.to_data(asset), **self.encoder.weights.to_data(self.encoder.options)}
        return data if self.earlier is None else {**data, "from": str(self.earlier.folder), "input": self.earlier.name}

    def new_modality(self, restored: bool = False) -> Modality:
        """A modality that has learned nothing yet, and knows its columns if it reads several.

        Args:
            restored: whether its state is loaded afterwards.
        """
        modality: Modality = self.modality.build(restored=restored)
        if modality.multiple_columns:
            modality.columns = self.columns
        return modality


@dataclass(frozen=True)
class FusionPlan:
    """One fusion operator of a recipe, with what it fuses.

    Attributes:
        name: unique among the recipe's operators and inputs.
        fusion: the operator.
        of: what it fuses, in order: names of inputs, or further operators.
        own_losses: at model level, the weight of each part's own loss, by the part's name.
        gradient_blending: at model level, whether these weights are to be estimated (Wang et al. 2020).
        joint_loss: at model level, the weight of the combination's loss for the parts.
        learned_absent: at feature level, whether features are learned that stand for an absent part.
        called: what the recipe calls it.
    """

    name: str
    fusion: Component
    of: tuple[str | FusionPlan, ...]
    own_losses: Mapping[str, float]
    gradient_blending: bool = False
    joint_loss: float = 0.0
    learned_absent: bool = False
    called: str | None = None

    @property
    def level(self) -> str:
        """The operator's level, "feature" or "model"."""
        return self.fusion.entry.spec.level

    @property
    def takes_tokens(self) -> bool:
        """Whether the operator takes tokens where what it fuses has them."""
        return self.level == "feature" and self.fusion.cls.takes == "tokens"

    def to_data(self, asset: Callable[[str], str] = str) -> dict[str, Any]:
        """The operator, and what it fuses, as a recipe spells it out; see `Component.to_data`."""
        data = {**self.fusion.to_data(asset), **self.fusion.weights.to_data(self.fusion.options)}
        data |= {} if self.called is None else {"called": self.called}
        data["of"] = [part if isinstance(part, str) else part.to_data(asset) for part in self.of]
        if self.level == "model":
            data["own_loss"] = "gradient_blending" if self.gradient_blending else dict(self.own_losses)
            data["joint_loss"] = self.joint_loss
        else:
            data["absent"] = "learned" if self.learned_absent else "masked"
        return data

    def nodes(self) -> Iterator[FusionPlan]:
        """This operator and all below it."""
        yield self
        for part in self.of:
            if isinstance(part, FusionPlan):
                yield from part.nodes()
