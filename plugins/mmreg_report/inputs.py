"""A row's inputs as a reader sees and hears them: pictures, texts, sounds that can be played, numbers."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.messages import shortened
from mmreg_report.markup import Html, escaped, joined, tag
from mmreg_report.spectrogram import spectrogram
from mmreg_report.subject import Subject

LARGEST_SIDE = 120
"""Pixels of a picture."""
LONGEST_SOUND = 4.0
"""Seconds of a sound."""
HIGHEST_RATE = 16_000
LONGEST_TEXT = 400
MOST_COLUMNS = 16
"""Columns of an input that has several that are shown."""


class Inputs:
    """The inputs of the rows that were predicted; nothing of them where the table is not at hand.

    Pictures and sounds are what the model was given, as the modality has decoded them.

    Args:
        subject: what the page tells of.
        most_bytes: of all pictures and sounds, as they stand in the page.
        known: the rows, where they are not those that were predicted.

    Attributes:
        left_out: inputs that there was no more room for.
    """

    def __init__(self, subject: Subject, most_bytes: int, known: Any = None) -> None:
        self._run, self._known, self._most_bytes = subject.run, known or subject.measured, most_bytes
        self._bytes = 0
        self.left_out = 0

    def of(self, place: int) -> dict[str, Html]:
        """The inputs by name of one of the rows."""
        if self._run is None or self._known is None:
            return {}
        row = self._known.rows[place : place + 1]
        return {name: self._shown(modalities[0], row) for name, modalities in self._run.inputs.items()}

    def _shown(self, name: str, row: NDArray[np.int64]) -> Html:
        assert self._run is not None
        prepared, modality = self._known.prepared[name], self._run.modalities[name]
        if not prepared.present[row[0]]:
            return tag("em", "absent")
        spec = modality.stored
        axes = getattr(spec, "axes", "")
        rate = getattr(modality, "sample_rate", None)
        if axes in ("CHW", "TCHW", "TC") and (axes != "TC" or rate):
            stored = next(iter(prepared.arrays(row)), None)
            if isinstance(stored, np.ndarray) and stored.size:
                if axes == "TC":
                    return self._sound(stored, int(rate or 1), name)
                if shown := self._picture(stored if axes == "CHW" else stored[len(stored) // 2], name):
                    return shown
        columns = self._run.plan.inputs[name].columns
        if len(columns) == 1:
            return self._cell(columns[0], row)
        cells = [joined([column, ": ", self._cell(column, row)]) for column in columns[:MOST_COLUMNS]]
        return joined([*cells, *(["..."] if len(columns) > MOST_COLUMNS else [])], "; ")

    def _cell(self, column: str, row: NDArray[np.int64]) -> Html:
        """What the table holds."""
        value = next(iter(self._known.table.iter_values(column, row)), None)
        if value is None:
            return tag("em", "absent")
        if isinstance(value, bytes):
            return escaped(f"{len(value):,} bytes")
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return escaped(shortened(text, LONGEST_TEXT))

    def _picture(self, stored: NDArray[Any], name: str) -> Html | None:
        """A picture (C, H, W) of one or three channels."""
        if stored.dtype != np.uint8 or stored.shape[0] not in (1, 3):
            return None
        return self._embedded(*picture_file(stored), lambda source: tag("img", src=source, alt=f"the picture {name}"))

    def _sound(self, stored: NDArray[Any], rate: int, name: str) -> Html:
        """A sound (T, C), mixed, with its spectrogram."""
        mono = stored.astype(np.float64).mean(1)[: int(LONGEST_SOUND * rate)]
        step = max(1, rate // HIGHEST_RATE)
        sound = wav(mono[: len(mono) // step * step].reshape(-1, step).mean(1), rate // step)
        player = self._embedded(
            sound, "audio/wav", lambda source: tag("audio", src=source, controls=True, preload="none", aria_label=name)
        )
        grid, alt = spectrogram(mono), f"the spectrogram of {name}"
        shown = self._embedded(
            *picture_file(grid), lambda source: tag("img", src=source, alt=alt, class_="spectrogram")
        )
        return joined([player, shown])

    def _embedded(self, data: bytes, kind: str, element: Callable[[str], Html]) -> Html:
        source = _url(data, kind)
        if self._bytes + len(source) > self._most_bytes:
            self.left_out += 1
            return tag("em", "not shown")
        self._bytes += len(source)
        return element(source)


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_file(pixels: NDArray[np.uint8]) -> tuple[bytes, str]:
    """A picture (C, H, W) as a file, and what kind it is: as it is, or a small one of a large one."""
    from torchvision.io import encode_jpeg, encode_png

    picture = torch.from_numpy(np.ascontiguousarray(pixels))
    largest = max(picture.shape[1:])
    if largest <= LARGEST_SIDE:
        return bytes(encode_png(picture).numpy().tobytes()), "image/png"
    size = [max(1, round(side * LARGEST_SIDE / largest)) for side in picture.shape[1:]]
    small = torch.nn.functional.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
    return bytes(encode_jpeg(small.round().clamp(0, 255).to(torch.uint8), 85).numpy().tobytes()), "image/jpeg"


def wav(samples: NDArray[np.float64], rate: int) -> bytes:
    """Samples from -1 to 1 as a file of 16 bits each."""
    whole = (np.nan_to_num(samples).clip(-1, 1) * 32767).round().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(whole.tobytes())
    return file.getvalue()
