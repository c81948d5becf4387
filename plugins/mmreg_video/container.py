"""Videos in MP4, WebM and other containers, decoded by PyAV (FFmpeg) frame by frame.

No file can make FFmpeg open another one: it gets content instead of a name, and takes no format that refers to files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.messages import one_line

FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"
SEEKABLE = ("mov", "matroska")
"""Formats that tell which frames need no other, and go to one of them exactly."""
MAX_PIXELS = 36_000_000
"""The most pixels of a frame; 8K has 35 million."""
ROUNDING = Fraction(1, 2000)
"""Seconds by which a time in a file may be late at most: Matroska's are in whole milliseconds."""


class ContainerFrames:
    """The first video stream of a file. See `Frames`.

    Args:
        file: open, from its beginning.
        keep: whether the video ends where something cannot be read, instead of being refused.
    """

    def __init__(self, file: IO[bytes], keep: bool = False) -> None:
        self._file, self._keep = file, keep
        self._keys: list[Fraction] = []  # when frames are shown that need no other, as far as `span` looked

    def span(self, until: Fraction | None = None) -> tuple[Fraction, Fraction]:
        """See `Frames`; nothing is decoded."""
        starts: list[Fraction] = []
        keys, end = [], None
        with _opened(self._file, self._keep) as container:
            stream = _stream(container)
            for packet in _parts(container.demux(stream), self._keep):
                ticks = packet.dts if packet.pts is None else packet.pts
                if ticks is None or packet.is_discard:
                    continue
                time, duration = ticks * stream.time_base, (packet.duration or 0) * stream.time_base
                starts.append(time)
                end = time + duration if end is None else max(end, time + duration)
                if packet.is_keyframe:
                    keys.append(time)
                # What comes later in the file is shown after this time.
                if until is not None and packet.dts is not None and packet.dts * stream.time_base > starts[0] + until:
                    break
            seekable = container.format.name.split(",")[0] in SEEKABLE
        if not starts or end is None:
            raise ValueLoadError("a video without a frame")
        starts.sort()
        self._keys = sorted(keys) if seekable else []
        if end <= starts[-1] and len(starts) > 1:  # nothing tells how long the last frame is shown
            end = 2 * starts[-1] - starts[-2]
        return starts[0], max(end, starts[-1])

    def at(self, times: Iterable[Fraction]) -> Iterator[NDArray[np.uint8]]:
        """See `Frames`; what lies between two times is decoded only where frames need each other."""
        with closing(_Cursor(self._file, self._keep, self._keys)) as cursor:
            shown, pixels = None, None
            for time in times:
                frame = cursor.frame_at(time)
                if pixels is None or frame is not shown:
                    shown, pixels = frame, _pixels(frame)
                yield pixels

    def each(self) -> Iterator[NDArray[np.uint8]]:
        """See `Frames`."""
        with _opened(self._file, self._keep) as container:
            for frame in _decoded(container, self._keep):
                yield _pixels(frame)


class _Cursor:
    """A place in a video that moves forward.

    Args:
        file: open.
        keep: see `ContainerFrames`.
        keys: when frames are shown that need no other; empty where nobody knows.
    """

    def __init__(self, file: IO[bytes], keep: bool, keys: list[Fraction]) -> None:
        self._file, self._keep, self._keys = file, keep, keys
        self._container: Any = None
        self._rewind()

    def close(self) -> None:
        """Close what is open."""
        if self._container is not None:
            self._container.close()

    def _rewind(self) -> None:
        self.close()
        self._container = _opened(self._file, self._keep)
        self._base: Fraction = _stream(self._container).time_base
        self._read()
        if self._next is None:
            raise ValueLoadError("a video of which no frame can be decoded")

    def _read(self) -> None:
        """Begin to decode where the container is."""
        self._frames = _decoded(self._container, self._keep)
        self._shown: Any = None
        self._next: Any = next(self._frames, None)

    def frame_at(self, time: Fraction) -> Any:
        """The frame that is shown at a time, which is not before that of the last call."""
        if self._next is not None and self._skips_to(time):
            self._advance(time)
            if self._shown is None:  # seeking led too far
                self._keys = []
                self._rewind()
        self._advance(time)
        return self._next if self._shown is None else self._shown

    def _advance(self, time: Fraction) -> None:
        while self._next is not None and self._begins_by(self._next, time):
            self._shown, self._next = self._next, next(self._frames, None)

    def _begins_by(self, frame: Any, time: Fraction) -> bool:
        return bool(frame.pts is None or frame.pts * self._base - min(self._base / 2, ROUNDING) < time)

    def _skips_to(self, time: Fraction) -> bool:
        """Go to the last frame before a time that needs no other, if that is further on; whether it is."""
        if self._next.pts is None:
            return False
        number = bisect_right(self._keys, time)
        if not number or self._keys[number - 1] <= self._next.pts * self._base:
            return False
        self._frames.close()
        ticks = int(self._keys[number - 1] / self._base)
        self._container.seek(ticks, stream=_stream(self._container), backward=True)
        self._read()
        return True


