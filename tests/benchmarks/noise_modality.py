"""What a modality that is noise costs: names of products beside pictures of random pixels.

`python tests/benchmarks/noise_modality.py FOLDER 0..2 [FUSION..]` prints accuracy on test rows, of the text alone and
of both modalities under each fusion.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import made_texts

import mmreg

SIZES = made_texts.Sizes(600, 200, 1000)
INPUTS = {
    "image": {"type": "image", "column": "image", "size": 8, "encoder": "image_cnn"},
    "text": {"type": "text", "column": "text", "encoder": "text_bag"},
}


def write(folder: Path) -> Path:
    """The table, and a picture of noise for each of its rows."""
    rng = np.random.default_rng(7)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "image", "text", "label"])
        number = 0
        for split, (texts, labels) in made_texts.products(SIZES, seed=201).items():
            for text, label in zip(texts, labels, strict=True):
                picture = f"pictures/{number}.png"
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / picture)
                rows.writerow([split, picture, text, label])
                number += 1
    return table


def accuracy(table: Path, inputs: tuple[str, ...], fusion: str | None, seed: int) -> float:
    """On the test rows, of a training of 20 epochs."""
    recipe: dict[str, Any] = {
        "table": str(table),
        "split": "split",
        "target": {"column": "label", "task": "classification"},
        "modalities": {name: INPUTS[name] for name in inputs},
        "training": {"epochs": 20, "batch_size": 64, "seed": seed, "precision": "float32"},
        **({} if fusion is None else {"fusion": fusion}),
    }
    run = mmreg.train(recipe, table.parent / f"{fusion or 'text'}-{seed}", device="cpu")
    return float(run.report["test"]["metrics"]["accuracy"])


def main(folder: Path, seeds: range, fusions: list[str]) -> None:
    table = write(folder)
    for fusion in (None, *fusions):
        inputs = ("text",) if fusion is None else ("image", "text")
        found = [accuracy(table, inputs, fusion, seed) for seed in seeds]
        each = ", ".join(f"{figure:.3f}" for figure in found)
        print(f"{fusion or 'text alone':12}  {np.mean(found):.3f} (of {each})", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    first, _, last = sys.argv[2].partition("..")
    main(Path(sys.argv[1]), range(int(first), int(last) + 1), sys.argv[3:] or ["product", "calibrated", "concat"])
