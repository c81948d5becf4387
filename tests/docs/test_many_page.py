"""The page on tables: its example of many values a cell trains as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import write_table

import mmreg

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "green", "blue")


def test_the_example_of_many_photos_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/tables.md").read_text(encoding="utf-8").partition("## Many values a cell")[2]
    recipe = page.partition("```yaml\n")[2].partition("```")[0]
    random = np.random.default_rng(0)
    rows = []
    for number in range(90):
        label, names = number % 3, []
        for place in range(3):  # one photo in three tells
            pixels = random.integers(0, 80, (16, 16, 3), np.uint8)
            pixels[..., label] += np.uint8(150 * (place == number // 3 % 3))
            names.append(f"{number}_{place}.png")
            Image.fromarray(pixels).save(tmp_path / names[-1])
        rows.append({"photos": "|".join(names), "title": f"flat {number} of many", "label": COLOURS[label]})
    write_table(tmp_path / "flats.csv", rows)  # type: ignore[arg-type]
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    overrides = [
        "training.epochs=8",
        "training.batch_size=16",
        "modalities.photos.encoder={name: image_cnn, channels: [8]}",
    ]
    run = mmreg.train(tmp_path / "recipe.yaml", tmp_path / "run", overrides=overrides, device="cpu")
    assert run.evaluate(tmp_path / "flats.csv")["metrics"]["accuracy"] > 0.8
    monkeypatch.chdir(tmp_path)
    (predicted,) = run.predict([{"photos": rows[1]["photos"].split("|"), "title": "two rooms"}])
    assert predicted["label"] == "green"
