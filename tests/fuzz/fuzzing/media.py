"""Pictures and sounds: decoded from bytes, from a file, and for a run that predicts from one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.actions import DamagedFiles, in_place
from fuzzing.cases import Case, Failed, Kind
from fuzzing.formats import png
from fuzzing.oracle import command
from fuzzing.originals import PICTURES, SOUNDS

SHARES = {"jpeg": 30, "gif": 25, "webp": 25, "tiff": 30, "bmp": 20}


class Media(DamagedFiles):
    """Files of one format that a modality loads; how goes by the number of the case."""

    def act(self, case: Case, folder: Path) -> None:
        path = folder / f"damaged{Path(case.original).suffix}"
        column = "audio" if path.suffix[1:] in SOUNDS else "image"
        if case.number % 4 == 0:
            with in_place(path, case.data):
                command(["predict", "run", "-q", "--value", f"{column}={path.name}"])
        elif case.number % 4 == 1:
            with in_place(path, case.data):
                _check(_modality(column), path)
        else:
            _check(_modality(column), case.data)


@cache
def _modality(column: str) -> Any:
    from mmreg_audio.modality import Audio
    from mmreg_image.modality import Image

    return Audio(sample_rate=8000) if column == "audio" else Image(size=16)


def _check(modality: Any, value: Any) -> None:
    """Load a value, whose array must be as the modality says."""
    array, stored = modality.load(value), modality.stored
    shape = tuple(known if size is None else size for size, known in zip(stored.shape, array.shape, strict=True))
    if array.dtype != stored.dtype or array.shape != shape or not np.isfinite(array).all():
        raise Failed(f"loaded {array.dtype} {array.shape}, where {stored} is promised, or values that are not finite")


KINDS: list[Kind] = [
    *(Media(f"image-{ending}", share, [f"{name}.{ending}" for name in PICTURES]) for ending, share in SHARES.items()),
    Media("image-png", 40, [f"{name}.png" for name in PICTURES], damages=[png]),
    *(Media(f"sound-{ending}", 25, [f"mono.{ending}", f"stereo.{ending}"]) for ending in SOUNDS),
]
