"""The audio modality: sounds are stored as waveforms and become features on the device, a batch at a time.

Axes: B batch, C channels, F frequency, T time (samples or frames).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from mmreg import GRID, SEQUENCE, Modality, Signal, Spec
from mmreg.errors import OptionError, ValueLoadError
from mmreg.layers import length_mask
from mmreg.messages import plural
from mmreg_audio.augment import add_noise, spec_augment_mask, time_shift
from mmreg_audio.container import is_container
from mmreg_audio.features import DeviceConstants, SpectralFeatures
from mmreg_audio.reading import (
    EXTENSIONS,
    HIGHEST_AMPLITUDE,
    HIGHEST_RATE,
    Truncated,
    check_rate,
    read_array,
    read_sound,
    resample,
    sound_facts,
)

MANY_FRAMES = 128
"""Frames of half of the sounds up to which `suggest` leaves the hop as it is."""


class Audio(Modality):
    """Sounds of any length, as log-mel spectrograms, MFCCs, spectrograms or waveforms.

    A value is a file that libsndfile reads (WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, ...), or with PyAV the first sound
    track of a video (MP4, MOV, WebM, Matroska, AVI, M4A), its bytes, a NumPy array
    (samples,) or (samples, channels), or a dict with "array" and "sampling_rate", or with "bytes" (as the datasets
    library has them). Stored are float32 samples, so that 16-bit and 24-bit recordings survive exactly.

    Args:
        sample_rate: the rate in Hz to which every sound is resampled.
        channels: 1 mixes all channels to their mean; n > 1 keeps n, and a sound with another number is an error.
        source_rate: the rate in Hz of arrays that do not tell their own; `sample_rate` if not given.
        max_seconds: what is beyond is cut off.
        truncated: what becomes of a file that ends before its own end (and before `max_seconds`), as a download that
            was broken off does: an "error", or "keep" what there is of it.
        features: what becomes of the waveform; all but the waveform are (channels, frequency, time) grids.
        n_mels: mel bands of `log_mel` and `mfcc`.
        n_fft: samples in a frame; if not given, the next power of two from 40 ms on.
        hop_length: samples from one frame to the next; 20 ms if not given.
        n_mfcc: coefficients kept by `mfcc`.
        normalize: to mean 0 and deviation 1 over the training rows, for each frequency (each channel of a waveform)
            or for all together; or not at all.
        spec_augment: while training, hide random bands of frequencies and of frames (not of waveforms).
        frequency_mask: the widest band of frequencies that SpecAugment hides, as a fraction of them.
        time_mask: the widest band of frames that SpecAugment hides, as a fraction of the sound's frames.
        num_masks: bands that SpecAugment hides along each axis.
        time_shift: while training, move each sound by up to this fraction of its length, with silence filling up.
        noise: while training, add white noise of up to this fraction of the sound's root mean square.
    """

    paths: ClassVar[bool] = True
    takes_bytes: ClassVar[bool] = True
    default_encoder = "audio_cnn"
    mixes = frozenset({"mixup"})
    extensions: ClassVar[frozenset[str]] = EXTENSIONS
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"spec_augment": False, "time_shift": 0.0, "noise": 0.0}
    transform_options: ClassVar[frozenset[str]] = frozenset(
        {
            *("features", "n_mels", "n_fft", "hop_length", "n_mfcc", "normalize"),
            *("spec_augment", "frequency_mask", "time_mask", "num_masks", "time_shift", "noise"),
        }
    )

    def __init__(
        self,
        *,
        sample_rate: Annotated[int, Ge(1), Le(HIGHEST_RATE)] = 16000,
        channels: Annotated[int, Ge(1), Le(1024)] = 1,
        source_rate: Annotated[int, Ge(1), Le(HIGHEST_RATE)] | None = None,
        max_seconds: Annotated[float, Gt(0), Le(86400)] = 10.0,
        truncated: Truncated = "error",
        features: Literal["log_mel", "mfcc", "spectrogram", "waveform"] = "log_mel",
        n_mels: Annotated[int, Ge(1)] = 40,
        n_fft: Annotated[int, Ge(2), Le(1 << 20)] | None = None,
        hop_length: Annotated[int, Ge(1)] | None = None,
        n_mfcc: Annotated[int, Ge(1)] = 20,
        normalize: Literal["frequency", "global", "none"] = "frequency",
        spec_augment: bool = True,
        frequency_mask: Annotated[float, Ge(0), Le(1)] = 0.2,
        time_mask: Annotated[float, Ge(0), Le(1)] = 0.2,
        num_masks: Annotated[int, Ge(1), Le(100)] = 2,
        time_shift: Annotated[float, Ge(0), Le(1)] = 0.0,
        noise: Annotated[float, Ge(0), Le(100)] = 0.0,
    ) -> None:
        hop_length = hop_length or _usual_hop(sample_rate)
        n_fft = n_fft or _usual_window(sample_rate)
        if features != "waveform" and hop_length > n_fft:
            raise OptionError(f"hop_length: {hop_length} is more than n_fft: {n_fft}, so samples between would be lost")
        if features == "mfcc" and n_mfcc > n_mels:
            raise OptionError(f"n_mfcc: {n_mfcc} coefficients cannot come from n_mels: {n_mels}; raise n_mels")
        self.sample_rate = sample_rate
        self.channels = channels
        self.source_rate = source_rate or sample_rate
        self.max_seconds = max_seconds
        self.truncated: Truncated = truncated
        self.normalize = normalize
        self.spec_augment = spec_augment
        self.frequency_mask = frequency_mask
        self.time_mask = time_mask
        self.num_masks = num_masks
        self.time_shift = time_shift
        self.noise = noise
        self._spectral = (
            None
            if features == "waveform"
            else SpectralFeatures(
                features,
                sample_rate=sample_rate,
                n_fft=n_fft,
                hop_length=hop_length,
                n_mels=n_mels,
                n_mfcc=n_mfcc,
            )
        )
        self._state: dict[str, Any] = {}
        self._statistics: DeviceConstants | None = None

    @property
    def stored(self) -> Spec:
        """A waveform, float32 (samples, channels)."""
        return Spec(SEQUENCE, (None, self.channels))

    @property
    def spec(self) -> Spec:
        """A grid (channels, frequency, frames), or the waveform as it is stored."""
        return self.stored if self._spectral is None else Spec(GRID, (self.channels, self._spectral.size, None))

    def load(self, value: Any) -> NDArray[np.float32]:
        """Decode, mix, resample and cut one sound to (samples, channels); nothing beyond `max_seconds` is decoded."""
        if isinstance(value, Mapping):
            samples, rate = self._load_mapping(value)
        elif isinstance(value, Path | bytes):
            samples, rate = self._read(value)
        elif isinstance(value, np.ndarray | list):
            samples, rate = self._load_array(value, self.source_rate)
        else:
            raise ValueLoadError(
                f"{type(value).__name__}, where a pathlib.Path, bytes, an array or a dict with 'array' and "
                "'sampling_rate' is needed"
            )
        highest = np.abs(samples).max()
        if not highest <= HIGHEST_AMPLITUDE:  # also when it is NaN
            found = "samples that are not finite" if not np.isfinite(highest) else f"samples as large as {highest:.3g}"
            raise ValueLoadError(f"{found}, where -1 to 1 is usual")
        return resample(samples, rate, self.sample_rate)[: self._most_samples]

    @property
    def _most_samples(self) -> int:
        return max(1, int(self.max_seconds * self.sample_rate))

    def notes(self, lengths: NDArray[np.int64]) -> list[str]:
        """How many sounds are as long as `max_seconds` allows, and so may have been cut."""
        full = int((lengths >= self._most_samples).sum())
        reach = f"{full:,} of {plural(len(lengths), 'sound')} {'reaches' if full == 1 else 'reach'}"
        return [f"{reach} max_seconds: {self.max_seconds:g}, where longer ones are cut"] if full else []

    def _load_mapping(self, value: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        if value.get("array") is not None:
            return self._load_array(value["array"], value.get("sampling_rate") or self.source_rate)
        if isinstance(value.get("bytes"), bytes):
            return self._read(value["bytes"])
        raise ValueLoadError(f"a dict with {sorted(value)}, where 'array' and 'sampling_rate', or 'bytes', are needed")

    def _read(self, source: Path | bytes) -> tuple[NDArray[np.float32], int]:
        return read_sound(source, channels=self.channels, max_seconds=self.max_seconds, truncated=self.truncated)

    def _load_array(self, array: Any, rate: Any) -> tuple[NDArray[np.float32], int]:
        rate = check_rate(rate)
        return read_array(array, channels=self.channels, rate=rate, max_seconds=self.max_seconds), rate

    def load_state_key(self) -> Any:
        """Nothing: what is stored depends on no other row."""
        return None

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """The sounds' own rate, of at most 16 kHz, a length that keeps them whole, and coarser frames for long ones.

        The length is at most a minute.
        """
        if super().suggest(values) is None and not all(isinstance(value, bytes) for value in values):
            return None
        # The bytes of what may be a video are a video's to suggest.
        sounds = [value for value in values[:50] if not (isinstance(value, bytes) and is_container(value))]
        facts = [fact for value in sounds if (fact := sound_facts(value)) is not None]
        return _suggested(facts) if facts else None

    @classmethod
    def suggest_beside(cls, modality: str, values: Sequence[Any]) -> tuple[Mapping[str, tuple[Any, str]], str] | None:
        """The sound tracks of a column of videos, if most of them have one."""
        if modality != "video":
            return None
        sample = values[:50]
        facts = [fact for value in sample if (fact := sound_facts(value)) is not None]
        if 2 * len(facts) <= len(sample):
            return None
        without = len(sample) - len(facts)
        told = f"{without} of the {plural(len(sample), 'video')} looked at {'has' if without == 1 else 'have'} no sound"
        return _suggested(facts), told if without else ""

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn the features' mean and deviation, sound by sound, so that padding and memory play no part."""
        if self.normalize == "none":
            return
        axes = self._statistics_axes()
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for array in arrays:
            values = self._features(torch.tensor(array)[None]).double()
            size = math.prod(values.shape[axis] for axis in axes)
            squares_here, mean_here = torch.var_mean(values, axes, correction=0)
            # Chan et al. 1979: the pairwise update, which does not cancel as sums of squares do.
            difference = mean_here - mean
            total = count + size
            squares = squares + size * squares_here + difference.square() * (count * size / total)
            mean = mean + difference * (size / total)
            count = total
        if count:
            deviation = (squares / count).sqrt()
            deviation = torch.where(deviation < 1e-5, 1.0, deviation)  # a frequency that never changes
            self.load_state({"mean": mean.tolist(), "deviation": deviation.tolist()})

    def _statistics_axes(self) -> tuple[int, ...]:
        """The axes of (B, C, F, T) or (B, T, C) over which the statistics run."""
        if self.normalize == "global":
            return (0, 1, 2) if self._spectral is None else (0, 1, 2, 3)
        return (0, 1) if self._spectral is None else (0, 3)

    def state(self) -> dict[str, Any]:
        """The mean and deviation: one number each, or one a frequency (C, F) or a waveform's channel (C,)."""
        return self._state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over fitted statistics; without any, nothing is normalised."""
        self._state = dict(state)
        self._statistics = None
        if state:
            mean = torch.tensor(state["mean"], dtype=torch.float64)
            scale = 1 / torch.tensor(state["deviation"], dtype=torch.float64)
            if self._spectral is not None and mean.dim():  # (C, F), to be broadcast over time
                mean, scale = mean.unsqueeze(-1), scale.unsqueeze(-1)
            self._statistics = DeviceConstants(mean, scale)

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Turn waveforms (B, T, C) into normalised features; what is beyond a row's length is zero.

        Args:
            signal: the stored waveforms.
            training: whether to shift, add noise and hide bands.
            generator: where these draws come from.
        """
        lengths = signal.lengths
        if lengths is None:
            lengths = torch.full((len(signal),), signal.values.shape[1], device=signal.values.device)
        valid = length_mask(lengths, signal.values.shape[1]).unsqueeze(-1)
        waveform = signal.values.masked_fill(~valid, 0)
        if training and self.time_shift:
            waveform = time_shift(waveform, lengths, self.time_shift, generator)
        if training and self.noise:
            waveform = add_noise(waveform, lengths, self.noise, generator).masked_fill(~valid, 0)
        values = self._normalized(self._features(waveform))
        if self._spectral is None:
            return signal.replace(values.masked_fill(~valid, 0))
        frames = self._spectral.frames(lengths)
        valid = length_mask(frames, values.shape[-1])[:, None, None, :]
        values = values.masked_fill(~valid, 0)
        if training and self.spec_augment:
            hidden = spec_augment_mask(
                frames,
                (values.shape[-2], values.shape[-1]),
                frequency_width=self.frequency_mask,
                time_width=self.time_mask,
                num_masks=self.num_masks,
                generator=generator,
            )
            # The row's mean, as the paper advises; it is near zero where the features are normalised.
            mean = values.sum((1, 2, 3)) / (frames * values.shape[1] * values.shape[2])
            values = torch.where(hidden[:, None] & valid, mean[:, None, None, None], values)
        return signal.replace(values, self._spectral.frames)

    def _features(self, waveform: Tensor) -> Tensor:
        return waveform if self._spectral is None else self._spectral(waveform)

    def _normalized(self, values: Tensor) -> Tensor:
        if self._statistics is None:
            return values
        mean, scale = self._statistics.like(values)
        return (values - mean) * scale


