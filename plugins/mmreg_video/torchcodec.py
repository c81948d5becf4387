"""Videos in MP4 and WebM files, decoded by torchcodec where that loads; it needs FFmpeg's libraries on the system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.messages import one_line

BATCH_BYTES = 1 << 26
"""About how many bytes of frames are decoded at a time."""
LATE = 1e-6
"""Seconds that are added to each time, as one on the border of two frames may be rounded to before it."""


@cache
def video_decoder() -> Any:
    """The class `torchcodec.decoders.VideoDecoder`; None where torchcodec is missing or cannot be used."""
    try:
        from torchcodec.decoders import VideoDecoder
    except Exception:  # no package, no FFmpeg, or one built for another torch: each raises something else
        return None
    return VideoDecoder


class TorchcodecFrames:
    """The best video stream of a file. See `Frames`.

    Args:
        source: a file, or its bytes; MP4 or WebM by its first bytes, so that FFmpeg takes it for nothing else.

    Raises:
        ValueLoadError: it cannot be decoded.
    """

    def __init__(self, source: Path | bytes) -> None:
        decoder = video_decoder()
        try:
            self._decoder = decoder(source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
            metadata = self._decoder.metadata
            self._span = Fraction(metadata.begin_stream_seconds), Fraction(metadata.end_stream_seconds)
            self._batch = max(1, BATCH_BYTES // max(1, 3 * metadata.height * metadata.width))
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueLoadError(f"a video that torchcodec cannot decode ({one_line(error)})") from error

    @property
    def turns(self) -> bool:
        """Whether frames come upright: torchcodec does so from 0.11 on, where it tells the rotation."""
        return hasattr(self._decoder.metadata, "rotation")

    def span(self, until: Fraction | None = None) -> tuple[Fraction, Fraction]:
        """See `Frames`."""
        return self._span

    def at(self, times: Iterable[Fraction]) -> Iterator[NDArray[np.uint8]]:
        """See `Frames`."""
        start, end = (float(time) for time in self._span)
        seconds = (min(max(float(time) + LATE, start), np.nextafter(end, start).item()) for time in times)
        shown, pixels = None, None
        while part := list(islice(seconds, self._batch)):
            batch = self._decoded("get_frames_played_at", part)
            for frame, began in zip(batch.data, batch.pts_seconds.tolist(), strict=True):
                if pixels is None or began != shown:
                    shown, pixels = began, frame.numpy()
                yield pixels

    def each(self) -> Iterator[NDArray[np.uint8]]:
        """See `Frames`."""
        for number in range(0, len(self._decoder), self._batch):
            numbers = list(range(number, min(number + self._batch, len(self._decoder))))
            yield from self._decoded("get_frames_at", numbers).data.numpy()

    def _decoded(self, method: str, arguments: list[Any]) -> Any:
        try:
            return getattr(self._decoder, method)(arguments)
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueLoadError(f"a damaged video: torchcodec cannot decode it ({one_line(error)})") from error
