"""A table whose labels, texts, keys and file names are as hostile as a table may hold them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmreg.files import csv_text

LABELS = (
    "<script>window.taken=1</script>",
    "</script><img src=x onerror=taken=1>",
    '"><svg/onload=taken=1> $x_{$ &amp;',
)
TEXT = "<img src=https://evil.example/x.png onerror=window.taken=1> & \"quoted\" 'so' ]]> <!-- "
ROWS = 60
RECIPE = """\
table: table.csv
split: split
key: id
target: {column: label, task: classification}
modalities:
  image: {column: image, size: 16, encoder: {name: image_cnn, channels: [8], features: 8}}
  title: {type: text, column: title, encoder: {name: text_rnn, embedding_size: 8, hidden_size: 8, num_layers: 1}}
  audio: {column: audio, sample_rate: 8000, on_bad: absent, encoder: {name: audio_cnn, channels: [8], features: 8}}
fusion: product
training: {epochs: 2, batch_size: 16, seed: 0}
"""


def write_hostile(folder: Path) -> Path:
    """Write a table and its files; labels are independent of all inputs, so that there are wrong rows."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for n in range(ROWS):
        name = f"\"'&<b>{n}"  # a file name can hold all but "/"
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(random.integers(-9000, 9000, 800, dtype=np.int16).tobytes())
        rows.append(
            {
                "id": f"<i>{n}</i>",
                "label": LABELS[n % 3],
                "split": ("train", "validation", "test")[n % 7 % 3],
                "image": f"{name}.png",
                "title": f"{TEXT} {n}",
                "audio": "" if n % 6 == 0 else ("gone<u>.wav" if n == 2 else f"{name}.wav"),
            }
        )
    (folder / "table.csv").write_text(csv_text(rows), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "recipe.yaml"
