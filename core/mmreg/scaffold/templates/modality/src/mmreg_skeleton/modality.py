"""A modality: what a table's cell holds, and how it becomes numbers.

Axes: B batch, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from mmreg import SEQUENCE, Modality, Signal, Spec
from mmreg.errors import MmregError, ValueLoadError
from mmreg.layers import length_mask

LARGEST = 1e9
"""What is larger would overflow when squared."""


class SkeletonModality(Modality):
    """Sequences of measurements: a NPY file, an array or a list, of shape (T, C), or (T,) for one channel.

    Args:
        channels: C, the numbers at each step.
        max_steps: what is beyond is cut off.
        noise: the deviation of noise that training adds to the normalised numbers.
    """

    version: ClassVar[int] = 1  # raise it whenever `load` or `state` would give something else
    paths: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]] = frozenset({".npy"})
    transform_options: ClassVar[frozenset[str]] = frozenset({"noise"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"noise": 0.0}
    default_encoder: ClassVar[str | None] = "text_rnn"

    def __init__(
        self,
        *,
        channels: Annotated[int, Ge(1)] = 1,
        max_steps: Annotated[int, Ge(1)] = 1000,
        noise: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        self.channels = channels
        self.max_steps = max_steps
        self.noise = noise
        self._state: dict[str, Any] = {}

    @property
    def stored(self) -> Spec:
        """Measurements (T, channels) float32."""
        return Spec(SEQUENCE, (None, self.channels))

    @property
    def spec(self) -> Spec:
        """The same, normalised."""
        return self.stored

    def load(self, value: Any) -> NDArray[np.float32]:
        """Read and check one sequence, (T, channels).

        Raises:
            ValueLoadError: it is no sequence of finite numbers with that many channels.
        """
        try:
            # Mapped, so that a damaged header which promises too much allocates nothing.
            array = np.lib.format.open_memmap(value, mode="r") if isinstance(value, Path) else np.asarray(value)
        except (OSError, ValueError) as error:
            raise ValueLoadError(f"cannot be read as an array: {error}") from error
        if array.dtype.kind not in "iuf":
            raise ValueLoadError(f"an array of {array.dtype}, where numbers are needed")
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != self.channels or len(array) == 0:
            raise ValueLoadError(f"an array of shape {array.shape}, where (T, {self.channels}) is needed")
        array = array[: self.max_steps].astype(np.float64)
        if not (np.abs(array) <= LARGEST).all():  # also where it is NaN
            raise ValueLoadError(f"numbers that are not finite, or larger than {LARGEST:g}")
        return array.astype(np.float32)

    def load_state_key(self) -> Any:
        """Nothing: what is stored depends on no other row."""
        return None

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each channel's mean and deviation on the training rows."""
        steps = [array.astype(np.float64) for array in arrays]
        if steps:
            numbers = np.concatenate(steps)
            deviation = numbers.std(0)
            deviation[deviation < 1e-6] = 1  # a channel that never changes
            self._state = {"mean": numbers.mean(0).tolist(), "deviation": deviation.tolist()}

    def state(self) -> dict[str, Any]:
        """Mean and deviation, a number a channel."""
        return self._state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._state = dict(state)

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Normalise (B, T, C), and add noise while training; padding stays zero.

        Raises:
            MmregError: it is not fitted.
        """
        if not self._state:
            raise MmregError("skeleton knows no mean and deviation yet: call fit_arrays or load_state first")
        values = signal.values
        values = (values - values.new_tensor(self._state["mean"])) / values.new_tensor(self._state["deviation"])
        if training and self.noise:
            noise = torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)
            values = values + self.noise * noise
        if signal.lengths is not None:
            valid = length_mask(signal.lengths, values.shape[1])
            values = values.masked_fill(~valid.unsqueeze(-1), 0)
        return signal.replace(values)
