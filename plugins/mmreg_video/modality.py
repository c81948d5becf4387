"""The video modality: frames chosen in time, decoded and resized once, then normalised and augmented on the device.

Axes: B batch, T time (frames), C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Len, MinLen
from numpy.typing import NDArray

from mmreg import Modality, Signal, Spec, registry
from mmreg.errors import OptionError, ValueLoadError
from mmreg.messages import plural
from mmreg_video.augment import AUGMENTATIONS, Augmentation
from mmreg_video.reading import Truncated, opened
from mmreg_video.suggestion import suggested
from mmreg_video.timeline import Frames, at_rate, spread
from mmreg_video.torchcodec import video_decoder

CLIP = "TCHW"
MOST_FRAMES = 500_000
"""Of one video: four hours at 30 a second."""
MOST_BYTES = 1 << 30
"""Of one video's frames after resizing."""
EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".m2ts", ".flv", ".wmv", ".ogv"}
)

Side = Annotated[int, Ge(1), Le(10_000)]
Rate = Annotated[float, Gt(0), Le(1000)]


class Video(Modality):
    """Videos from files, GIFs, folders of pictures, or arrays, as frames (T, C, H, W).

    A value is the path of a file (MP4, MOV, WebM, Matroska, AVI, MPEG, FLV, WMV, Ogg, or a GIF; the content decides
    which), its bytes, the path of a folder with a picture for each frame, taken in the natural order of their names, or
    an array (T, H, W), (T, H, W, C) or (T, C, H, W). Files are decoded by torchcodec where that loads, else by PyAV;
    GIFs and folders need neither. Frames are turned upright as a file says, alpha is laid over white, and each is
    resized as the modality `image` resizes pictures, so that frames of several sizes are no matter.

    Time is that of the file: with variable frame rates as with others, the frame at a time is the one shown then, and
    the first frame is where time begins.

    Args:
        frames: how many frames a video is; null for all of them.
        sampling: which ones: "uniform" spreads them evenly from beginning to end, and gives so many of every video (of
            a shorter one some come twice), as networks for videos need it; "first" takes those at the beginning, fewer
            of a shorter video. "uniform" if not given.
        fps: frames a second to take, with `sampling: first` or all frames; those of the file if not given.
        source_fps: frames a second of folders and arrays, which do not tell.
        size: height and width in pixels: one number for both, or [height, width].
        channels: 3 for RGB, 1 for grey.
        resize: "stretch" ignores a frame's proportions; "crop" keeps them and cuts the middle out; "pad" keeps them and
            adds black on both sides.
        interpolation: "bilinear" or "bicubic", as of the modality `image`.
        truncated: what becomes of a file that ends before its own end, as a download that was broken off does: an
            "error", or "keep" the frames up to there.
        normalize: "fitted" subtracts the training frames' mean and divides by their deviation, per channel; "none"
            leaves values from 0 to 1; {mean: [...], std: [...]} gives both, a number per channel, on that scale.
        augment: what to do to training videos, at random for each but to all of its frames alike, one thing or a list:
            "crop" (shifted by up to an eighth of the size), "flip" (mirrored; not where left and right matter), or
            "none".
    """

    paths: ClassVar[bool] = True
    takes_bytes: ClassVar[bool] = True
    default_encoder = "per_step"
    mixes = frozenset({"mixup"})
    transform_options: ClassVar[frozenset[str]] = frozenset({"normalize", "augment"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"augment": "none"}
    extensions: ClassVar[frozenset[str]] = EXTENSIONS

    def __init__(
        self,
        *,
        frames: Annotated[int, Ge(1), Le(MOST_FRAMES)] | None = 16,
        sampling: Literal["uniform", "first"] | None = None,
        fps: Rate | None = None,
        source_fps: Rate = 25.0,
        size: Side | Annotated[list[Side], Len(2, 2)] = 64,
        channels: Literal[1, 3] = 3,
        resize: Literal["stretch", "crop", "pad"] = "stretch",
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        truncated: Truncated = "error",
        normalize: Literal["fitted", "none"] | dict[str, list[float]] = "fitted",
        augment: Augmentation | Annotated[list[Augmentation], MinLen(1)] = "crop",
    ) -> None:
        if frames is None and sampling is not None:
            raise OptionError(f"sampling: {sampling} chooses some frames; frames: null takes all, so leave it out")
        self.sampling = None if frames is None else sampling or "uniform"
        if fps is not None and self.sampling == "uniform":
            raise OptionError(
                "fps: frames that are spread evenly have no rate; give sampling: first (or frames: null) beside it, or "
                "leave it out"
            )
        names = [augment] if isinstance(augment, str) else augment
        if len(names) > 1 and "none" in names:
            raise OptionError(f"augment: 'none' stands alone, found {names}")
        self.augmentations = [AUGMENTATIONS[name] for name in names if name != "none"]
        self.frames = frames
        self.fps = None if fps is None else _fraction(fps)
        self.source_fps = _fraction(source_fps)
        self.truncated: Truncated = truncated
        # What becomes of a single frame is the business of the image modality, which is found as users find it.
        self.image: Modality = registry.get("modality", "mmreg:image")(
            size=size,
            channels=channels,
            resize=resize,
            interpolation=interpolation,
            normalize=normalize,
            augment="none",
        )

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """A size near the videos' own, of at most 112 pixels; for videos, animated GIFs and folders of pictures."""
        image: type[Modality] = registry.get("modality", "mmreg:image")
        return suggested(values, EXTENSIONS, image.extensions)

    @property
    def stored(self) -> Spec:
        """Frames of pixels from 0 to 255."""
        return self._spec("uint8")

    @property
    def spec(self) -> Spec:
        """Frames of normalised pixels."""
        return self._spec("float32")

    def _spec(self, dtype: str) -> Spec:
        image = self.image.spec
        assert isinstance(image, Spec)
        return Spec(CLIP, (self.frames if self.sampling == "uniform" else None, *image.shape), dtype)

    def load(self, value: Any) -> NDArray[np.uint8]:
        """Decode the frames that are wanted and resize each; no more than a few are in memory before.

        Args:
            value: see the class.

        Returns:
            (T, C, H, W) uint8.

        Raises:
            ValueLoadError: it is missing, empty, damaged, cut short, no video, or too large.
        """
        with opened(value, pictures=self.image.extensions, fps=self.source_fps, truncated=self.truncated) as video:
            resized: list[NDArray[np.uint8]] = []
            last, size = None, 0
            for frame in self._chosen(video):
                if frame is not last:
                    resized.append(self._resized(frame))
                    last = frame
                else:
                    resized.append(resized[-1])
                size += resized[-1].nbytes
                if len(resized) > MOST_FRAMES or size > MOST_BYTES:
                    shape = " x ".join(map(str, resized[-1].shape))
                    raise ValueLoadError(
                        f"more than {len(resized) - 1:,} frames of {shape} are refused; set frames, a lower fps or a "
                        "smaller size"
                    )
        if not resized:
            raise ValueLoadError("a video without a frame")
        return np.stack(resized)

    def _chosen(self, video: Frames) -> Iterator[Any]:
        if self.sampling == "uniform":
            assert self.frames is not None
            return video.at(spread(video.span(), self.frames))
        if self.fps is None:
            return islice(video.each(), self.frames)
        until = None if self.frames is None else self.frames / self.fps
        return video.at(islice(at_rate(video.span(until), self.fps), self.frames))

    def _resized(self, frame: Any) -> NDArray[np.uint8]:
        try:
            picture = self.image.load(frame)
        except ValueLoadError as error:
            if isinstance(frame, Path):
                raise ValueLoadError(f"its picture {frame.name}: {error}") from error
            raise
        assert isinstance(picture, np.ndarray)
        return picture

    def notes(self, lengths: NDArray[np.int64]) -> list[str]:
        """How many videos have as many frames as `frames` allows, and so may have been cut."""
        full = 0 if self.frames is None else int((lengths >= self.frames).sum())
        reach = f"{full:,} of {plural(len(lengths), 'video')} {'reaches' if full == 1 else 'reach'}"
        return [f"{reach} frames: {self.frames}, where longer ones are cut"] if full else []

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each channel's mean and deviation over all frames, if they are to be fitted."""
        self.image.fit_arrays(frame for array in arrays for frame in array)

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Augment if training, scale to 0..1, and normalise.

        Args:
            signal: values (B, T, C, H, W) uint8.
            training: whether to augment.
            generator: where the draws come from; what a row draws depends on its place in the batch.

        Returns:
            Values (B, T, C, H, W) float32.

        Raises:
            OptionError: the normalisation is to be fitted and was not.
        """
        values = signal.values
        if training:
            for augment in self.augmentations:
                values = augment(values, generator)
        frames = self.image.transform(Signal(values.flatten(0, 1)), training=False)
        return signal.replace(frames.values.reshape(values.shape))

    def state(self) -> dict[str, Any]:
        """The fitted mean and deviation, on the scale from 0 to 1."""
        return self.image.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.image.load_state(state)

    def load_state_key(self) -> Any:
        """No fitted state, but what else frames depend on: the image modality's version, and the decoder."""
        return {"image": self.image.version, "decoder": "PyAV" if video_decoder() is None else "torchcodec"}


def _fraction(rate: float) -> Fraction:
    """A rate as it was meant: 29.97 as 2997/100."""
    return Fraction(str(rate))
