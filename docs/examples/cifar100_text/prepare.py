"""Turns CIFAR-100 and a text into one table: PNG images, texts, labels and the split that each row belongs to.

    python prepare.py --root FOLDER                    captions made from the superclasses' names
    python prepare.py --root FOLDER --text wikitext-2  WikiText-2's paragraphs

The table is one Parquet file with the images' bytes in it, as 60,000 small files are slow to copy and to list.
"""

from __future__ import annotations

import argparse
import io
import pickle
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torchvision.datasets import CIFAR100

HERE = Path(__file__).parent
SPLITS = {"train": True, "test": False}
ROWS = 1000
"""Rows that are encoded and written at a time."""

CAPTIONS = (
    "a small picture of {}",
    "one of the {}",
    "this belongs to the {}",
    "look at these {}",
    "filed under {}",
)


def read_wikitext(folder: Path, split: str) -> list[str]:
    """The paragraphs of WikiText-2's file for a split (wiki.train.tokens or wiki.test.tokens), without headings."""
    lines = (folder / f"wiki.{split}.tokens").read_text(encoding="utf-8").splitlines()
    paragraphs = [line.strip() for line in lines]
    return [line for line in paragraphs if line and not line.startswith("=")]


def superclasses(root: Path, file: str) -> list[str]:
    """The name of every image's superclass, one of 20, which torchvision leaves in the (verified) archive."""
    folder = root / CIFAR100.base_folder
    with (folder / file).open("rb") as data, (folder / CIFAR100.meta["filename"]).open("rb") as meta:
        numbers = pickle.load(data, encoding="latin1")["coarse_labels"]
        names = pickle.load(meta, encoding="latin1")["coarse_label_names"]
    return [names[number].replace("_", " ") for number in numbers]


def captions(names: list[str], generator: np.random.Generator) -> list[str]:
    """A sentence with each name, in one of several wordings."""
    wordings = generator.integers(len(CAPTIONS), size=len(names)).tolist()
    return [CAPTIONS[wording].format(name) for wording, name in zip(wordings, names, strict=True)]


def png(pixels: np.ndarray) -> bytes:
    """An image (H, W, C) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def tables(root: Path, texts: Path | None, seed: int, download: bool) -> Iterator[pa.Table]:
    """The rows, some at a time: image, text, label, split."""
    generator = np.random.default_rng(seed)
    for split, train in SPLITS.items():
        dataset = CIFAR100(root, train=train, download=download)  # raises where a file is not CIFAR-100's (MD5)
        file = (CIFAR100.train_list if train else CIFAR100.test_list)[0][0]
        told = captions(superclasses(root, file), generator) if texts is None else read_wikitext(texts, split)
        for start in range(0, len(dataset), ROWS):
            rows = range(start, min(start + ROWS, len(dataset)))
            columns: dict[str, list[Any]] = {
                "image": [png(dataset.data[row]) for row in rows],
                "text": [told[row % len(told)] for row in rows],
                "label": [dataset.classes[dataset.targets[row]] for row in rows],
                "split": [split] * len(rows),
            }
            yield pa.table(columns)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Turn CIFAR-100 and a text into a table for mmreg.")
    parser.add_argument("--root", type=Path, required=True, help="the folder that holds cifar-100-python")
    parser.add_argument("--download", action="store_true", help="download CIFAR-100 into it first (161 MB)")
    parser.add_argument(
        "--text", type=Path, help="WikiText-2's folder; captions made from the superclasses' names if not given"
    )
    parser.add_argument("--out", type=Path, default=HERE / "table.parquet", help="the table to write")
    parser.add_argument("--seed", type=int, default=0, help="of the captions' wordings")
    given = parser.parse_args(arguments)
    rows = tables(given.root, given.text, given.seed, given.download)
    try:
        first = next(rows)
    except (OSError, RuntimeError) as error:  # torchvision's, where the archive is missing or damaged
        sys.exit(f"prepare.py: {error}")
    with pq.ParquetWriter(given.out, first.schema) as writer:
        for table in chain([first], rows):
            writer.write_table(table)
    elsewhere = (
        "" if given.out.resolve() == (HERE / "table.parquet").resolve() else f" --set table={given.out.resolve()}"
    )
    print(f"wrote {given.out}; next: mmreg train {HERE / 'recipe.yaml'}{elsewhere} --out run")


if __name__ == "__main__":
    main()
