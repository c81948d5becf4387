"""Reads sounds from files, bytes and arrays: decoding, the channels asked for, resampling, never more than the limit.

Axes: T time (samples), C channels.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.files import irregular
from mmreg_audio.container import is_container, read_track, track_facts
from mmreg_audio.ending import cut_short
from mmreg_audio.mp3 import FRAME_SAMPLES

BLOCK_VALUES = 1 << 18
"""How many numbers are decoded at once: what a header promises is never allocated in one piece."""
SMALL_BLOCK_VALUES = 1 << 12
HIGHEST_RATE = 1_000_000
"""Above any recording's; a header that claims more is damaged."""
HIGHEST_AMPLITUDE = 1e9
"""Far above full scale (1, or 32768 for integers kept as floats); beyond it a float32 power spectrum overflows."""
LARGEST_KERNEL = 2_000_000
"""Numbers in a resampling kernel from which on the ratio of two rates is rounded; the usual rates stay far below."""
LARGEST_KEPT = 500_000
"""The same of one that is kept for the next sound (about 2 MB): as for 11,025 to 16,000 Hz."""

PCM = {"uint8": (128, 1 << 7), "int8": (0, 1 << 7), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
"""For each integer type, the number that means silence, and how far full scale is from it."""
Truncated = Literal["error", "keep"]
EXTENSIONS = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".m4a"}
)


