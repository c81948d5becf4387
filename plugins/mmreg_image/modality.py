"""The image modality: pictures decoded and resized once, then normalised and augmented in batches on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Len, MinLen
from numpy.typing import NDArray

from mmreg import GRID, Modality, Signal, Spec
from mmreg.errors import OptionError, ValueLoadError
from mmreg_image.augment import AUGMENTATIONS, Augmentation
from mmreg_image.decode import read_pixels
from mmreg_image.pillow import is_animated
from mmreg_image.pixels import Interpolation, Resize, fit, with_channels

Side = Annotated[int, Ge(1), Le(10_000)]


class Image(Modality):
    """Pictures from files, bytes or arrays.

    PNG, JPEG, GIF (the first frame), WebP, BMP, TIFF and whatever else Pillow reads; the content decides which, not the
    file's ending. Orientation in EXIF data is applied, and alpha is laid over white. An array is (H, W), (H, W, C) or
    (C, H, W) with C of 1, 3 or 4, in uint8, uint16, bool or floating point from 0 to 1.

    A picture is decoded in at most 2 GB of memory: one of more than 100 million pixels (50 million of JPEG 2000, 10
    million of the rare formats that Pillow decodes in Python) is refused by its header, as are a JPEG of more than 100
    scans, a TIFF of some 100,000 strips or tiles, and pixels that inflate to more than the header says.

    Args:
        size: height and width in pixels: one number for both, or [height, width].
        channels: 3 for RGB, 1 for grey.
        resize: "stretch" ignores a picture's proportions; "crop" keeps them and cuts the middle out; "pad" keeps them
            and adds black on both sides.
        interpolation: what a resized picture's pixels are, "bilinear" or "bicubic" between those of the picture; both
            average over what a smaller picture leaves out. Pretrained networks may have seen the one or the other.
        normalize: "fitted" subtracts the training pictures' mean and divides by their deviation, per channel; "none"
            leaves values from 0 to 1; {mean: [...], std: [...]} gives both, a number per channel, on that scale.
        augment: what to do to training pictures, at random for each, one thing or a list of them in order: "crop"
            (shifted by up to an eighth of the size), "flip" (mirrored; not for digits or text), "color" (brightness,
            contrast, saturation), "trivial" (TrivialAugment: one strong distortion), or "none".
    """

    paths = True
    takes_bytes = True
    default_encoder = "image_cnn"
    mixes = frozenset({"mixup", "cutmix"})
    transform_options = frozenset({"normalize", "augment"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"augment": "none"}
    extensions = frozenset(
        {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".tga"}
    )

    def __init__(
        self,
        *,
        size: Side | Annotated[list[Side], Len(2, 2)] = 64,
        channels: Literal[1, 3] = 3,
        resize: Resize = "stretch",
        interpolation: Interpolation = "bilinear",
        normalize: Literal["fitted", "none"] | dict[str, list[float]] = "fitted",
        augment: Augmentation | Annotated[list[Augmentation], MinLen(1)] = "crop",
    ) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        self.channels = channels
        self.resize: Resize = resize
        self.interpolation: Interpolation = interpolation
        self.fitted = normalize == "fitted"
        self.mean: list[float] = []
        self.std: list[float] = []
        if isinstance(normalize, Mapping):
            self._given(normalize)
        names = [augment] if isinstance(augment, str) else augment
        if len(names) > 1 and "none" in names:
            raise OptionError(f"augment: 'none' stands alone, found {names}")
        self.augmentations = [AUGMENTATIONS[name] for name in names if name != "none"]

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """A size near the pictures' own, of at most 128 pixels, and one channel if all are grey."""
        if super().suggest(values) is None and not all(isinstance(value, bytes) for value in values):
            return None
        gifs = [value for value in values[:20] if isinstance(value, Path) and value.suffix.lower() == ".gif"]
        if 2 * sum(map(is_animated, gifs)) > len(values[:20]):
            return None  # rather videos
        pictures = []
        for value in values[:20]:
            with contextlib.suppress(ValueLoadError):
                pictures.append(read_pixels(value))
        if not pictures:
            return None
        side = int(np.median([max(picture.shape[1:]) for picture in pictures]))
        size = min(side, 128)
        size -= size % 4 if size > 32 else 0
        found: dict[str, tuple[Any, str]] = {"size": (size, f"pictures of about {side} pixels")}
        if all(_is_grey(picture) for picture in pictures):
            found["channels"] = (1, "all of them grey")
        return found

    def _given(self, normalize: Mapping[str, list[float]]) -> None:
        if set(normalize) != {"mean", "std"}:
            raise OptionError(f"normalize: needs the keys mean and std, found {', '.join(normalize) or 'none'}")
        for key, numbers in normalize.items():
            if len(numbers) != self.channels:
                raise OptionError(f"normalize: {key} needs {self.channels} numbers (channels), found {numbers}")
        if not all(number > 0 for number in normalize["std"]):
            raise OptionError(f"normalize: std must be above 0, found {normalize['std']}")
        self.mean, self.std = list(normalize["mean"]), list(normalize["std"])

    @property
    def stored(self) -> Spec:
        """Pixels from 0 to 255."""
        return Spec(GRID, (self.channels, self.height, self.width), "uint8")

    @property
    def spec(self) -> Spec:
        """Normalised pixels."""
        return Spec(GRID, (self.channels, self.height, self.width), "float32")

    def load(self, value: Any) -> NDArray[np.uint8]:
        """Decode one picture and resize it.

        Args:
            value: a `pathlib.Path`, a file's bytes, or an array (see the class).

        Returns:
            (C, H, W) uint8.

        Raises:
            ValueLoadError: it is missing, empty, damaged, no picture, or larger than `mmreg_image.pixels.MAX_PIXELS`
                (or its file than `mmreg_image.decode.MAX_BYTES`).
        """
        pixels = fit(read_pixels(value), self.height, self.width, self.resize, self.interpolation)
        return with_channels(pixels, self.channels)

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        """Learn each channel's mean and deviation, if they are to be fitted.

        A channel whose deviation is below one grey level is as good as constant: it is only centred.
        """
        if not self.fitted:
            return
        # Counts of grey levels are exact, whatever the number and order of the pictures.
        counts = np.zeros((self.channels, 256), np.int64)
        for array in arrays:
            for channel in range(self.channels):
                counts[channel] += np.bincount(array[channel].ravel(), minlength=256)
        levels = np.arange(256) / 255
        total = np.maximum(counts.sum(1), 1)
        mean = counts @ levels / total
        deviation = np.sqrt((counts * (levels - mean[:, None]) ** 2).sum(1) / total)
        self.mean = mean.tolist()
        self.std = np.where(deviation < 1 / 255, 1.0, deviation).tolist()

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Scale to 0..1, augment if training, and normalise.

        Args:
            signal: values (B, C, H, W) uint8.
            training: whether to augment.
            generator: where the draws come from; what a row draws depends on its place in the batch.

        Returns:
            Values (B, C, H, W) float32.

        Raises:
            OptionError: the normalisation is to be fitted and was not.
        """
        values = signal.values.float() / 255
        if training:
            for augment in self.augmentations:
                values = augment(values, generator)
        if self.fitted and not self.mean:
            raise OptionError("normalize is 'fitted': call fit_arrays or load_state before transform")
        if self.mean:
            # Plain numbers channel by channel: no constant has to be copied to the device.
            channels = zip(values.unbind(1), self.mean, self.std, strict=True)
            values = torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)
        return signal.replace(values)

    def state(self) -> dict[str, Any]:
        """The fitted mean and deviation, on the scale from 0 to 1."""
        return {"mean": self.mean, "std": self.std} if self.fitted and self.mean else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        if self.fitted and state:
            self.mean, self.std = list(state["mean"]), list(state["std"])

    def load_state_key(self) -> Any:
        """Nothing: `load` reads no fitted state."""
        return None


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture (C, H, W) has no colour."""
    return bool((pixels == pixels[:1]).all())
