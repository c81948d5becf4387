"""The interfaces of what leads from a cell to features: modality and encoder.

Axes: B batch, C channels, H W height and width, T time or tokens, D features, K classes, M modalities.

A component's options are the keyword-only parameters of its constructor: their types, bounds (`Annotated[int, Ge(1)]`),
defaults and the docstring's `Args:` are all there is to declare. Parameters of other kinds are what the framework
passes in (an encoder's `spec`, a fusion's `inputs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmreg.contract.lifecycle import Restorable
from mmreg.contract.signals import Features, Signal
from mmreg.contract.spec import Spec, Specs

Mix = Literal["mixup", "cutmix"]
"""How training rows can be mixed: two blended to one, or a box of one pasted into the other."""
Outputs = Literal["pooled", "tokens"]
"""What a fusion takes of an encoder: one vector a row, or a sequence of them."""


class Modality(Restorable, ABC):
    """How one column's values become numbers: `load` once per value (cached), `transform` once per batch.

    The calls come in this order: `fit_values`, `load` for every row, `fit_arrays`, then `transform` for ever. What
    the two fits learned is the state; a modality built with the same options and given that state behaves the same.
    `stored` and `spec` are asked for after `fit_values` or `load_state`, never before.

    What is stored is one array a value, or several by name: `load` then gives a dict of arrays, `stored` is a mapping
    of their specs, and a signal's `values` are a dict of tensors. Those of them whose first axis is ragged are all of
    the same length. `transform` may make one tensor of them, or give several.

    Attributes:
        version: raised by the author whenever `load` would store something else for the same value and options.
        paths: whether a text cell is the path of a file, to be resolved against the table's folder and watched.
        takes_bytes: whether `load` makes the same of a file's bytes as of its path, and needs nothing else for it: so
            a recipe may keep files instead of arrays (`store: encoded`).
        multiple_columns: whether `load` takes a dict of several columns' values instead of one value.
        transform_options: names of the options that only `transform` (or `fit_arrays`) reads: changing one of them
            loads nothing again.
        extensions: the file endings (such as ".png") by which `mmreg init` recognises the modality's columns.
        default_encoder: the encoder that a recipe gets which names none; None if it has to name one.
        mixes: how training rows of it can be mixed with each other, if it gives one array of real numbers: "mixup" if
            something between two values is a value, "cutmix" (then the last two axes are height and width, of one size)
            if a part of one can take the place of that of another. None by default.
        unaugmented: options with which `transform` gives in training what it gives in use, such as {"augment": "none"};
            empty if it always does, None if that is not known. What a frozen encoder makes of such values is computed
            once for a whole training, and these are the defaults beside one.
        columns: of a modality of `multiple_columns`, their names in the recipe's order; set by the framework after
            the constructor, before anything else is called.
    """

    version: ClassVar[int] = 1
    paths: ClassVar[bool] = False
    takes_bytes: ClassVar[bool] = False
    multiple_columns: ClassVar[bool] = False
    transform_options: ClassVar[frozenset[str]] = frozenset()
    extensions: ClassVar[frozenset[str]] = frozenset()
    default_encoder: ClassVar[str | None] = None
    mixes: ClassVar[frozenset[Mix]] = frozenset()
    unaugmented: ClassVar[Mapping[str, Any] | None] = None
    columns: tuple[str, ...] = ()

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """Options for a column that holds these values, each with the reason in a few words, for `mmreg init`.

        Args:
            values: a sample of a column's values that are there, as `load` takes them.

        Returns:
            Options that should differ from the defaults, or None if the values are not of this modality. As it
            stands: no options where most values are files with one of the `extensions`.
        """
        files = [value for value in values if isinstance(value, Path) and value.suffix.lower() in cls.extensions]
        return {} if values and len(files) >= 0.8 * len(values) else None

    @classmethod
    def suggest_beside(cls, modality: str, values: Sequence[Any]) -> tuple[Mapping[str, tuple[Any, str]], str] | None:
        """Options for an input of its own of a column that another modality takes, for `mmreg init`.

        So that the sound of videos is an input beside their pictures.

        Args:
            modality: the name of the modality that takes the column.
            values: a sample of the column's values that are there, as that modality's `load` takes them.

        Returns:
            Options as `suggest` gives them, and what to say of values that lack this modality (empty if none do); None
            if the values hold nothing of it.
        """
        return None

    @classmethod
    def suggest_columns(
        cls, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
        """The columns that a modality of `multiple_columns` would take together, for `mmreg init`.

        Args:
            columns: for each column that no modality of one column takes, a sample of its values that are there, as
                `load` takes them.

        Returns:
            The names of columns, and options as `suggest` gives them; None if none of them are of this modality.
        """
        return None

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn from the training rows' raw values, such as a vocabulary; absent ones are left out.

        Afterwards `spec` and `stored` are final. The values are those that `load` takes.
        """

    @abstractmethod
    def load(self, value: Any) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
        """Turn one raw value into the array to store, or the named arrays, which `stored` describes.

        Args:
            value: a `pathlib.Path` (if `paths`), text, bytes, a NumPy array or a dict, as the table gives it.

        Returns:
            An array with the dtype and shape of `stored`, or by name one for each of its specs.

        Raises:
            ValueLoadError: the value cannot be loaded; the message says why and names no table or row.
        """

    def fit_arrays(self, arrays: Iterator[Any]) -> None:
        """Learn from the training rows' stored values, one at a time, such as a mean and a deviation.

        Args:
            arrays: what `load` gave: an array for each row, or a dict of them.
        """

    def notes(self, lengths: NDArray[np.int64]) -> Sequence[str]:
        """What a person should know of the values that were loaded, such as how many are cut; told once, at training.

        It is not asked where no stored array is ragged. Values that the cache has are told of alike.

        Args:
            lengths: (V,) the sizes of the V distinct values along the ragged axis, as they are stored; never empty.

        Returns:
            Sentences that read on after the modality's name and a colon, without a full stop.
        """
        return ()

    def notes_in_use(self, arrays: Iterator[Any]) -> Sequence[str]:
        """What a person should know of rows that are predicted or measured, such as how they are unlike training's.

        Args:
            arrays: the stored values of the rows that have one, many at a time (B, *stored.shape), ragged ones padded
                with zeros; made as they are asked for, so that whoever needs none, or the first ones, pays for no more.

        Returns:
            Sentences as of `notes`.
        """
        return ()

    def transform(
        self, signal: Signal[Any], *, training: bool, generator: torch.Generator | None = None
    ) -> Signal[Any]:
        """Turn a batch of stored arrays into what `spec` promises, on the batch's device, in torch operations only.

        Args:
            signal: values (B, *stored.shape) in the stored dtype, or a dict of them; ragged ones padded with zeros at
                the end.
            training: whether to augment.
            generator: where every random draw comes from, on the signal's device; given whenever `training` is set.
        """
        return signal

    @property
    @abstractmethod
    def stored(self) -> Specs:
        """What `load` gives. Only a first axis may be ragged. A dtype is also a NumPy dtype's name."""

    @property
    @abstractmethod
    def spec(self) -> Specs:
        """What `transform` gives."""

    def state(self) -> dict[str, Any]:
        """All that was fitted, as plain JSON data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, instead of fitting."""

    def load_state_key(self) -> Any:
        """The part of the state that `load` reads, as plain JSON data; it is part of the cache's key."""
        return self.state()


