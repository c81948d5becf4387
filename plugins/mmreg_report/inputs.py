"""A row's inputs as a reader sees and hears them: pictures, texts, sounds that can be played, numbers."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.messages import shortened
from mmreg_report.markup import Html, escaped, joined, tag
from mmreg_report.spectrogram import spectrogram
from mmreg_report.subject import Subject

MOST_BYTES = 3_000_000
"""Of all pictures and sounds of a page, as they stand in it."""
LARGEST_SIDE = 112
"""Pixels of a picture."""
LONGEST_SOUND = 4.0
"""Seconds of a sound."""
HIGHEST_RATE = 16_000
LONGEST_TEXT = 400


class Inputs:
    """The inputs of the rows that were predicted; nothing of them where the table is not at hand.

    Pictures and sounds are what the model was given, as the modality has decoded them.

    Args:
        subject: what the page tells of.

    Attributes:
        left_out: inputs that there was no more room for.
    """

    def __init__(self, subject: Subject) -> None:
        self._run, self._known = subject.run, subject.measured
        self._bytes = 0
        self.left_out = 0

    def of(self, place: int) -> dict[str, Html]:
        """The inputs by name of one of the predicted rows."""
        if self._run is None or self._known is None:
            return {}
        row = self._known.rows[place : place + 1]
        return {name: self._shown(name, row) for name in self._run.modalities}

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
        cells = [self._cell(column, row) for column in self._run.plan.inputs[name].columns]
        return joined(cells, "; ")

    def _cell(self, column: str, row: NDArray[np.int64]) -> Html:
        """What the table holds."""
        value = next(iter(self._known.table.iter_values(column, row)), None)
        if isinstance(value, bytes):
            return escaped(f"{len(value):,} bytes")
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return escaped(shortened(text, LONGEST_TEXT))

    def _picture(self, stored: NDArray[Any], name: str) -> Html | None:
        """A picture (C, H, W) of one or three channels."""
        if stored.dtype != np.uint8 or stored.shape[0] not in (1, 3):
            return None
        data = png(stored)
        return self._embedded(data, lambda source: tag("img", src=source, alt=f"the picture {name}"), "image/png")

    def _sound(self, stored: NDArray[Any], rate: int, name: str) -> Html:
        """A sound (T, C), mixed, with its spectrogram."""
        mono = stored.astype(np.float64).mean(1)[: int(LONGEST_SOUND * rate)]
        step = max(1, rate // HIGHEST_RATE)
        sound = wav(mono[: len(mono) // step * step].reshape(-1, step).mean(1), rate // step)
        player = self._embedded(
            sound, lambda source: tag("audio", src=source, controls=True, preload="none", aria_label=name), "audio/wav"
        )
        grid = spectrogram(mono)
        shown = tag("img", src=_url(png(grid), "image/png"), alt=f"the spectrogram of {name}", class_="spectrogram")
        return joined([player, shown]) if self._bytes < MOST_BYTES else player

    def _embedded(self, data: bytes, element: Any, kind: str) -> Html:
        source = _url(data, kind)
        if self._bytes + len(source) > MOST_BYTES:
            self.left_out += 1
            return tag("em", "not shown")
        self._bytes += len(source)
        shown: Html = element(source)
        return shown


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (C, H, W) as a PNG file, no larger than a thumbnail."""
    from torchvision.io import encode_png

    picture = torch.from_numpy(np.ascontiguousarray(pixels))
    largest = max(picture.shape[1:])
    if largest > LARGEST_SIDE:
        size = [max(1, round(side * LARGEST_SIDE / largest)) for side in picture.shape[1:]]
        small = torch.nn.functional.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
        picture = small.round().clamp(0, 255).to(torch.uint8)
    return bytes(encode_png(picture).numpy().tobytes())


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
