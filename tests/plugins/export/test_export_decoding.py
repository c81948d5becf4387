"""The runner decodes what a run's modalities do, to the same arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmreg.data.sources import open_table
from mmreg_audio.modality import Audio
from mmreg_export import runtime
from mmreg_image.modality import Image as Picture
from mmreg_tabular.modality import Tabular
from mmreg_text.modality import Text
from mmreg_vector.modality import Vector
from mmreg_vector.series import Series

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (37, 53, 4), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE[..., :3]).resize((120, 90))
PALETTE = PHOTO.quantize(16)
TURNED = Image.Exif()
TURNED[0x112] = 6
PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "jpeg": (PHOTO, "JPEG", {}),
    "jpeg progressive": (PHOTO, "JPEG", {"progressive": True, "subsampling": 0}),
    "jpeg turned": (PHOTO, "JPEG", {"exif": TURNED}),
    "jpeg grey": (PHOTO.convert("L"), "JPEG", {}),
    "jpeg of four inks": (PHOTO.convert("CMYK"), "JPEG", {}),
    "png": (PHOTO, "PNG", {}),
    "png with alpha": (Image.fromarray(NOISE), "PNG", {}),
    "png grey with alpha": (Image.fromarray(NOISE).convert("LA"), "PNG", {}),
    "png of a palette": (PALETTE, "PNG", {}),
    "png of a palette with alpha": (PALETTE, "PNG", {"transparency": bytes(range(0, 256, 16))}),
    "png with a transparent colour": (PHOTO, "PNG", {"transparency": PHOTO.getpixel((3, 4))}),
    "png black and white": (PHOTO.convert("1"), "PNG", {}),
    "png of 16 bits": (Image.fromarray(NOISE[..., 0].astype(np.uint16) * 250), "PNG", {}),
    "gif": (PHOTO, "GIF", {}),
    "gif with a transparent colour": (PALETTE, "GIF", {"transparency": 2}),
    "webp": (PHOTO, "WEBP", {}),
    "bmp": (PHOTO, "BMP", {}),
    "tiff": (PHOTO, "TIFF", {}),
}
TEXTS = [
    "Don't say \"no\"; it's 3.5 (really), isn't it?<br />Yes: really!",
    "ΣΊΣΥΦΟΣ straße İstanbul ﬁn naïve 漢字 🎉🎉",
    "a  b\tc\nd\u00a0e ",
    "unseenwordoftheworld <pad> <unk>",
    " ",
    12,
    2.50,
    b"bytes of a red thing",
]
FITTED = ["a red thing", "some green stuff, isn't it?", "naïve blue items (漢字) 🎉", "a red red item"] * 3


def encoded(name: str) -> bytes:
    picture, form, options = PICTURES[name]
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    ("size", "channels", "resize", "interpolation"),
    [(32, 3, "stretch", "bilinear"), ([200, 51], 1, "crop", "bicubic"), ([48, 96], 3, "pad", "bilinear")],
)
def test_pictures_are_those_of_the_modality(
    name: str, size: Any, channels: Any, resize: Any, interpolation: Any
) -> None:
    options = {"size": size, "channels": channels, "resize": resize, "interpolation": interpolation}
    found = runtime.picture_decoder(options)(encoded(name))[""]
    np.testing.assert_array_equal(found, Picture(**options).load(encoded(name)))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool", "float32"])
def test_arrays_of_pixels_are_pictures(dtype: str) -> None:
    array = {"float32": NOISE[..., :3] / np.float32(255), "bool": NOISE[..., :3] > 99}.get(dtype, NOISE[..., :3])
    array = array.astype(dtype) * (201 if dtype == "uint16" else 1)
    options = {"size": 20, "channels": 3, "resize": "stretch", "interpolation": "bilinear"}
    wanted = Picture(size=20).load(array.astype(dtype))
    np.testing.assert_array_equal(runtime.picture_decoder(options)(array.astype(dtype))[""], wanted)


def test_what_pillow_would_decode_otherwise_is_refused() -> None:
    png = bytearray(encoded("png"))
    png[24] = 16  # bits a colour
    with pytest.raises(runtime.RunnerError, match="16 bits a colour"):
        runtime.picture_decoder({"size": 8, "channels": 3})(bytes(png))


def wave(rate: int, channels: int = 1, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    times = np.arange(int(0.4 * rate)) / rate
    samples = np.stack([np.sin(2 * np.pi * (300 + 90 * k) * times) * 0.7 for k in range(channels)], 1)
    out = io.BytesIO()
    soundfile.write(out, samples + 0.05 * RANDOM.normal(size=samples.shape), rate, format=form, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "channels", "seconds"),
    [
        (wave(8000), 1, 10.0),
        (wave(44100), 1, 0.2),
        (wave(11127, 2), 1, 10.0),
        (wave(48000, 2, subtype="PCM_24"), 2, 10.0),
        (wave(16000, 1, "FLAC"), 1, 0.1234),
        (wave(22050, 2, "OGG", "VORBIS"), 1, 10.0),
    ],
    ids=["as it is", "44.1 kHz, cut", "stereo of an odd rate", "stereo of 24 bits", "flac, cut", "ogg"],
)
def test_sounds_are_those_of_the_modality(data: bytes, channels: int, seconds: float) -> None:
    options = {"sample_rate": 8000, "channels": channels, "max_seconds": seconds}
    found = runtime.sound_decoder({**options, "source_rate": None})(data)[""]
    wanted = Audio(**options).load(data)  # type: ignore[arg-type]
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("value", [RANDOM.normal(size=500), (RANDOM.normal(size=(500, 2)) * 9000).astype(np.int16)])
def test_samples_are_sounds(value: Any) -> None:
    given = {"array": value, "sampling_rate": 12000}
    found = runtime.sound_decoder({"sample_rate": 8000, "channels": 1, "max_seconds": 9.0, "source_rate": None})(given)
    np.testing.assert_allclose(found[""], Audio(sample_rate=8000, max_seconds=9.0).load(given), atol=2e-6)


def test_a_video_is_no_sound() -> None:
    with pytest.raises(runtime.RunnerError, match="track of a video"):
        runtime.sound_decoder({"sample_rate": 8000, "channels": 1, "max_seconds": 9.0, "source_rate": None})(
            b"\0\0\0\x18ftypmp42" + bytes(50)
        )


@pytest.mark.parametrize("tokenizer", ["basic_english", "whitespace", "char", "bpe", "wordpiece", "ngrams"])
@pytest.mark.parametrize("lower", [False, True])
def test_texts_are_those_of_the_modality(tokenizer: Any, lower: bool) -> None:
    text = Text(tokenizer=tokenizer, lower=lower, max_tokens=9, vocabulary_size=60)
    text.fit_values(iter(FITTED))
    facts = {
        **{"method": tokenizer, "lower": lower, "max_tokens": 9, "special_tokens": True},
        **{"word_ngrams": 2, "char_ngrams": 5, "weighting": None},
    }
    decode = runtime.text_decoder(facts | text.state())
    for value in TEXTS + FITTED[:3]:
        wanted, found = text.load(value), decode(value)
        for name, array in (wanted if isinstance(wanted, dict) else {"": wanted}).items():
            np.testing.assert_array_equal(found[name], array, err_msg=str(value))
            assert found[name].dtype == array.dtype


def test_a_row_of_columns_is_that_of_the_modality() -> None:
    tabular = Tabular(bad_cells="empty", scaling="quantile")
    tabular.columns = ("size", "colour", "day", "flag", "code")
    cells = list(zip(RANDOM.normal(size=40).tolist(), "rgb" * 14, strict=False))
    rows = [
        {
            **{"size": size, "colour": colour, "day": f"2024-0{1 + at % 9}-1{at % 8}T0{at % 7}:30"},
            **{"flag": at % 3 == 0, "code": ["x", "y", 3, 4.0][at % 4]},
        }
        for at, (size, colour) in enumerate(cells)
    ]
    tabular.fit_values(iter(rows))
    decode = runtime.tabular_decoder({"fitted": tabular.state()["columns"], "bad_cells": "empty"})
    further: list[dict[str, Any]] = [
        {"size": "1e3", "colour": "new", "day": "2031-12-31", "flag": "TRUE", "code": "3"},
        {"size": None, "colour": None, "day": "no date", "flag": 1, "code": 4},
        {"size": -99.5, "colour": "r", "day": None, "flag": False},
    ]
    for row in rows + further:
        wanted, found = tabular.load(row), decode(row)
        assert set(wanted) == set(found)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=str(row))


@pytest.mark.parametrize("scaling", ["standard", "none"])
def test_numbers_are_scaled_as_by_the_modality(scaling: Any) -> None:
    tabular = Tabular(scaling=scaling)
    tabular.columns = ("size",)
    tabular.fit_values(iter([{"size": value} for value in RANDOM.normal(size=30).tolist()]))
    decode = runtime.tabular_decoder({"fitted": tabular.state()["columns"], "bad_cells": "refuse"})
    for value in (0.3, -1e300, 5):
        np.testing.assert_array_equal(decode({"size": value})["numbers"], tabular.load({"size": value})["numbers"])
    with pytest.raises(runtime.RunnerError, match=r"size: .*nothing"):
        decode({"size": "nothing"})


def test_vectors_and_series_are_those_of_the_modality(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(3.0))
    vector = Vector(size=3, sequence=False)
    decode = runtime.numbers_decoder({"kind": "vector", "size": 3, "sequence": False})
    for value in ([1, 2, 3], "[0.5, 1, 2]", tmp_path / "one.npy", (tmp_path / "one.npy").read_bytes()):
        np.testing.assert_array_equal(decode(value)[""], vector.load(value))
    for wrong in ([1, 2], [1, 2, float("inf")], "nothing"):
        with pytest.raises(ValueError, match=r".+"):
            decode(wrong)
    series = Series(max_steps=2)
    series.load_state({"size": 2, "names": None, "has_missing": True})
    given: Any = [[1, None], [3, 4], [5, 6]]
    found = runtime.numbers_decoder({"kind": "series", "size": 2, "max_steps": 2})(given)[""]
    np.testing.assert_array_equal(found, series.load(given))


def test_a_table_s_cells_have_the_types_that_mmreg_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        'a,b,c,d,e,f\n1,1.50,007,nan,x,\n-2,.5e3,12,2.5,"two\nlines, and a ""quote""",\n,3,1,1,é,\n', "utf-8"
    )
    table = open_table(path)

    def cells() -> Iterator[dict[str, Any]]:
        for row in range(3):
            yield {name: table.column(name)[row].as_py() for name in table.columns}

    assert str(runtime.read_rows(path)) == str(list(cells()))  # as text, since NaN is no equal of its own