def read_sound(
    source: Path | bytes, *, channels: int, max_seconds: float, truncated: Truncated = "error"
) -> tuple[NDArray[np.float32], int]:
    """Decode the beginning of a file, or of a file's bytes, with libsndfile; the sound track of a video with PyAV.

    Args:
        source: where the sound is.
        channels: 1 for the mean of all channels, n > 1 for exactly n.
        max_seconds: how much of it to decode.
        truncated: whether to refuse a file that ends before its own end, and before `max_seconds`.

    Returns:
        (T, channels) float32 in -1..1 for integer formats, and the sampling rate in Hz.

    Raises:
        ValueLoadError: there is no such file, it is empty, no sound, damaged, cut short, or has another number of
            channels.
    """
    import soundfile

    if isinstance(source, Path):
        what = irregular(source)
        if what:
            raise ValueLoadError(f"{what}, not a sound file")
        if not source.is_file():
            raise ValueLoadError("no such file")
        if source.stat().st_size == 0:
            raise ValueLoadError("an empty file (0 bytes)")
    elif not source:
        raise ValueLoadError("no bytes at all")
    if is_container(source):
        track, rate = read_track(source, max_seconds, truncated == "keep")
        return channel_selector(track.shape[1], channels)(track), check_rate(rate)
    opened = str(source) if isinstance(source, Path) else io.BytesIO(source)
    blocks: list[NDArray[np.float32]] = []
    # libsndfile keeps back all of a block in which it comes upon damage.
    values = BLOCK_VALUES if truncated == "error" else SMALL_BLOCK_VALUES
    try:
        # A file of bare samples (.raw) has no header, which soundfile reports as a TypeError.
        with soundfile.SoundFile(opened) as file:
            rate = check_rate(file.samplerate)
            select = channel_selector(file.channels, channels)
            promised, mpeg = file.frames, file.subtype.startswith("MPEG")
            remaining = wanted = math.ceil(max_seconds * rate)
            while remaining > 0:
                size = min(remaining, max(1, values // file.channels))
                block = file.read(size, dtype="float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(select(block))
                remaining -= len(block)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        reason = getattr(error, "error_string", error)  # libsndfile's words, without the source before them
        if not blocks or truncated == "error":
            raise ValueLoadError(f"cannot be read as a sound: {reason}") from error
    else:
        if not blocks:
            raise ValueLoadError("a sound file without a single sample")
        if remaining > 0 and truncated == "error":
            why = cut_short(source)
            # An MP3 file's count of frames may be one off, or two.
            if not why and mpeg and promised - (wanted - remaining) > 2 * FRAME_SAMPLES:
                why = f"its header promises {promised:,} samples, and {wanted - remaining:,} are there"
            if why:
                raise ValueLoadError(f"cut short: {why}; truncated: keep takes what there is")
    return np.concatenate(blocks), rate


def sound_facts(source: Any) -> tuple[int, float] | None:
    """A sound's rate in Hz and length in seconds, without decoding it; None for what is no file, or cannot be read."""
    import soundfile

    if not isinstance(source, Path | bytes) or (isinstance(source, Path) and irregular(source)):
        return None
    try:
        if is_container(source):
            return track_facts(source)
        found = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (soundfile.SoundFileError, OSError, TypeError, ValueLoadError):  # as in `read_sound`
        return None
    return found.samplerate, found.duration


def read_array(array: Any, *, channels: int, rate: int, max_seconds: float) -> NDArray[np.float32]:
    """Take samples that are decoded already.

    Args:
        array: (T,) or (T, C): floating point in -1..1, or integers as in PCM files: int8, int16, int32, and uint8
            with silence at 128.
        channels: as for `read_sound`.
        rate: the sampling rate in Hz.
        max_seconds: how much of it to keep.

    Returns:
        (T, channels) float32.

    Raises:
        ValueLoadError: another shape, dtype or number of channels, or no samples.
    """
    try:
        samples = np.asarray(array)
    except ValueError as error:
        raise ValueLoadError(f"a list that is no array: {error}") from error
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2:
        raise ValueLoadError(f"an array of shape {samples.shape}, where (samples,) or (samples, channels) is needed")
    if samples.size == 0:
        raise ValueLoadError(f"an array of shape {samples.shape}: no samples")
    if samples.shape[1] > 64:
        raise ValueLoadError(
            f"an array of shape {samples.shape} has {samples.shape[1]} channels: it has to be (samples, channels), "
            "transpose it"
        )
    samples = samples[: math.ceil(max_seconds * rate)]
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what does not fit is refused later, as not finite
            scaled = samples.astype(np.float32)
    elif samples.dtype.name in PCM:
        zero, full_scale = PCM[samples.dtype.name]
        scaled = ((samples.astype(np.float64) - zero) / full_scale).astype(np.float32)
    else:
        raise ValueLoadError(
            f"an array of {samples.dtype}: samples are floating point in -1..1, or {', '.join(PCM)} as in PCM files"
        )
    return channel_selector(samples.shape[1], channels)(scaled)


def check_rate(rate: Any) -> int:
    """The sampling rate as a whole number of Hz; a `ValueLoadError` if it is none that a sound can have."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or rate != rate:
        raise ValueLoadError(f"a sampling rate of {rate!r}, where a whole number of Hz is needed")
    if not 1 <= rate <= HIGHEST_RATE or rate != int(rate):
        raise ValueLoadError(f"a sampling rate of {rate} Hz, where a whole number from 1 to {HIGHEST_RATE} is needed")
    return int(rate)


def channel_selector(found: int, channels: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What turns (T, found) into (T, channels): the mean for one channel, else the same; any other is an error."""
    if channels == found:
        return lambda samples: samples
    if channels == 1:
        return lambda samples: samples.mean(1, keepdims=True, dtype=np.float32)
    raise ValueLoadError(f"{found} channels, where channels: {channels} is asked for (channels: 1 mixes any number)")


def resample(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """Change the sampling rate of (T, C) samples by band-limited interpolation (torchaudio's, a Hann-windowed sinc).

    Two rates with a small common divisor (11127 and 8000 Hz) would need a kernel of gigabytes. For those the ratio
    is rounded to the nearest fraction with a small denominator: the pitch changes by less than a millionth.
    """
    if source == target:
        return samples
    ratio = Fraction(target, source)
    if ratio.numerator * ratio.denominator > LARGEST_KERNEL:
        ratio = ratio.limit_denominator(max(1000, 2 * source // target))
    kept = ratio.numerator * ratio.denominator <= LARGEST_KEPT
    resampler = (_resampler if kept else _resampler.__wrapped__)(ratio.denominator, ratio.numerator)
    resampled = resampler(torch.from_numpy(samples.T.copy()))
    return np.ascontiguousarray(resampled.numpy().T)


@functools.lru_cache(maxsize=4)
def _resampler(source: int, target: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What resamples (C, T) between two rates, with its kernel, which takes longer to compute than a short sound."""
    from torchaudio.transforms import Resample  # it takes a while to import

    resampler: Callable[[torch.Tensor], torch.Tensor] = Resample(source, target, dtype=torch.float32)
    return resampler
