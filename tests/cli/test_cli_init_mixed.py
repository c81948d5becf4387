"""`mmreg init` and `train` on a table of pictures, texts and many columns of facts, and on one of numbers alone."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from PIL import Image
from small import Caller

ROWS = 700
PAGE = Path(__file__).resolve().parents[2] / "docs" / "tables.md"


def flats(folder: Path) -> pa.Table:
    """Of three signs (picture, text, facts) the more frequent one is the label: each alone is right in 3 of 4 rows."""
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    sizes = {"kind": 3, "floor": 4, "heating": 3, "district": 8, "owner": 2, "state": 3}
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        bright, warm = random.integers(2, size=2).tolist()
        level = 60 + 100 * bright
        pixels = random.integers(level - 50, level + 50, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photos/{number}.png")
        words = random.choice(
            ["a flat", "near the park", "second hand", "to let", "with view", "on a hill"], 4
        ).tolist()
        words[random.integers(4)] = "sunny and warm" if warm else "rather cold and dark"
        facts = {name: int(random.integers(size)) for name, size in sizes.items()}
        price, rooms, lift = random.normal(900, 200), int(random.integers(1, 7)), bool(random.integers(2))
        good = sum((2 * value >= sizes[name]) - 0.5 for name, value in facts.items()) / 2
        good += (price - 900) / 100 + (rooms - 3.5) / 4 + (lift - 0.5) / 2
        rows.append(
            {
                "id": f"F{number:04d}",
                "photo": f"photos/{number}.png" if number % 19 else None,
                "advert": ", ".join(words) if number % 23 else None,
                **{name: f"{name} {'abcdefgh'[value]}" for name, value in facts.items()},
                "price": None if number % 11 == 0 else float(price),
                "rooms": rooms,
                "built": date(1950, 1, 1) + timedelta(days=int(random.integers(25_000))),
                "lift": lift,
                "user_id": int(random.integers(10**9)),
                "label": "taken" if bright + warm + (good > 0) >= 2 else "free",
            }
        )
        if number % 13 == 0:
            rows[-1]["heating"] = None
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pictures_texts_and_facts_are_found_and_each_helps(cli: Caller, tmp_path: Path, ending: str) -> None:
    table = flats(tmp_path)
    path = tmp_path / f"flats.{ending}"
    if ending == "csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    done = cli("init", path, "--out", tmp_path / "recipe.yaml")
    assert done.code == 0, done.err
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    page = yaml.safe_load(PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0])
    for given in (recipe, page):
        assert given.pop("table").endswith(("flats.csv", path.name))
        given["modalities"]["advert"].pop("encoder")  # a pretrained one, where it is at hand
    assert recipe == page
    assert "# user_id: left out; numbers that no installed modality would take" in done.out
    if ending == "parquet":
        done = cli("validate", tmp_path / "recipe.yaml")
        assert done.code == 0, done.err
        return
    done = cli("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--set", "training.epochs=20", "-q")
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run" / "report.json").read_text())["test"]["metrics"]
    alone = {name: part["accuracy"] for name, part in metrics["modalities"].items()}
    assert set(alone) == {"photo", "advert", "tabular"}
    assert min(alone.values()) > 0.6
    assert metrics["accuracy"] > max(alone.values())
    done = cli("predict", tmp_path / "run", path, "--out", tmp_path / "p.csv", "-q")
    assert done.code == 0, done.err
    assert len((tmp_path / "p.csv").read_text().splitlines()) == ROWS + 1


def test_a_table_of_numbers_alone_trains_as_it_stands(cli: Caller, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(200, 6)) * [1, 10, 1e3, 1e-3, 1, 5] + [0, 50, 1e6, 0, -3, 0]
    price = values[:, 0] + values[:, 1] / 10 + random.normal(size=200) / 10
    columns = {f"n{number}": values[:, number] for number in range(6)}
    pa.csv.write_csv(pa.table({**columns, "row": np.arange(200), "price": price}), tmp_path / "numbers.csv")
    done = cli("init", tmp_path / "numbers.csv", "--target", "price", "--out", tmp_path / "recipe.yaml")
    assert done.code == 0, done.err
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert recipe["target"]["task"] == "regression"
    assert recipe["modalities"] == {"tabular": {"type": "tabular", "columns": list(columns), "encoder": "tabular_mlp"}}
    done = cli("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "-q")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "report.json").read_text())["test"]["metrics"]["r2"] > 0.7
