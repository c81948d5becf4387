"""The series modality: measurements over time, several channels of them, of any length.

Axes: B batch, T time, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, MinLen
from numpy.typing import NDArray

from mmreg import SEQUENCE, Modality, Signal, Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg.messages import listed, plural
from mmreg_vector.normalization import Normalization
from mmreg_vector.reading import read_array
from mmreg_vector.table_file import ENDINGS, read_table_file


class Series(Modality):
    """A series a row: a list of numbers or of lists of them, or the path of a .npy, .csv or .parquet file.

    Measurements that are missing (an empty cell of a file, NaN in an array) become zeros; where the training rows have
    any, the channels are followed by as many that tell which are missing.

    Args:
        channels: of CSV and Parquet files, the columns to take; all columns of numbers if not given, which have to be
            the same in all files.
        time: of such files, the column of times: numbers of seconds, dates or times.
        step: seconds from one measurement to the next: with `time`, a series is brought to even steps by linear
            interpolation, and measurements may come at any times, in any order.
        max_gap: seconds between two measurements beyond which nothing is interpolated: steps between them are missing.
        max_steps: how many steps a series keeps; the rest is cut off.
        normalize: `fitted` for a mean of 0 and a deviation of 1 of each channel over the training rows, or `none`.

    Raises:
        OptionError: `step` without `time`, `max_gap` without `step`; from `fit_values`: the training rows hold series
            of several numbers of channels.
    """

    paths: ClassVar[bool] = True
    transform_options: ClassVar[frozenset[str]] = frozenset({"normalize"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {}
    extensions: ClassVar[frozenset[str]] = ENDINGS
    default_encoder = "series_cnn"

    def __init__(
        self,
        *,
        channels: Annotated[list[str], MinLen(1)] | None = None,
        time: str | None = None,
        step: Annotated[float, Gt(0)] | None = None,
        max_gap: Annotated[float, Gt(0)] | None = None,
        max_steps: Annotated[int, Ge(1), Le(1_000_000)] = 10_000,
        normalize: Literal["fitted", "none"] = "fitted",
    ) -> None:
        if step is not None and time is None:
            raise OptionError("step: needs the times; name their column by time")
        if max_gap is not None and step is None:
            raise OptionError("max_gap: is of interpolation; give step as well")
        self.channels, self.time, self.step, self.max_gap = channels, time, step, max_gap
        self.max_steps, self.normalize = max_steps, normalize
        self.names: list[str] | None = None  # of the channels, where files have such
        self.size: int | None = None if channels is None else len(channels)
        self._normalization: Normalization | None = None
        self.has_missing = False

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """CSV and Parquet files, lists of steps with one number of channels each, and lists of differing lengths."""
        files = super().suggest(values)
        if files is not None:
            return files
        shapes = [value.shape for value in values if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"]
        if not shapes or len(shapes) < 0.8 * len(values):
            return None
        if all(len(shape) == 2 for shape in shapes):
            return {} if len({shape[1] for shape in shapes}) == 1 else None
        return {} if all(len(shape) == 1 for shape in shapes) and len(set(shapes)) > 1 else None

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn the channels, and whether there are missing measurements."""
        sizes: dict[int, int] = {}
        cause = "there is no training row with one"
        for value in values:
            try:
                array, names = self._read(value)
            except ValueLoadError as error:  # which `load` tells, with its row
                cause = str(error)
                continue
            sizes[array.shape[1]] = sizes.get(array.shape[1], 0) + 1
            self.names = self.names or list(names) or None
            self.has_missing |= bool(np.isnan(array).any())
        if len(sizes) > 1:
            told = ", ".join(f"{size} ({plural(count, 'row')})" for size, count in sizes.items())
            raise OptionError(f"channels: the training rows hold series of several numbers of channels: {told}")
        if not sizes and self.size is None:
            raise OptionError(f"channels: no training row holds a series: {cause}")
        self.size = next(iter(sizes), self.size)

    def _read(self, value: Any) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """A series (T, C), and the names of its channels, if it has any."""
        if isinstance(value, Path) and value.suffix.lower() in ENDINGS:
            array, times, names = read_table_file(value, self.channels or self.names, self.time, not self.channels)
            if not len(array):
                raise ValueLoadError(f"{value} holds no measurement")
            if self.step is not None and times is not None:
                array = resampled(array, times, self.step, self.max_gap, self.max_steps)
        else:
            array, names = read_array(value, missing=True), ()
            array = array[:, None] if array.ndim == 1 else array
        return array[: self.max_steps], names

    def load(self, value: Any) -> NDArray[np.float32]:
        """The series (T, C) float32, NaN where a measurement is missing.

        Raises:
            ValueLoadError: the cell holds no series, or one of other channels.
        """
        array, _ = self._read(value)
        if array.shape[1] != self._known():
            of = f" ({listed(self.names, 20)})" if self.names else ""
            raise ValueLoadError(f"it has {plural(array.shape[1], 'channel')}, where {self._known()}{of} are needed")
        return np.ascontiguousarray(array)

    def _known(self) -> int:
        if self.size is None:
            raise MmregError("series: the channels are not known yet; call fit_values or load_state first")
        return self.size

    def notes(self, lengths: NDArray[np.int64]) -> list[str]:
        """How many series have as many steps as `max_steps` allows, and so may have been cut."""
        full = int((lengths >= self.max_steps).sum())
        reach = f"{full:,} of {len(lengths):,} series {'reaches' if full == 1 else 'reach'}"
        return [f"{reach} max_steps: {self.max_steps}, where longer ones are cut"] if full else []

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each channel's mean and deviation over the measurements that are there."""
        if self.normalize == "fitted":
            self._normalization = Normalization.fit(arrays, self._known())

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Normalise (B, T, C), and tell what is missing by further channels.

        Raises:
            OptionError: the normalisation is to be fitted and was not.
        """
        values = signal.values
        if self.normalize == "fitted":
            if self._normalization is None:
                raise OptionError("normalize is 'fitted': call fit_arrays or load_state before transform")
            values = self._normalization(values)
        missing = values.isnan()
        values = values.masked_fill(missing, 0)
        return signal.replace(torch.cat([values, missing.to(values.dtype)], -1) if self.has_missing else values)

    @property
    def stored(self) -> Spec:
        """The measurements as they are."""
        return Spec(SEQUENCE, (None, self._known()))

    @property
    def spec(self) -> Spec:
        """The measurements, normalised, and which are missing."""
        return Spec(SEQUENCE, (None, self._known() * (2 if self.has_missing else 1)))

    def state(self) -> dict[str, Any]:
        """The channels, whether any are missing, and what was fitted."""
        fitted = {} if self._normalization is None else self._normalization.state()
        return {"size": self.size, "names": self.names, "has_missing": self.has_missing, **fitted}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.size, self.names, self.has_missing = state["size"], state["names"], state["has_missing"]
        self._normalization = Normalization.of_state(state)

    def load_state_key(self) -> Any:
        """The channels alone."""
        return [self.size, self.names]


def resampled(
    values: NDArray[np.float32], times: NDArray[np.float64], step: float, max_gap: float | None, most: int
) -> NDArray[np.float32]:
    """A series (T, C) at even steps from its first time on; each channel by its measurements that are there.

    Args:
        values: NaN where a measurement is missing.
        times: (T,) in seconds, in any order; of equal ones the last counts.
        step: seconds.
        max_gap: seconds between measurements beyond which the steps between them are missing; None for no such.
        most: steps at most.
    """
    order = np.argsort(times, kind="stable")
    values, times = values[order], times[order] - times[order[0]]
    last = np.append(np.diff(times) > 0, True)
    values, times = values[last], times[last]
    # A thousandth of a step too late is in time: times are rounded somewhere.
    grid = step * np.arange(int(min(times[-1] / step + 1e-3, most - 1)) + 1)
    result = np.full((len(grid), values.shape[1]), np.nan, np.float32)
    for channel, own in enumerate(values.T):
        there = ~np.isnan(own)
        if not there.any():
            continue
        at = times[there]
        found = np.interp(grid, at, own[there], left=np.nan, right=np.nan)
        if max_gap is not None:
            after = np.searchsorted(at, grid - 1e-3 * step).clip(0, len(at) - 1)
            before = (np.searchsorted(at, grid + 1e-3 * step, side="right") - 1).clip(0, len(at) - 1)
            found[(at[after] - at[before]) > max_gap] = np.nan
        # What is at the end by rounding alone is no gap.
        found[(grid > at[-1]) & (grid <= at[-1] + 1e-3 * step)] = own[there][-1]
        result[:, channel] = found
    return result