@dataclass(frozen=True)
class EncoderSuggestion:
    """What an encoder proposes for a column, for `mmreg init`.

    Attributes:
        options: the keys beside its name in the recipe, such as options or `freeze`.
        reason: why, and what it costs, in a few words: "pretrained weights at hand (14 MB), frozen".
        rank: whether it is to be taken before others; above 0, which is what a modality's own choice has.
    """

    options: Mapping[str, Any]
    reason: str
    rank: int = 1


class Encoder(nn.Module, Restorable, ABC):
    """From one modality's signal to features.

    A subclass's constructor is `__init__(self, spec: Spec, *, option=default, ...)`. One that can give tokens lists
    "tokens" in `provides` and takes the further keyword `outputs`, a member of `Outputs`: which of the two it will be
    asked for. It computes, and owns parameters for, that one alone.

    Attributes:
        provides: what it can give.
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        multiple_arrays: whether it takes modalities that give several named tensors: the spec, in `accepts` and in the
            constructor, is then a mapping of their specs, and a signal's `values` are a dict. Others are never asked
            about such a modality.
        out_features: D, the size of what it gives (of each token, if asked for tokens). Set by the constructor.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"outputs", "restored"})
    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled"})
    multiple_arrays: ClassVar[bool] = False
    out_features: int

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """Whether it takes this spec with these (complete) options: None, or the reason why not.

        A reason reads on after "encoder NAME does not take SPEC: ", and says what would fit.
        """
        return None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Options that it needs of its modality (a size, a normalisation); they become that modality's defaults."""
        return {}

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Options that suit it best and that a recipe may overrule, such as the size that its weights were trained at.

        Those that a modality does not have are left out.
        """
        return {}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """What `mmreg init` should write of it for a column, as where its pretrained weights are at hand.

        Args:
            modality: the name of the modality that reads the column.
            values: a sample of the column's values that are there, as the modality's `load` takes them.
            rows: how many rows there are to learn from.
            options: those that the modality suggests for the column, such as the size of pictures.

        Returns:
            Its proposal; None to leave the choice to others.
        """
        return None

    def stages(self) -> Sequence[nn.Module]:
        """Its parts from the input on, for `freeze: N` and `layer_decay` in a recipe; none if it has no such order.

        What is in none of them, such as a last layer that is new, counts as coming after all.
        """
        return ()

    @abstractmethod
    def forward(self, signal: Signal[Any]) -> Features:
        """Encode a batch of B >= 1 rows, all present. No row's result depends on the others' padding."""
