"""The vector modality: numbers of a fixed size in each cell, or a sequence of any length of such vectors.

Axes: B batch, T time, C numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch.nn import functional

from mmreg import SEQUENCE, VECTOR, Modality, Signal, Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg.messages import plural
from mmreg_vector.normalization import Normalization
from mmreg_vector.reading import read_array


class Vector(Modality):
    """A vector a row, such as an embedding that was computed elsewhere, or a sequence of vectors.

    A cell is a list or array of numbers, the path of a .npy file, or a list as text ("[0.5, 1]"). Whether it is one
    vector or a sequence of them, and how many numbers a vector has, is seen in the training rows, or said by options.

    Args:
        size: how many numbers a vector has; as many as those of the training rows if not given.
        sequence: whether a cell holds a sequence of vectors (T, C), of any length; by the training rows if not given.
        normalize: `fitted` for a mean of 0 and a deviation of 1 of each number over the training rows, `unit` for
            vectors of length 1, or `none`.

    Raises:
        OptionError: from `fit_values`: the training rows hold vectors of several sizes.
    """

    paths: ClassVar[bool] = True
    takes_bytes: ClassVar[bool] = True
    transform_options: ClassVar[frozenset[str]] = frozenset({"normalize"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {}
    extensions: ClassVar[frozenset[str]] = frozenset({".npy"})
    default_encoder = "mlp"
    mixes = frozenset({"mixup"})

    def __init__(
        self,
        *,
        size: Annotated[int, Ge(1)] | None = None,
        sequence: bool | None = None,
        normalize: Literal["fitted", "unit", "none"] = "fitted",
    ) -> None:
        self.normalize = normalize
        self.size, self.sequence = size, sequence
        self._normalization: Normalization | None = None

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """Numbers in lists or arrays of one size, and .npy files; sequences go to an encoder of sequences."""
        arrays = []
        for value in values[:50]:
            if isinstance(value, np.ndarray) or getattr(value, "suffix", "").lower() == ".npy":
                try:
                    arrays.append(read_array(value))
                except ValueLoadError:
                    continue
        sizes = {(array.ndim, array.shape[-1]) for array in arrays}
        # The default encoder takes single vectors; what else there is, a recipe has to say.
        return {} if 2 * len(arrays) > len(values[:50]) and len(sizes) == 1 and {1} == {n for n, _ in sizes} else None

    def fit_values(self, values: Iterator[Any]) -> None:
        """Find out what is not given: whether cells hold sequences, and the size of a vector."""
        if self.size is not None and self.sequence is not None:
            return
        shapes: dict[tuple[int, int], int] = {}
        cause = "there is no training row with one"
        for value in values:
            try:
                array = read_array(value)
            except ValueLoadError as error:  # which `load` tells, with its row
                cause = str(error)
                continue
            key = (array.ndim, array.shape[-1])
            shapes[key] = shapes.get(key, 0) + 1
        if self.sequence is not None:
            shapes = {key: count for key, count in shapes.items() if key[0] == 1 + self.sequence}
        if self.size is not None:
            shapes = {key: count for key, count in shapes.items() if key[1] == self.size}
        if not shapes:
            raise OptionError(f"size: no training row holds a vector that would fit: {cause}")
        if len(shapes) > 1:
            told = ", ".join(
                f"{'sequences of ' * (ndim - 1)}{size} numbers ({plural(count, 'row')})"
                for (ndim, size), count in shapes.items()
            )
            raise OptionError(f"size: the training rows hold vectors of several sizes: {told}; give size and sequence")
        ((ndim, size),) = shapes
        self.size, self.sequence = size, ndim == 2

    def _known(self) -> tuple[int, bool]:
        if self.size is None or self.sequence is None:
            raise MmregError("vector: the size is not known yet; call fit_values or load_state first, or give it")
        return self.size, self.sequence

    def load(self, value: Any) -> NDArray[np.float32]:
        """The vector (C,), or the sequence (T, C), float32.

        Raises:
            ValueLoadError: the cell holds no numbers, or others than the training rows.
        """
        size, sequence = self._known()
        array = read_array(value)
        if array.ndim != 1 + sequence or array.shape[-1] != size:
            needed = f"a sequence of vectors of {size}" if sequence else f"a vector of {size}"
            raise ValueLoadError(f"it has the shape {array.shape}, where {needed} is needed")
        return array

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each number's mean and deviation, if they are to be fitted."""
        if self.normalize == "fitted":
            self._normalization = Normalization.fit(arrays, self._known()[0])

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Normalise vectors (B, C) or sequences (B, T, C).

        Raises:
            OptionError: the normalisation is to be fitted and was not.
        """
        values = signal.values
        if self.normalize == "unit":
            return signal.replace(functional.normalize(values, dim=-1, eps=1e-12))
        if self.normalize == "none":
            return signal
        if self._normalization is None:
            raise OptionError("normalize is 'fitted': call fit_arrays or load_state before transform")
        return signal.replace(self._normalization(values))

    @property
    def stored(self) -> Spec:
        """The numbers as they are."""
        size, sequence = self._known()
        return Spec(SEQUENCE, (None, size)) if sequence else Spec(VECTOR, (size,))

    @property
    def spec(self) -> Spec:
        """The numbers, normalised."""
        return self.stored

    def state(self) -> dict[str, Any]:
        """Size, whether there are sequences, and what was fitted."""
        fitted = {} if self._normalization is None else self._normalization.state()
        return {"size": self.size, "sequence": self.sequence, **fitted}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.size, self.sequence = state["size"], state["sequence"]
        self._normalization = Normalization.of_state(state)

    def load_state_key(self) -> Any:
        """The size alone."""
        return [self.size, self.sequence]
