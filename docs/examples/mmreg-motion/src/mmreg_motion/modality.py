"""The motion modality: recordings of sensors as sequences of readings at one sampling rate.

Axes: B batch, T readings, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from mmreg import SEQUENCE, Modality, Signal, Spec
from mmreg.errors import MmregError, ValueLoadError
from mmreg.layers import length_mask

from .reading import read_recording, resample

Rate = Annotated[float, Gt(0), Le(100_000)]


class Motion(Modality):
    """Recordings of accelerometers, gyroscopes and the like.

    A value is a CSV file (a line a reading, with or without a header), a NPY file, or an array (T, C).

    Args:
        channels: the numbers in a reading, such as 3 for an accelerometer alone.
        sample_rate: the rate in Hz to which every recording is brought.
        source_rate: the rate in Hz of the recordings; `sample_rate` if not given.
        max_seconds: what is beyond is cut off.
        jitter: while training, the deviation of noise that is added to every (normalised) number.
        scaling: while training, the deviation of a factor around 1 by which a row's channels are multiplied.
    """

    version: ClassVar[int] = 1
    paths: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]] = frozenset({".csv", ".npy"})
    default_encoder: ClassVar[str | None] = "motion_tcn"
    transform_options: ClassVar[frozenset[str]] = frozenset({"jitter", "scaling"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"jitter": 0.0, "scaling": 0.0}

    def __init__(
        self,
        *,
        channels: Annotated[int, Ge(1)] = 3,
        sample_rate: Rate = 50.0,
        source_rate: Rate | None = None,
        max_seconds: Annotated[float, Gt(0), Le(86_400)] = 10.0,
        jitter: Annotated[float, Ge(0)] = 0.05,
        scaling: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        self.channels = channels
        self.sample_rate = sample_rate
        self.source_rate = source_rate or sample_rate
        self.max_seconds = max_seconds
        self.jitter = jitter
        self.scaling = scaling
        self._state: dict[str, Any] = {}

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """The channels of the first recording, where most values are recordings."""
        if super().suggest(values) is None:
            return None
        try:
            found = read_recording(values[0], limit=1).shape[1]
        except ValueLoadError:
            return {}
        return {"channels": (found, f"the first recording has {found} numbers in a reading")}

    @property
    def stored(self) -> Spec:
        """Readings (T, channels) float32."""
        return Spec(SEQUENCE, (None, self.channels))

    @property
    def spec(self) -> Spec:
        """As it is stored, normalised."""
        return self.stored

    def load(self, value: Any) -> NDArray[np.float32]:
        """Read, cut and resample one recording to (T, channels).

        Raises:
            ValueLoadError: the value is no recording, or has another number of channels.
        """
        readings = read_recording(value, limit=max(1, math.ceil(self.max_seconds * self.source_rate)))
        if readings.shape[1] != self.channels:
            raise ValueLoadError(f"{readings.shape[1]} numbers in a reading, where channels: {self.channels} is set")
        return resample(readings, self.source_rate, self.sample_rate)

    def load_state_key(self) -> Any:
        """Nothing: what is stored depends on no other row."""
        return None

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each channel's mean and deviation over all readings of the training rows."""
        count = 0
        total = squares = np.zeros(self.channels)
        for array in arrays:
            wide = array.astype(np.float64)
            count += len(wide)
            total = total + wide.sum(0)
            squares = squares + np.square(wide).sum(0)
        if count:
            mean = total / count
            deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
            # A channel that never changes is left at its size.
            deviation = np.where(deviation > 1e-6 * np.abs(mean) + 1e-12, deviation, 1)
            self._state = {"mean": mean.tolist(), "deviation": deviation.tolist()}

    def state(self) -> dict[str, Any]:
        """Mean and deviation, a number a channel."""
        return self._state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._state = dict(state)

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Normalise (B, T, C), and while training jitter and scale it (Um et al. 2017).

        Raises:
            MmregError: it is not fitted.
        """
        if not self._state:
            raise MmregError(
                "this motion modality knows no mean and deviation yet: call fit_arrays or load_state first"
            )
        values = signal.values
        mean = values.new_tensor(self._state["mean"])
        deviation = values.new_tensor(self._state["deviation"])
        values = (values - mean) / deviation
        if training:
            batch, _, channels = values.shape
            factors = torch.randn(batch, 1, channels, generator=generator, device=values.device, dtype=values.dtype)
            noise = torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)
            values = values * (1 + self.scaling * factors) + self.jitter * noise
        if signal.lengths is not None:
            valid = length_mask(signal.lengths, values.shape[1])
            values = values.masked_fill(~valid.unsqueeze(-1), 0)
        return signal.replace(values)
