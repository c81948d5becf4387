"""Predicts with an exported ONNX model from pictures, sounds, texts and numbers, without torch and without mmreg.

`mmreg export` copies this file beside each model that it writes as ONNX. It needs numpy and onnxruntime, and by what
the model reads pillow, soundfile and tokenizers. It decodes what mmreg decodes, to the same arrays.

    python runner.py table.csv > predictions.csv

    from runner import Model
    Model("folder").predict([{"image": "cat.png", "title": "a cat"}])

Axes: B batch, C channels, H W height and width, T time or tokens, D numbers.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import csv
import datetime
import hashlib
import io
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Decode = Callable[[Any], Mapping[str, Array]]
"""From a cell to its arrays by name; "" for a modality of one alone."""

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
MOST_PIXELS = 100_000_000
MOST_RATE = 1_000_000
CONTAINERS = (b"ftyp", b"\x1aE\xdf\xa3", b"AVI ")
"""What files of several tracks begin with, at the first, fifth or ninth byte."""
PCM = {"uint8": (128, 1 << 7), "int8": (0, 1 << 7), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
LARGEST_KERNEL = 2_000_000
BUCKETS = 1 << 22
CYCLES = {"day of the year": 365.2425, "day of the week": 7.0, "time of the day": 1.0}
TRUTH_VALUES = {"true": ("1", "1.0"), "false": ("0", "0.0")}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NORMAL = NormalDist()
INTEGER = re.compile(r"(0|-?[1-9][0-9]{0,17})")
FLOAT = re.compile(r"[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
NOT_FINITE = re.compile(r"(?i)[+-]?(nan|inf|infinity)")


class RunnerError(ValueError):
    """What stands in the way of a prediction: a value that cannot be decoded, a table or a model that is none."""


class Model:
    """An exported model, as `mmreg export --format onnx` wrote it.

    Args:
        path: the .onnx file, or a folder with one of them (of several the one called model.onnx; those called
            NAME.int8.onnx only where there is no other).

    Attributes:
        facts: what the JSON beside the file says.
    """

    def __init__(self, path: str | Path) -> None:
        import onnxruntime

        file = _model_file(Path(path))
        described = file.with_name(file.name + ".json")
        try:
            self.facts: dict[str, Any] = json.loads(described.read_text("utf-8"))
            reading = self.facts.get("decoding")
            self._decoders: dict[str, Decode] = {
                each["modality"]: DECODERS[each["kind"]](each) for each in reading or ()
            }
        except FileNotFoundError as error:
            raise RunnerError(f"there is no {described}, which says what {file.name} takes: copy both") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise RunnerError(f"{described} is damaged, copy it again: {type(error).__name__}: {error}") from error
        if reading is None:
            raise RunnerError(f"{file} was exported without a runner: give its inputs to onnxruntime yourself")
        try:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise RunnerError(f"{file} cannot be loaded, copy it again: {error}") from error
        if found != self.facts.get("sha256", found):
            raise RunnerError(f"{file} is damaged, or not the file that {described.name} tells of: copy both again")
        try:
            self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # each of onnxruntime's is a class of its own
            raise RunnerError(f"{file} cannot be loaded, copy it again: {error}") from error

    def predict(
        self, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]], folder: str | Path = ".", batch_size: int = 64
    ) -> list[dict[str, Any]]:
        """Predict rows.

        Args:
            rows: one or more, by the columns of the table; an absent value is None, an empty text or NaN, or left out.
                A picture or sound is a path, a file's bytes or an array.
            folder: what relative paths are relative to.
            batch_size: rows at a time.

        Returns:
            For each row its number (or key), the probabilities or values, and which modalities it had.

        Raises:
            RunnerError: a value cannot be decoded; names the row, the modality and the column.
        """
        rows = [rows] if isinstance(rows, Mapping) else list(rows)
        if batch_size < 1:
            raise RunnerError(f"the rows at a time must be 1 or more, found {batch_size}")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise RunnerError(f"row {number} has no columns: it is a {type(row).__name__}")
        decoded = [self._row(number, row, Path(folder)) for number, row in enumerate(rows, 1)]
        kept = [
            (number, row, own)
            for number, (row, own) in enumerate(zip(rows, decoded, strict=True), 1)
            if own is not None
        ]
        results: list[dict[str, Any]] = []
        for first in range(0, len(kept), batch_size):
            results += self._batch(kept[first : first + batch_size])
        return results

    def decode(self, modality: str, value: Any) -> Mapping[str, Array]:
        """One cell's arrays, as the model takes them; "" is the name of a modality's only one."""
        return self._decoders[modality](value)

    def _row(self, number: int, row: Mapping[str, Any], folder: Path) -> dict[str, Mapping[str, Array]] | None:
        """What a row has, by modality; None for a row to be left out."""
        found: dict[str, Mapping[str, Array]] = {}
        for each in self.facts["decoding"]:
            cells = {name: _cell(row.get(name), self.facts["missing"]) for name in each["columns"]}
            if all(cell is None for cell in cells.values()):
                continue
            value: Any = cells if each["kind"] == "tabular" else next(iter(cells.values()))
            if each["paths"] and isinstance(value, str) and not value.startswith("["):
                value = folder / value
            try:
                found[each["modality"]] = self._decoders[each["modality"]](value)
            except (ValueError, TypeError, OSError) as error:
                if each["on_bad"] == "skip":
                    return None
                if each["on_bad"] == "error":
                    raise RunnerError(f"row {number}, {_place(each, value, str(error))}{error}") from error
        return found

    def _batch(self, rows: Sequence[tuple[int, Mapping[str, Any], Mapping[str, Any]]]) -> list[dict[str, Any]]:
        inputs = batch(self.facts["inputs"], [decoded for *_, decoded in rows])
        names = [each["name"] for each in self.facts["outputs"]]
        wanted = {each.name for each in self._session.get_inputs()}  # one that changes nothing is none of the file's
        values = self._session.run(names, {name: array for name, array in inputs.items() if name in wanted})
        columns: dict[str, list[Any]] = {}
        for facts, array in zip(self.facts["outputs"], values, strict=True):
            columns |= _columns(facts, array)
        key = self.facts["key"] or ""
        results = []
        for at, (number, row, decoded) in enumerate(rows):
            start: dict[str, Any] = {key: row[key]} if key in row else {"row": number}
            had = "+".join(each["modality"] for each in self.facts["decoding"] if each["modality"] in decoded)
            results.append({**start, **{name: column[at] for name, column in columns.items()}, "modalities": had})
        return results


def batch(inputs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Mapping[str, Array]]]) -> dict[str, Array]:
    """What the model takes of some rows: arrays by name, padded with zeros.

    Args:
        inputs: as the JSON describes them.
        rows: each row's arrays by modality, then by their own names; without the modalities that it lacks.
    """
    found = {}
    for each in inputs:
        own = [row.get(each["modality"]) for row in rows]
        if each["role"] == "present":
            found[each["name"]] = np.array([arrays is not None for arrays in own])
        elif each["role"] == "lengths":
            found[each["name"]] = np.array([len(arrays[each["array"]]) if arrays else 1 for arrays in own], np.int64)
        else:
            given = [None if arrays is None else arrays[each["array"]] for arrays in own]
            shape = [size if isinstance(size, int) else 0 for size in each["shape"][1:]]
            if not isinstance(each["shape"][1], int):
                shape[0] = max([each.get("least_steps", 1), *(len(array) for array in given if array is not None)])
            padded = np.zeros((len(rows), *shape), each["dtype"])
            for place, array in zip(padded, given, strict=True):
                if array is not None:
                    place[: len(array)] = array
            found[each["name"]] = padded
    return found


def _columns(facts: Mapping[str, Any], values: Array) -> dict[str, list[Any]]:
    """An output's columns by name, as tables of predictions have them."""
    name = facts["name"]
    if name == "scores":  # only of interest where there is nothing that people read
        parts = {"score" if values.shape[1] == 1 else f"score_{k}": values[:, k] for k in range(values.shape[1])}
        return {key: part.tolist() for key, part in parts.items()} if facts["told"] else {}
    if "columns" not in facts:
        return {name: values.tolist()}
    prefix = name.rpartition(".")[0] + "." if "." in name else ""
    told: dict[str, list[Any]] = {}
    if "labels" in facts:
        best = values.argmax(1)
        told["label"] = [facts["labels"][k] for k in best.tolist()]
        told["probability"] = values.max(1).tolist()
    start = "probability_" if facts["is"] == "probabilities" else ""
    told |= {f"{start}{column}": values[:, k].tolist() for k, column in enumerate(facts["columns"])}
    return {prefix + key: column for key, column in told.items()}