def _opened(file: IO[bytes], keep: bool) -> Any:
    """A container as PyAV opens it.

    Raises:
        ValueLoadError: there is no PyAV, or it finds no format in the file that is allowed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueLoadError(
            f'a video file needs PyAV (or torchcodec and FFmpeg): pip install "mmreg[video]" ({one_line(error)})'
        ) from error
    options = {"format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
    if keep:
        options["fflags"] = "discardcorrupt"  # what is there in part only
    file.seek(0)
    try:
        return av.open(file, options=options)
    except (av.FFmpegError, ValueError) as error:
        raise ValueLoadError(
            "not a video in a format that is read (MP4, MOV, WebM, Matroska, AVI, MPEG, FLV, WMV, Ogg, GIF), or "
            f"damaged at its beginning ({_reason(error)})"
        ) from error


def _stream(container: Any) -> Any:
    """The first video stream, about to be decoded; the cover of a sound is none."""
    from av.stream import Disposition

    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({each.type for each in container.streams})
        raise ValueLoadError(f"a file without a video stream: {' and '.join(kinds) or 'nothing'} is in it")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None:
        raise ValueLoadError("a video in a codec that this FFmpeg does not know")
    if codec.width * codec.height > MAX_PIXELS:
        raise ValueLoadError(
            f"frames of {codec.width} x {codec.height} pixels are refused: at most {MAX_PIXELS:,} are decoded"
        )
    if not codec.is_open:
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # of any frame, whatever the header says
        codec.thread_count = 1  # several files are loaded at a time
    return stream


def _decoded(container: Any, keep: bool) -> Generator[Any, None, None]:
    """The frames from where a container is."""
    for frame in _parts(container.decode(_stream(container)), keep):
        if keep and frame.is_corrupt:
            return
        yield frame


def _parts(parts: Iterator[Any], keep: bool) -> Iterator[Any]:
    """Packets or frames, up to where FFmpeg finds something broken if that is to be kept."""
    import av

    try:
        yield from parts
    except (av.FFmpegError, ValueError) as error:
        if not keep:
            raise ValueLoadError(f"a damaged video, or one in a codec that is not read ({_reason(error)})") from error


def _pixels(frame: Any) -> NDArray[np.uint8]:
    """A frame's pixels (H, W, 3), or 4 with alpha, upright."""
    if frame.is_corrupt:
        raise ValueLoadError("a damaged video: one of its frames is there in part only")
    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgba" if has_alpha else "rgb24")
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            pixels = upright(pixels, np.frombuffer(bytes(data), np.int32))
    return np.ascontiguousarray(pixels)


def upright(pixels: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Pixels (H, W, C) turned and mirrored as a display matrix says, by right angles.

    Args:
        pixels: as they are stored.
        matrix: (9,), by rows, of which a, b, _, c, d, ... put what is at (x, y) at (a x + c y, b x + d y).
    """
    a, b, _, c, d = (int(number) for number in matrix[:5])
    across, down = a, d
    if abs(b) > abs(a):
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    if across < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if down < 0 else pixels


def _reason(error: Exception) -> str:
    """FFmpeg's words alone."""
    return str(getattr(error, "strerror", None) or one_line(error))
