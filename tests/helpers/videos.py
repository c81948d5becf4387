"""Writes small videos by PyAV, whose frames are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOSSLESS = {".mkv": ("ffv1", "bgr0"), ".mov": ("png", "rgb24"), ".avi": ("ffv1", "bgr0")}
"""Codec and pixel format by a file's ending, where pixels come back as they were."""
LOSSY = {".mp4": ("libx264", "yuv420p"), ".webm": ("libvpx-vp9", "yuv420p"), ".ts": ("libx264", "yuv420p")}


def numbered(count: int, height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) of noise, each of which is another one."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    rate: int = 10,
    ticks: Sequence[int] | None = None,
    base: Fraction | None = None,
    codec: tuple[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    rotation: int | None = None,
    matrix: Sequence[int] | None = None,
    sound: NDArray[np.int16] | None = None,
    sound_codec: str = "pcm_s16le",
    sound_rate: int = 8000,
) -> Path:
    """Write frames (T, H, W, 3 or 4), and a sound (samples, channels) beside them.

    Args:
        path: its ending says the container.
        frames: what to write; none for a file of sound alone.
        rate: frames a second.
        ticks: when each frame is shown, in units of `base`, if not at the rate.
        base: seconds.
        codec: its name and pixel format, if not the usual one of the ending.
        options: of the codec.
        rotation: degrees counterclockwise by which players turn it.
        matrix: the display matrix itself.
        sound: the samples.
        sound_codec: how they are written.
        sound_rate: in Hz.
    """
    import av

    name, pixels = codec or (LOSSLESS | LOSSY)[path.suffix]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        video: Any = None
        if len(frames):
            video = container.add_stream(name, rate=rate, options=dict(options or {}))
            video.height, video.width, video.pix_fmt = *frames.shape[1:3], pixels
            if base is not None:
                video.codec_context.time_base = base
            if rotation is not None:
                video.set_display_rotation(rotation)
            if matrix is not None:
                video.set_display_matrix(matrix)
        if sound is not None:
            layout = "stereo" if sound.shape[1] == 2 else "mono"
            audio: Any = container.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgba" if frame.shape[-1] == 4 else "rgb24")
            picture.pts = number if ticks is None else ticks[number]
            picture.time_base = base or Fraction(1, rate)
            container.mux(video.encode(picture))
        if video is not None:
            container.mux(video.encode())
        if sound is not None:
            part = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), "s16", layout)
            part.rate, part.pts = sound_rate, 0
            container.mux(audio.encode(part))
            container.mux(audio.encode())
    return path


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames (T, H, W, 3) of a file as PyAV gives them one by one: what a reader is compared with."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def moving_squares(count: int, frames: int = 8, size: int = 16) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Videos (T, H, W, 3) of a square that goes to the left or to the right, and which it is.

    It goes around, from anywhere: each frame alone looks the same for both.
    """
    random = np.random.default_rng(0)
    videos, labels = [], []
    for number in range(count):
        label = ("left", "right")[number % 2]
        start, top = random.integers(0, size), random.integers(0, size - 4)
        video = random.integers(0, 60, (frames, size, size, 3), np.uint8)
        for step in range(frames):
            place = start + (3 * step if label == "right" else -3 * step)
            columns = np.arange(place, place + 4) % size
            video[step, top : top + 4, columns] = 230
        videos.append(video)
        labels.append(label)
    return videos, labels