def _cell(value: Any, missing: Sequence[str]) -> Any:
    """A cell's value; None where it is absent."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, list | tuple):
        value = np.array(value)
    if isinstance(value, str | np.ndarray | bytes):
        return None if not len(value) or (isinstance(value, str) and value in missing) else value
    return value


def _place(facts: Mapping[str, Any], value: Any, told: str) -> str:
    """The modality whose cell is bad, with its column and file where neither its name nor what is told says them."""
    name, columns = facts["modality"], facts["columns"]
    column = f" (column {columns[0]})" if facts["kind"] != "tabular" and columns[0] != name else ""
    file = f"{value}: " if isinstance(value, Path) and str(value) not in told else ""
    return f"{name}{column}: {file}"


def _shown(value: Any) -> str:
    """A cell's value, short enough to be told."""
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bytes(path: Path) -> bytes:
    """A file's content; a device may have no end."""
    if path.exists() and not path.is_file():
        raise RunnerError(f"{path} is no file")
    return path.read_bytes()


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.onnx"))
    files = [file for file in files if not file.name.endswith(".int8.onnx")] or files
    if not files:
        raise RunnerError(f"{path} has no .onnx file")
    usual = path / "model.onnx"
    if len(files) > 1 and usual not in files:
        raise RunnerError(f"{path} has several .onnx files; name one (--model): {', '.join(map(str, files))}")
    return usual if usual in files else files[0]


