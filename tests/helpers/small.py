"""A small table of pictures, texts and sounds, a recipe for it, and the command line called in this process."""

from __future__ import annotations

import csv
import sys
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROWS = 60
COLOURS = {"red": "a red thing", "green": "some green stuff", "blue": "a very blue item"}

RECIPE = """\
table: table.csv
split: split
target: {column: label, task: classification}
modalities:
  image: {column: image, size: 16, encoder: {name: image_cnn, channels: [8], features: 8}}
  title: {type: text, column: title, encoder: {name: text_rnn, embedding_size: 8, hidden_size: 8, num_layers: 1}}
  audio: {column: audio, sample_rate: 8000, encoder: {name: audio_cnn, channels: [8], features: 8}}
fusion: product
training: {epochs: 2, batch_size: 16, seed: 0}
key: id
"""


@dataclass(frozen=True)
class Called:
    """What a command left."""

    code: int
    out: str
    err: str


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Called:
    """Run the command line as `mmreg ARGUMENTS` does, in this process, with the terminal's width fixed."""
    from mmreg.cli import main

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["mmreg", *arguments])
    monkeypatch.setenv("COLUMNS", "120")
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return Called(code, captured.out, captured.err)


Caller = Callable[..., Called]


def make_files(folder: Path) -> list[dict[str, Any]]:
    """Write pictures and sounds and give the rows: every modality tells the label."""
    for name in ("images", "sounds"):
        (folder / name).mkdir()
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        colour = number % 3
        pixels = random.integers(0, 80, (16, 16, 3), dtype=np.uint8)
        pixels[..., colour] += 150
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        times = np.arange(1600 + 10 * number) / 8000
        samples = (np.sin(2 * np.pi * (300 + 400 * colour) * times) * 20000).astype("<i2")
        with wave.open(str(folder / f"sounds/{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        rows.append(
            {
                "id": f"r{number}",
                "image": f"images/{number}.png",
                "title": f"{list(COLOURS.values())[colour]} number {number}",
                "audio": f"sounds/{number}.wav",
                "label": list(COLOURS)[colour],
                "split": "train" if number < 36 else "validation" if number < 48 else "test",
                "price": round(colour + random.random(), 3),
                "tags": ";".join(list(COLOURS)[: colour + 1]),
            }
        )
    return rows


def write_table(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    """Rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_folder(folder: Path) -> Path:
    """A folder with the files, table.csv and recipe.yaml."""
    write_table(folder / "table.csv", make_files(folder))
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