def _suggested(facts: Sequence[tuple[int, float]]) -> Mapping[str, tuple[Any, str]]:
    """Options for sounds of these rates in Hz and lengths in seconds; at least one."""
    rates = [rate for rate, _ in facts]
    rate = max(set(rates), key=rates.count)
    durations = [duration for _, duration in facts]
    longest = max(durations)
    seconds = float(max(1, min(60, math.ceil(1.2 * longest))))
    rate_kept = min(rate, 16_000)
    options: dict[str, tuple[Any, str]] = {
        "sample_rate": (rate_kept, f"most are sampled at {rate} Hz"),
        "max_seconds": (seconds, f"the longest of some takes {longest:.1f} s"),
    }
    # Up to half a window, so that nothing between two frames is lost.
    hop = min(round(float(np.median(durations)) * rate_kept / MANY_FRAMES), _usual_window(rate_kept) // 2)
    if hop > _usual_hop(rate_kept):
        options["hop_length"] = (hop, f"{1000 * hop / rate_kept:.0f} ms, as more frames take longer to train on")
    return options


def _usual_hop(sample_rate: int) -> int:
    """20 ms."""
    return max(1, round(0.02 * sample_rate))


def _usual_window(sample_rate: int) -> int:
    """The next power of two from 40 ms on."""
    return max(2, 1 << (int(0.04 * sample_rate) - 1).bit_length())