# ---- pictures ----


def picture_decoder(facts: Mapping[str, Any]) -> Decode:
    """Of a picture to (C, H, W) uint8."""
    size, channels = facts["size"], facts["channels"]
    height, width = (size, size) if isinstance(size, int) else size

    def decode(value: Any) -> dict[str, Array]:
        pixels = _fitted(_pixels(value), height, width, facts["resize"], facts["interpolation"])
        if len(pixels) == channels:
            return {"": pixels}
        if channels == 3:
            return {"": np.repeat(pixels, 3, axis=0)}
        luma = (pixels * np.array([19595, 38470, 7471], np.uint32)[:, None, None]).sum(
            0, keepdims=True, dtype=np.uint32
        )
        return {"": ((luma + 0x8000) >> 16).astype(np.uint8)}

    return decode


def _pixels(value: Any) -> Array:
    """Grey or RGB (1 or 3, H, W) uint8, alpha laid over white."""
    if isinstance(value, np.ndarray):
        if value.ndim == 2:
            value = value[None]
        elif value.ndim == 3 and value.shape[2] in (1, 3, 4):
            value = value.transpose(2, 0, 1)
        if value.ndim != 3 or value.shape[0] not in (1, 3, 4):
            raise RunnerError(f"an array of shape {value.shape} is no picture")
    else:
        value = _read_picture(_bytes(value) if isinstance(value, Path) else value)
    pixels = _eight_bits(value)
    if len(pixels) in (1, 3):
        return pixels
    colour, alpha = pixels[:-1].astype(np.uint16), pixels[-1].astype(np.uint16)
    blended = colour * alpha + 255 * (255 - alpha) + 128
    result: Array = ((blended + (blended >> 8)) >> 8).astype(np.uint8)
    return result


