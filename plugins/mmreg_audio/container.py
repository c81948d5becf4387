"""The sound of MP4, WebM and other containers, which libsndfile does not read, decoded by PyAV (FFmpeg).

No file can make FFmpeg open another one: it gets content instead of a name, and takes no format that refers to files.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.messages import one_line
from mmreg_audio.ending import cut_short

FORMATS = "mov,matroska,avi,flv,asf"
SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
)
"""Where files of these formats have which bytes."""
TOLERANCE = 4096
"""Samples by which a track may differ from what its file promises: what codecs add at the beginning and the end."""


def is_container(source: Path | bytes) -> bool:
    """Whether a file, or a file's bytes, begin as a container of pictures and sound does."""
    start = b""
    if isinstance(source, bytes):
        start = source[:12]
    else:
        with contextlib.suppress(OSError), source.open("rb") as file:
            start = file.read(12)
    return any(start.startswith(mark, place) for place, mark in SIGNATURES)


def read_track(source: Path | bytes, max_seconds: float, keep: bool) -> tuple[NDArray[np.float32], int]:
    """Decode the beginning of the first sound track.

    Args:
        source: what `is_container` says yes to.
        max_seconds: how much of it to decode.
        keep: whether to take what there is of a track that ends before its own end, or is damaged.

    Returns:
        Samples (T, C) float32, and the sampling rate in Hz.

    Raises:
        ValueLoadError: PyAV is missing, there is no sound track, it cannot be decoded, or is cut short.
    """
    with _opened(source) as container:
        import av

        stream = _track(container)
        rate, channels = stream.rate, stream.channels
        blocks: list[NDArray[np.float32]] = []
        remaining = math.ceil(max_seconds * rate)
        resampler = av.AudioResampler(format="flt")  # the numbers as they are, as 32-bit floats
        try:
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    block = part.to_ndarray().reshape(-1, channels)[:remaining]
                    blocks.append(block.astype(np.float32))
                    remaining -= len(blocks[-1])
                if remaining <= 0:
                    break
        except (av.FFmpegError, ValueError) as error:
            if not blocks or not keep:
                raise ValueLoadError(f"cannot be decoded as a sound: {_reason(error)}") from error
        promised = 0 if stream.duration is None else int(stream.duration * stream.time_base * rate)
    if not blocks:
        raise ValueLoadError("a sound track without a single sample")
    samples = np.concatenate(blocks)
    if remaining > 0 and not keep:
        why = cut_short(source)
        if not why and promised - len(samples) > TOLERANCE:
            why = f"its header promises {promised:,} samples, and {len(samples):,} are there"
        if why:
            raise ValueLoadError(f"cut short: {why}; truncated: keep takes what there is")
    return samples, rate


def track_facts(source: Path | bytes) -> tuple[int, float]:
    """The sampling rate of the first sound track in Hz, and its length in seconds; raises as `read_track` does."""
    with _opened(source) as container:
        stream = _track(container)
        if stream.duration is not None:
            return stream.rate, float(stream.duration * stream.time_base)
        return stream.rate, (container.duration or 0) / 1e6


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise ValueLoadError(
            f'the sound of a video file needs PyAV: pip install "mmreg[video]" ({one_line(error)})'
        ) from error
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        try:
            container = av.open(file, options={"format_whitelist": FORMATS})
        except (av.FFmpegError, ValueError) as error:
            raise ValueLoadError(f"a damaged video or sound file: {_reason(error)}") from error
        with container:
            yield container


def _track(container: Any) -> Any:
    """The first sound track."""
    tracks = container.streams.audio
    if not tracks:
        raise ValueLoadError("a video without a sound track; on_bad: absent counts it as absent")
    track = tracks[0]
    if track.codec_context is None or not track.rate or not track.channels:
        raise ValueLoadError("a sound track in a codec that this FFmpeg does not know")
    return track


def _reason(error: Exception) -> str:
    """FFmpeg's words alone."""
    return str(getattr(error, "strerror", None) or one_line(error))
