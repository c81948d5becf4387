"""Opens what a cell holds as a video: a file, its bytes, a folder of pictures, or an array."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.files import irregular
from mmreg_video.container import ContainerFrames
from mmreg_video.ending import NO_INDEX, cut_short
from mmreg_video.gif import MAX_BYTES, gif_frames
from mmreg_video.timeline import Frames, Listed
from mmreg_video.torchcodec import TorchcodecFrames, video_decoder

Truncated = Literal["error", "keep"]


@contextmanager
def opened(value: Any, *, pictures: Collection[str], fps: Fraction, truncated: Truncated) -> Iterator[Frames]:
    """A video, open as long as the block lasts.

    Args:
        value: the path of a file or folder, a file's bytes, or an array (T, H, W), (T, H, W, C) or (T, C, H, W).
        pictures: the file endings of pictures, in lower case.
        fps: frames a second of folders and arrays.
        truncated: what becomes of a file that ends before its own end.

    Raises:
        ValueLoadError: it is none of these, or cannot be read.
    """
    if isinstance(value, np.ndarray):
        yield _of_array(value, fps)
    elif isinstance(value, bytes):
        yield _of_file(io.BytesIO(value), value, truncated == "keep")
    elif not isinstance(value, Path):
        raise ValueLoadError(f"a video is a path, bytes or an array of frames, found {type(value).__name__}")
    elif irregular(value) == "a folder":
        yield _of_folder(value, pictures, fps)
    elif what := irregular(value):
        raise ValueLoadError(f"{what}, not a file")
    else:
        try:
            file = value.open("rb")
        except FileNotFoundError as error:
            raise ValueLoadError("no such file") from error
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise ValueLoadError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
        with file:
            yield _of_file(file, value, truncated == "keep")


def _of_file(file: Any, source: Path | bytes, keep: bool) -> Frames:
    """The frames of an open file, whose content decides what it is."""
    start = file.read(12)
    file.seek(0)
    if not start:
        raise ValueLoadError("empty: 0 bytes")
    if start[:6] in (b"GIF87a", b"GIF89a"):
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueLoadError(f"a GIF of more than {MAX_BYTES:,} bytes is refused")
        return gif_frames(data, keep)
    why = cut_short(file)
    if why and (not keep or why == NO_INDEX):
        advice = "" if why == NO_INDEX else "; truncated: keep takes the frames that can be decoded"
        raise ValueLoadError(f"cut short: {why}{advice}")
    if not why and video_decoder() is not None and (start[4:8] == b"ftyp" or start[:4] == b"\x1aE\xdf\xa3"):
        frames = TorchcodecFrames(source)
        if frames.turns:
            return frames
    return ContainerFrames(file, keep)


def _of_array(array: NDArray[Any], fps: Fraction) -> Listed:
    if array.ndim not in (3, 4) or not len(array):
        raise ValueLoadError(
            f"an array of shape {array.shape} is no video: pass (T, H, W), or (T, H, W, C) or (T, C, H, W) with C of "
            "1, 3 or 4"
        )
    return _at_rate(array, fps)


def _of_folder(folder: Path, pictures: Collection[str], fps: Fraction) -> Listed:
    """The pictures right in a folder, in the natural order of their names: 2.png comes before 10.png."""
    try:
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in pictures]
    except OSError as error:
        raise ValueLoadError(f"the folder cannot be read: {error.strerror or error}") from error
    names = sorted((name for name in names if not name.startswith(".")), key=natural_order)
    if not names:
        raise ValueLoadError(f"a folder without a picture in it ({', '.join(sorted(pictures))})")
    return _at_rate([folder / name for name in names], fps)


def _at_rate(frames: Any, fps: Fraction) -> Listed:
    return Listed([number / fps for number in range(len(frames) + 1)], frames.__getitem__)


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key by which names are sorted as people number them."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)], name