def _read_picture(data: Any) -> Array:
    """The first picture in a file's bytes, upright, (C, H, W) with C of 1 to 4."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not isinstance(data, bytes | bytearray | memoryview):
        raise RunnerError(f"a picture is a path, bytes or an array, found {type(data).__name__}")
    data = bytes(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10" and data[25:26] in b"\x02\x04\x06":
        raise RunnerError("a PNG picture with 16 bits a colour, of which Pillow reads 8: save it with 8")
    Image.init()
    try:
        with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            _check_size(image.width, image.height)
            ImageOps.exif_transpose(image, in_place=True)
            mode = image.mode
            shown: Image.Image = image
            if image.has_transparency_data and mode != "LA":
                shown = image.convert("RGBA")
            elif mode == "1":
                shown = image.convert("L")
            elif mode not in ("L", "LA", "RGB", "I", "F") and not mode.startswith("I;16"):
                shown = image.convert("RGB")
            array = np.asarray(shown)
    except RunnerError:
        raise
    except UnidentifiedImageError as error:  # which tells of no more than an object in memory
        raise RunnerError(f"no picture in any known format ({len(data)} bytes, from {data[:8]!r})") from error
    except Exception as error:  # Pillow's readers raise whatever broken data makes happen in them
        raise RunnerError(f"a damaged picture ({error})") from error
    array = array.astype(np.uint16) if mode.startswith("I") else array
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise RunnerError(f"{width} x {height} pixels; at most {MOST_PIXELS:,} are decoded")


def _eight_bits(array: Array) -> Array:
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        quotient, remainder = np.divmod(array, np.uint16(257))
        return (quotient + (remainder > 128)).astype(np.uint8)
    if array.dtype.kind == "f":
        array = np.rint(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32) * 255)
    if array.dtype.kind not in "fiu" or not (array.min() >= 0 and array.max() <= 255):
        raise RunnerError("pixels are to be from 0 to 255, or floating point from 0 to 1")
    return array.astype(np.uint8)


def _fitted(pixels: Array, height: int, width: int, how: str, interpolation: str) -> Array:
    old_height, old_width = pixels.shape[1:]
    if how == "crop":
        cut_height = min(old_height, max(1, round(old_width * height / width)))
        cut_width = min(old_width, max(1, round(old_height * width / height)))
        top, left = (old_height - cut_height) // 2, (old_width - cut_width) // 2
        pixels = pixels[:, top : top + cut_height, left : left + cut_width]
    elif how == "pad":
        scale = min(height / old_height, width / old_width)
        inner_height = min(height, max(1, round(old_height * scale)))
        inner_width = min(width, max(1, round(old_width * scale)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        padded = np.zeros((len(pixels), height, width), np.uint8)
        inner = resized(pixels, inner_height, inner_width, interpolation)
        padded[:, top : top + inner_height, left : left + inner_width] = inner
        return padded
    return resized(pixels, height, width, interpolation)


def resized(pixels: Array, height: int, width: int, interpolation: str) -> Array:
    """(C, H, W) uint8 in another size, antialiased, in the whole numbers in which torch does it."""
    across = _along_width(pixels, width, interpolation)
    return np.ascontiguousarray(_along_width(across.swapaxes(1, 2), height, interpolation).swapaxes(1, 2))


def _along_width(pixels: Array, new: int, interpolation: str) -> Array:
    old = pixels.shape[-1]
    if old == new:
        return pixels
    scale = old / new
    reach = (2.0 if interpolation == "bicubic" else 1.0) * max(scale, 1.0)
    parts: list[tuple[int, NDArray[np.float64]]] = []
    for place in range(new):
        centre = scale * (place + 0.5)
        first, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), old)
        far = np.abs((np.arange(first, end) - centre + 0.5) / max(scale, 1.0))
        if interpolation == "bicubic":  # Keys 1981, with a = -0.5
            outer = ((far - 5) * far + 8) * far - 4
            weights = np.where(far < 1, (1.5 * far - 2.5) * far * far + 1, np.where(far < 2, -0.5 * outer, 0.0))
        else:
            weights = np.where(far < 1, 1 - far, 0.0)
        parts.append((first, weights / weights.sum()))
    most, bits = max(weights.max() for _, weights in parts), 0
    while bits < 22 and int(0.5 + most * (1 << (bits + 1))) < 1 << 15:  # weights of 16 bits
        bits += 1
    result = np.empty((*pixels.shape[:-1], new), np.uint8)
    for place, (first, weights) in enumerate(parts):
        whole = np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)).astype(np.int64)
        total = pixels[..., first : first + len(whole)].astype(np.int64) @ whole + (1 << (bits - 1))
        result[..., place] = (total >> bits).clip(0, 255)
    return result


# ---- sounds ----


def sound_decoder(facts: Mapping[str, Any]) -> Decode:
    """Of a sound to (T, C) float32."""
    rate, channels, seconds = facts["sample_rate"], facts["channels"], facts["max_seconds"]

    def decode(value: Any) -> dict[str, Array]:
        own: Any = facts["source_rate"] or rate
        if isinstance(value, Mapping):
            own = value.get("sampling_rate") or own
            value = value["array"] if value.get("array") is not None else value.get("bytes")
        if isinstance(value, np.ndarray | list):
            samples = _samples(np.asarray(value), math.ceil(seconds * own))
        else:
            samples, own = _read_sound(value, seconds)
        if samples.shape[1] != channels:
            if channels != 1:
                raise RunnerError(f"{samples.shape[1]} channels, where {channels} are needed")
            samples = samples.mean(1, keepdims=True, dtype=np.float32)
        if not len(samples) or not np.abs(samples).max() <= 1e9:
            raise RunnerError("no samples, or some that are not finite")
        return {"": resampled(samples, int(own), rate)[: max(1, int(seconds * rate))]}

    return decode


def _read_sound(value: Any, seconds: float) -> tuple[Array, int]:
    import soundfile

    data = _bytes(value) if isinstance(value, Path) else value
    if not isinstance(data, bytes):
        raise RunnerError(f"a sound is a path, bytes, an array or a dict with 'array', found {type(value).__name__}")
    if any(data[at : at + len(mark)] == mark for mark in CONTAINERS for at in (0, 4, 8)):
        raise RunnerError("the sound track of a video, which soundfile does not read: save it as a sound")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if not 1 <= file.samplerate <= MOST_RATE:
                raise RunnerError(f"a sampling rate of {file.samplerate} Hz")
            return file.read(math.ceil(seconds * file.samplerate), dtype="float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, TypeError) as error:
        raise RunnerError(f"cannot be read as a sound: {error}") from error


def _samples(array: Array, most: int) -> Array:
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size:
        raise RunnerError(f"an array of shape {array.shape}, where (samples,) or (samples, channels) is needed")
    array = array[:most]
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.name not in PCM:
        raise RunnerError(f"samples of {array.dtype}, where floating point or {', '.join(PCM)} is needed")
    zero, full = PCM[array.dtype.name]
    return ((array.astype(np.float64) - zero) / full).astype(np.float32)


def resampled(samples: Array, source: int, target: int) -> Array:
    """(T, C) at another rate, by the Hann-windowed sinc of torchaudio's `resample`."""
    if source == target:
        return samples
    ratio = Fraction(target, source)
    if ratio.numerator * ratio.denominator > LARGEST_KERNEL:
        ratio = ratio.limit_denominator(max(1000, 2 * source // target))
    new, old = ratio.numerator, ratio.denominator
    base = min(old, new) * 0.99
    width = math.ceil(6 * old / base)
    steps = np.arange(-width, width + old, dtype=np.float32) / np.float32(old)
    times = (-np.arange(new, dtype=np.float32)[:, None] / np.float32(new) + steps) * np.float32(base)
    times = times.clip(-6, 6)
    window = np.cos(times * np.float32(math.pi) / 6 / 2) ** 2 * np.float32(base / old)
    angles = times * np.float32(math.pi)
    kernel = (np.sinc(angles.astype(np.float64) / math.pi) * window).astype(np.float32)
    padded = np.pad(samples, ((width, width + old), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(steps), axis=0)[::old]  # (frames, C, kernel)
    result = (windows @ kernel.T).transpose(0, 2, 1).reshape(-1, samples.shape[1])
    return np.ascontiguousarray(result[: math.ceil(new * len(samples) / old)])


# ---- texts ----


def text_decoder(facts: Mapping[str, Any]) -> Decode:
    """Of a text to its tokens' numbers (T,) int32; of n-grams with their weights."""
    if "ngrams" in facts:
        numbers_of: Callable[[str], Mapping[str, Array]] = _ngrams(facts)
    elif "tokenizer" in facts:
        numbers_of = _subwords(facts)
    else:
        split, numbers = SPLITTERS[facts["method"]], {word: number for number, word in enumerate(facts["words"], 2)}

        def numbers_of(text: str) -> Mapping[str, Array]:
            found = [numbers.get(word, 1) for word in split(text)[: facts["max_tokens"]]]
            return {"": np.array(found or [1], np.int32)}

    def decode(value: Any) -> Mapping[str, Array]:
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, bool | int | float):
            value = str(value)
        if not isinstance(value, str):
            raise RunnerError(f"text expected, found {type(value).__name__}")
        value.encode()  # half a surrogate pair is no text
        return numbers_of(value.lower() if facts["lower"] else value)

    return decode


def basic_english(text: str) -> list[str]:
    """Words and punctuation in lower case, as torchtext's tokenizer of that name cuts them."""
    text = text.lower().replace("'", " '  ").replace('"', "").replace(".", " . ").replace("<br />", " ")
    for mark in ",()!?":
        text = text.replace(mark, f" {mark} ")
    return text.replace(";", " ").replace(":", " ").split()


SPLITTERS: Mapping[str, Callable[[str], list[str]]] = {
    "basic_english": basic_english,
    "whitespace": str.split,
    "char": list,
}


def _subwords(facts: Mapping[str, Any]) -> Callable[[str], Mapping[str, Array]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(facts["tokenizer"])
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    names = [(tokenizer.padding or {}).get("pad_token"), "<pad>", "[PAD]", "<PAD>", "<|pad|>"]
    padding = next((vocabulary[name] for name in names if name in vocabulary), None)
    shift = 0 if padding == 0 else 1
    model = json.loads(facts["tokenizer"])["model"]
    own = vocabulary.get(model.get("unk_token"), model.get("unk_id"))
    unknown = (max(vocabulary.values(), default=-1) + 1 if own is None else own) + shift
    tokenizer.no_padding()
    tokenizer.enable_truncation(facts["max_tokens"])

    def numbers_of(text: str) -> Mapping[str, Array]:
        encoded = tokenizer.encode(text, add_special_tokens=facts["special_tokens"]).ids
        numbers = np.array(encoded, np.int32) + np.int32(shift)
        if padding is not None:
            numbers[numbers == padding + shift] = unknown
        return {"": numbers if len(numbers) else np.array([unknown], np.int32)}

    return numbers_of


def _ngrams(facts: Mapping[str, Any]) -> Callable[[str], Mapping[str, Array]]:
    buckets = np.frombuffer(base64.b64decode(facts["ngrams"]["buckets"]), "<i4")
    idf = np.frombuffer(base64.b64decode(facts["ngrams"]["idf"]), "<f4").astype(np.float64)
    order = np.argsort(buckets)
    longest, mean = facts["char_ngrams"], facts["weighting"] == "mean"
    sizes = range(min(3, longest), longest + 1) if longest else range(0)

    def hashed(parts: Iterable[str], start: int) -> tuple[Array, Array]:
        hashes = np.array([crc32(part.encode(), start) % BUCKETS for part in parts], np.int64)
        each, counts = np.unique(hashes, return_counts=True)
        places = np.searchsorted(buckets, each, sorter=order).clip(max=max(len(buckets) - 1, 0))
        known = buckets[order[places]] == each if len(buckets) else np.zeros(len(each), bool)
        numbers = order[places[known]] if known.any() else np.zeros(0, np.int64)
        weights = counts[known] * idf[numbers]
        length = weights.sum() if mean else np.sqrt((weights**2).sum())
        return numbers + 2, weights / max(length, np.finfo(np.float64).tiny)

    def numbers_of(text: str) -> Mapping[str, Array]:
        words = basic_english(text)[: facts["max_tokens"]]
        runs = (
            " ".join(words[at : at + n]) for n in range(1, facts["word_ngrams"] + 1) for at in range(len(words) - n + 1)
        )
        marked = [f"<{word}>" for word in words]
        pieces = (word[at : at + n] for word in marked for n in sizes for at in range(len(word) - n + 1))
        (first, weights), (second, further) = hashed(runs, 0), hashed(pieces, 1)
        share = 1.0 if not sizes else 0.5 if mean else np.sqrt(0.5)
        numbers, all_weights = np.concatenate([first, second]), np.concatenate([weights, further]) * share
        if not len(numbers):
            numbers, all_weights = np.array([1]), np.zeros(1)
        return {"tokens": numbers.astype(np.int32), "weights": all_weights.astype(np.float32)}

    return numbers_of


# ---- numbers ----


def numbers_decoder(facts: Mapping[str, Any]) -> Decode:
    """Of a list, array or .npy file to a vector (D,), or a sequence (T, D), float32."""
    series = facts["kind"] == "series"

    def decode(value: Any) -> dict[str, Array]:
        if isinstance(value, Path | bytes):
            loaded = np.load(io.BytesIO(_bytes(value) if isinstance(value, Path) else value), allow_pickle=False)
            value = loaded if isinstance(loaded, np.ndarray) else None
        elif isinstance(value, str):
            value = json.loads(value)
        array = np.asarray(value)
        if series and array.dtype.kind == "O":
            array = np.array(value, np.float64)  # None becomes NaN
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or not array.size:
            raise RunnerError("no vector of numbers, nor a sequence of such")
        array = array.astype(np.float32)
        array = (array[:, None] if array.ndim == 1 else array)[: facts["max_steps"]] if series else array
        if (np.isinf(array) if series else ~np.isfinite(array)).any():
            raise RunnerError("it holds a number that is not finite in float32")
        if array.ndim != 1 + (series or facts["sequence"]) or array.shape[-1] != facts["size"]:
            raise RunnerError(f"it has the shape {array.shape}, where {facts['size']} numbers (a step) are needed")
        return {"": array}

    return decode


def tabular_decoder(facts: Mapping[str, Any]) -> Decode:
    """Of a row's columns to numbers (D,) float32, NaN where they are empty, and categories (D,) int32."""
    columns = {name: _column(column) for name, column in facts["fitted"].items()}
    of_categories = {name for name, column in facts["fitted"].items() if column["kind"] == "category"}
    sizes = [2 + len(facts["fitted"][name]["names"]) for name in columns if name in of_categories]
    first = np.concatenate([[0], np.cumsum(sizes)])[: len(sizes)].astype(np.int64)

    def decode(value: Any) -> dict[str, Array]:
        numbers: list[float] = []
        categories: list[float] = []
        for name, column in columns.items():
            try:
                found = column(value.get(name))
            except (ValueError, OverflowError) as error:
                if facts["bad_cells"] == "refuse":
                    raise RunnerError(f"{name}: {error}") from error
                found = column(None)
            (categories if name in of_categories else numbers).extend(found)
        arrays: dict[str, Array] = {"numbers": np.array(numbers, np.float32)} if numbers else {}
        if categories:
            arrays["categories"] = (np.array(categories, np.int64) + first).astype(np.int32)
        return arrays

    return decode


def _column(facts: Mapping[str, Any]) -> Callable[[Any], list[float]]:
    """From a cell to its numbers, or to the number of its category."""
    if facts["kind"] == "category":
        numbers = {name: 2 + at for at, name in reversed(list(enumerate(facts["names"])))}
        for name in TRUTH_VALUES if facts["truth_values"] else ():
            if name in numbers:
                numbers |= dict.fromkeys(TRUTH_VALUES[name], numbers[name])
        return lambda value: [0 if value is None else numbers.get(_category(value), 1)]
    how, knots = facts["how"], facts["facts"]
    if facts["kind"] == "number":
        return lambda value: [math.nan if value is None else _scaled(_number(value), how, knots)]
    cycles = [CYCLES[name] for name in facts["cycles"]]

    def date(value: Any) -> list[float]:
        if value is None:
            return [math.nan] * (1 + 2 * len(cycles))
        days = _days(value)
        angles = [2 * math.pi * (days % cycle) / cycle for cycle in cycles]
        return [_scaled(days, how, knots), *(part for angle in angles for part in (math.sin(angle), math.cos(angle)))]

    return date


def _number(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    elif isinstance(value, datetime.time):
        value = value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if not isinstance(value, str | int | float | Decimal):
        raise RunnerError(f"{_shown(value)} is no number")
    try:
        found = float(value)
    except ValueError as error:
        raise RunnerError(f"{_shown(value)} is no number") from error
    if not math.isfinite(found):
        raise RunnerError(f"{_shown(value)} is no finite number")
    return found


def _days(value: Any) -> float:
    if isinstance(value, str):
        if len(value) < len("2024-05-31") or value[4:5] != "-":
            raise RunnerError(f"{_shown(value)} is no date (such as 2024-05-31)")
        value = datetime.datetime.fromisoformat(value.strip())
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime):
        raise RunnerError(f"{_shown(value)} is no date (such as 2024-05-31)")
    aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
    return (aware - EPOCH).total_seconds() / 86_400.0


def _category(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in TRUTH_VALUES):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if not isinstance(value, str | int | float | Decimal | datetime.timedelta):
        raise RunnerError(f"{_shown(value)} is no category")
    return str(value)


def _scaled(value: float, how: str, knots: Sequence[float]) -> float:
    if how == "none":
        return max(-3e38, min(3e38, value))
    if how == "standard":
        mean, deviation = knots
        return max(-100.0, min(100.0, (value - mean) / deviation)) if deviation > 0 else 0.0
    bound = -NORMAL.inv_cdf(1e-7)
    if knots[0] == knots[-1]:
        return 0.0 if value == knots[0] else math.copysign(bound, value - knots[0])
    low, high = bisect.bisect_left(knots, value), bisect.bisect_right(knots, value)
    if high == 0 or low == len(knots):
        return -bound if high == 0 else bound
    if low < high:
        place = 0.0 if low == 0 else len(knots) - 1.0 if high == len(knots) else (low + high - 1) / 2
    else:
        place = low - 1 + (value - knots[low - 1]) / (knots[low] - knots[low - 1])
    share = place / (len(knots) - 1)
    return NORMAL.inv_cdf(share) if 1e-7 < share < 1 - 1e-7 else math.copysign(bound, share - 0.5)


DECODERS: Mapping[str, Callable[[Mapping[str, Any]], Decode]] = {
    "image": picture_decoder,
    "audio": sound_decoder,
    "text": text_decoder,
    "vector": numbers_decoder,
    "series": numbers_decoder,
    "tabular": tabular_decoder,
}


# ---- tables ----


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .csv, .tsv or .jsonl file; a column of nothing but numbers holds numbers."""
    rows = _json_rows(path) if path.suffix in (".jsonl", ".ndjson") else _delimited_rows(path)
    if not rows:
        raise RunnerError(f"{path} has no rows: there is nothing to predict")
    return rows


def _delimited_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix not in (".csv", ".tsv"):
        raise RunnerError(f"{path}: a table is a .csv, .tsv or .jsonl file")
    csv.field_size_limit(2**31 - 1)  # of a text; less is the default
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            header, rows = list(reader.fieldnames or ()), list[dict[str, Any]](reader)
    except (ValueError, csv.Error) as error:
        raise RunnerError(f"{path}: {error}") from error
    if twice := _twice(header):
        raise RunnerError(f"{path}: {twice}")
    if any(None in row or None in row.values() for row in rows):
        raise RunnerError(f"{path}: a row has more or fewer cells than the header")
    for name in header:
        cells = [row[name] for row in rows if row[name]]
        kind: Any = str
        if cells and all(INTEGER.fullmatch(cell) for cell in cells):
            kind = int
        elif any(FLOAT.fullmatch(cell) for cell in cells):
            kind = float if all(FLOAT.fullmatch(cell) or NOT_FINITE.fullmatch(cell) for cell in cells) else str
        for row in rows:
            row[name] = kind(row[name]) if row[name] else None
    return rows


def _json_rows(path: Path) -> list[Any]:
    lines = enumerate(path.read_text("utf-8").split("\n"), 1)
    return [_json_row(path, number, line) for number, line in lines if line.strip()]


def _json_row(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise RunnerError(f"{path}, line {number}: {error}") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := _twice([name for name, _ in pairs]):
        raise RunnerError(twice)
    return dict(pairs)


def _twice(names: Sequence[str]) -> str:
    """What is wrong with columns of these names; empty where each has its own."""
    told = ", ".join(sorted(repr(name) for name, count in Counter(names).items() if count > 1))
    return told and f"more than one column is called {told}; rename them"


def check_columns(facts: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """See that a table has columns that the model reads, and say which of them it lacks."""
    there = dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row)
    wanted = dict.fromkeys(name for each in facts["decoding"] for name in each["columns"])
    if there and there.keys().isdisjoint(wanted):
        raise RunnerError(f"the table has none of the columns {', '.join(wanted)}; it has {', '.join(map(str, there))}")
    for name in wanted if there else ():
        if name not in there:
            print(f"note: the table has no column {name!r}; it counts as absent in every row", file=sys.stderr)


def main() -> int:
    """Predict a table's rows, as CSV on the standard output."""
    parser = argparse.ArgumentParser(description="Predict a table's rows with the model in this folder.")
    parser.add_argument("table", type=Path, help="a .csv, .tsv or .jsonl file with the columns of the training table")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent, help="the .onnx file, or its folder")
    parser.add_argument("--batch-size", type=int, default=64, help="rows at a time")
    given = parser.parse_args()
    try:
        model, rows = Model(given.model), read_rows(given.table)
        check_columns(model.facts, rows)
        rows = model.predict(rows, given.table.parent, given.batch_size)
    except (OSError, ValueError, ImportError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    try:
        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
        sys.stdout.flush()
    except BrokenPipeError:  # as `head` leaves it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
