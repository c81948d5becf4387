"""`mmreg init` on columns of files of which some are there and cannot be loaded: these are told, and allowed for."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
import yaml
from PIL import Image
from small import Caller, write_table

from mmreg.recipe import suggestions
from mmreg_image.modality import Image as ImageModality

ROWS = 60


def sound(random: np.random.Generator, whole: bool) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, random.normal(size=400 if whole else 0) / 10, 8000, format="WAV")
    return buffer.getvalue()


def png(random: np.random.Generator, whole: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue() if whole else buffer.getvalue()[: len(buffer.getvalue()) // 2]


def tiff(random: np.random.Generator, whole: bool) -> bytes:
    buffer = io.BytesIO()
    pixels = random.integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels if whole else pixels.astype(np.float32) * 9).save(buffer, "TIFF")
    return buffer.getvalue()


def filled(folder: Path, ending: str, make: Callable[..., bytes], every: int) -> Path:
    """A table of files of which every so many cannot be loaded."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        name = f"{'broken' if number % every == 0 else 'whole'}{number}.{ending}"
        (folder / name).write_bytes(make(random, number % every != 0))
        rows.append({"file": name, "note": f"some words {number}", "label": "ab"[number % 2]})
    return write_table(folder / "t.csv", rows)


@pytest.mark.parametrize(
    ("ending", "make", "every", "why"),
    [
        ("wav", sound, 3, "a sound file without a single sample"),
        ("png", png, 3, "a damaged or truncated PNG picture: it ends too early"),
        ("tif", tiff, 2, "pixels in floating point are to be from 0 to 1, found 0 to "),
        ("png", png, 4, "a damaged or truncated PNG picture: it ends too early"),
    ],
)
def test_files_that_cannot_be_loaded_are_told_and_the_recipe_trains(
    cli: Caller, tmp_path: Path, ending: str, make: Callable[..., bytes], every: int, why: str
) -> None:
    table = filled(tmp_path, ending, make, every)
    done = cli("init", table, "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["modalities"]["file"]["on_bad"] == "absent"
    (line,) = (line for line in done.out.splitlines() if line.startswith("  file: "))
    assert re.search(rf"\d of the 16 files tried cannot be loaded \(first: broken\d+\.{ending}: {why}", line)
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    bad = json.loads((tmp_path / "run/report.json").read_text())["bad_cells"]["file"]
    assert (bad["count"], bad["on_bad"]) == (ROWS // every, "absent")


def test_whole_files_are_told_nothing_of_and_few_are_loaded(
    cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = ImageModality.load

    def counted(self: ImageModality, value: Any) -> Any:
        loaded.append(value)
        return load(self, value)

    monkeypatch.setattr(ImageModality, "load", counted)
    table = filled(tmp_path, "png", lambda random, _: png(random, True), 2)
    done = cli("init", table, "--out", tmp_path / "r.yaml")
    assert "on_bad" not in done.out
    assert len(loaded) == len(set(loaded)) == suggestions.TRIED
    loaded.clear()
    monkeypatch.setattr(suggestions, "SECONDS", 0.0)  # as of files that take very long
    assert cli("init", table, "--out", tmp_path / "r.yaml", "--overwrite").out == done.out
    assert len(loaded) == 1


def test_bytes_in_a_table_are_tried_as_files_are(cli: Caller, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = [png(random, number % 3 != 0) for number in range(ROWS)]
    columns = {"picture": pictures, "label": ["ab"[number % 2] for number in range(ROWS)]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    done = cli("init", tmp_path / "t.parquet", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert " of the 16 files tried cannot be loaded (first: a damaged or truncated PNG picture" in done.out
    assert yaml.safe_load(done.out)["modalities"]["picture"]["on_bad"] == "absent"


def test_a_column_of_which_no_file_can_be_loaded_is_left_out(cli: Caller, tmp_path: Path) -> None:
    table = filled(tmp_path, "wav", sound, 1)
    done = cli("init", table, "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert list(yaml.safe_load(done.out)["modalities"]) == ["note"]
    assert "# file: left out; files that are missing or damaged, or that no installed modality reads" in done.out
