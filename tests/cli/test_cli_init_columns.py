"""`mmreg init` and `train` on tables whose columns hold all kinds of things."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from small import Caller, read_table

from mmreg.recipe.recipe import read_recipe

FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def files(here: Path, column: str, *, with_bytes: bool = True) -> pa.Array:
    """A column as the datasets library keeps pictures and sounds in Parquet."""
    paths = [row[column] for row in read_table(here / "table.csv")]
    cells = [
        {"bytes": (here / path).read_bytes(), "path": path} if with_bytes else {"bytes": None, "path": str(here / path)}
        for path in paths
    ]
    return pa.array(cells, FILE)


def write_parquet(here: Path, path: Path, **columns: pa.Array) -> Path:
    rows = read_table(here / "table.csv")
    table = pa.table({"label": [row["label"] for row in rows], "split": [row["split"] for row in rows], **columns})
    pa.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("with_bytes", [True, False])
def test_pictures_and_sounds_within_parquet_are_found_and_trained_on(
    cli: Caller, here: Path, tmp_path: Path, with_bytes: bool
) -> None:
    columns = {name: files(here, name, with_bytes=with_bytes) for name in ("image", "audio")}
    path = write_parquet(here, tmp_path / "t.parquet", **columns)
    done = cli("init", path, "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    recipe = yaml.safe_load(done.out)
    assert {name: given["type"] for name, given in recipe["modalities"].items()} == {"image": "image", "audio": "audio"}
    assert recipe["modalities"]["audio"]["sample_rate"] == 8000
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    assert cli("predict", tmp_path / "run", path, "-q").code == 0


def test_columns_that_nothing_reads_are_left_out_with_their_kind(cli: Caller, here: Path, tmp_path: Path) -> None:
    others = {
        "when": pa.array([0] * 60, pa.timestamp("us")),
        "far": pa.array([2**30] * 60, pa.date32()),
        "price": pa.array([1] * 60, pa.decimal128(5, 2)),
        "tags": pa.array([[("a", 1)]] * 60, pa.map_(pa.string(), pa.int64())),
        "id": pa.array([[number] for number in range(60)]),
    }
    title = pa.array([f"some words about {number}" for number in range(60)])
    path = write_parquet(here, tmp_path / "t.parquet", title=title, **others)
    done = cli("init", path, "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    for text in (
        "# when: left out; it holds 1970-01-01 00:00:00 alone, as far as it was looked at",
        "# far: left out; it cannot be read (date32[day]: OverflowError",
        "# price: left out; it holds 1.00 alone, as far as it was looked at",
        "# tags: left out; no installed modality reads such values (map<string",
    ):
        assert text in done.out
    assert yaml.safe_load(done.out)["modalities"]["id"]["type"] == "vector"
    assert cli("validate", tmp_path / "r.yaml").code == 0
    for setting, said in {
        "key=tags": "the key column 'tags' holds map<string",
        "key=far": "column 'far' cannot be read",
        "split=tags": "the split column 'tags' holds map<string",
        "target.column=far": "column 'far' cannot be read",
        "target.column=tags": "one label a row",
    }.items():
        done = cli("validate", tmp_path / "r.yaml", "--set", setting)
        assert done.code == 2
        assert said in done.err


def test_long_texts_are_texts_and_no_paths(cli: Caller, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{f'word{number} ' * 2000},{number % 2}" for number in range(20)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    done = cli("init", path, "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["modalities"]["text"]["type"] == "text"
    done = cli("train", path, "--out", tmp_path / "run", "-q", "--dry-run")
    assert done.code == 0, done.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_cell_that_names_a_fifo_is_not_waited_for(cli: Caller, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "t.csv").write_text("image,title,label\n" + "pipe.png,some words,a\npipe.png,more words,b\n" * 5)
    done = cli("init", tmp_path / "t.csv", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert "# image: left out; files that are missing" in done.out


def test_a_column_without_a_name_gets_one_in_the_recipe(cli: Caller, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",label\n" + "some words in a row,a\nmore words in a row,b\n" * 20)
    done = cli("init", tmp_path / "t.csv", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["modalities"]["unnamed"]["column"] == ""
    assert cli("validate", tmp_path / "r.yaml").code == 0


def test_every_name_of_a_column_can_be_written_into_a_recipe(cli: Caller, tmp_path: Path) -> None:
    names = ["a.b", "a_b", "a,b", "a\nb", "x" * 3000, "1e3", "0o14", "yes", "- a", ": b", "#c", "\u00e9{", "'", "]"]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([[*names, "label"], *([f"some words {n}"] * len(names) + ["ab"[n % 2]] for n in range(20))])
    done = cli("init", tmp_path / "t.csv", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    read = read_recipe(tmp_path / "r.yaml").form.modalities
    assert [given.column for given in read.values()] == names
    done = cli("validate", tmp_path / "r.yaml")
    assert done.code == 0, done.err


def test_of_very_many_columns_some_are_told(cli: Caller, tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(500)]
    rows = [",".join(["NA"] * len(names)) + f",some words {n},{'ab'[n % 2]}" for n in range(20)]
    (tmp_path / "t.csv").write_text("\n".join([",".join([*names, "words", "label"]), *rows]) + "\n")
    done = cli("init", tmp_path / "t.csv", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert done.out.count(": left out; ") == 100
    assert "# 400 more columns: left out" in done.out
    assert done.out.count("# note: ") == 100


def test_lists_that_cannot_be_loaded_are_told_and_their_rows_go_on_without(cli: Caller, tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        label = number % 2
        vector = [float(label), 1.0 if number % 10 else None]
        ragged = [[label, 1.0], [0.5, 2.0] if number % 5 else [3.0]]
        readings = [label + 0.1 * step for step in range(number % 4)]  # of every fourth row none
        rows.append({"vector": vector, "ragged": ragged, "readings": readings, "label": "ab"[label]})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = cli("init", tmp_path / "t.jsonl", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    found = {name: given.get("on_bad") for name, given in yaml.safe_load(done.out)["modalities"].items()}
    assert found == {"vector": "absent", "ragged": "absent", "readings": None}
    assert "# 6 of the 60 cells looked at cannot be loaded (it holds nan at [1]" in done.out
    assert "# 12 of the 60 cells looked at cannot be loaded (a nested list whose parts differ in length)" in done.out
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err


def test_names_that_come_again_are_no_texts_and_those_of_rows_are_told(cli: Caller, tmp_path: Path) -> None:
    lines = ["city,note,code,label"]
    for number in range(100):
        city = ("New York", "San Luis Obispo", "Bonn")[number % 3]
        lines.append(f"{city},a note on number {number * 7919 % 97},x{number * 7919 % 104729},{'ab'[number % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    done = cli("init", tmp_path / "t.csv", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    modalities = yaml.safe_load(done.out)["modalities"]
    assert {name: given["type"] for name, given in modalities.items()} == {"note": "text", "tabular": "tabular"}
    assert modalities["tabular"]["columns"] == ["city"]
    assert "code: left out; 100 of its cells were looked at, and no two are alike, as names of rows are" in done.out


def test_lists_of_numbers_are_the_same_in_a_csv_as_in_parquet(cli: Caller, tmp_path: Path) -> None:
    columns = {
        "vector": [[0.1 * number, -1.0, 2.5] for number in range(40)],
        "series": [[[0.1, 1.0 * step] for step in range(2 + number % 3)] for number in range(40)],
        "label": ["ab"[number % 2] for number in range(40)],
    }
    table = pa.table(columns)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    texts = {name: values if name == "label" else list(map(json.dumps, values)) for name, values in columns.items()}
    pyarrow.csv.write_csv(pa.table(texts), tmp_path / "t.csv")
    found = []
    for name in ("t.parquet", "t.csv"):
        done = cli("init", tmp_path / name, "--target", "label", "--out", tmp_path / f"{name}.yaml")
        assert done.code == 0, done.err
        found.append({key: given["type"] for key, given in yaml.safe_load(done.out)["modalities"].items()})
    assert found[0] == found[1] == {"vector": "vector", "series": "series"}


NUMBERS = [[0.5, 1.0 * number] for number in range(40)]
LISTS: dict[str, list[Any]] = {
    "empty": [each if number % 9 else [] for number, each in enumerate(NUMBERS)],
    "empty_steps": [[each] * (1 + number % 3) if number % 9 else [] for number, each in enumerate(NUMBERS)],
    "gaps": [[0.5, None, 1.0 * number][: 2 + number % 2] for number in range(40)],
    "gaps_in_steps": [[each, [None, 1.0]] for each in NUMBERS],
    "bad": [each if number % 19 else [float("nan"), 1.0] for number, each in enumerate(NUMBERS)],
    "several": [[[each, each]] * 2 for each in NUMBERS],
}


def test_lists_with_gaps_and_without_numbers_are_the_same_in_a_csv_as_in_parquet(cli: Caller, tmp_path: Path) -> None:
    columns = {**LISTS, "label": ["ab"[number % 2] for number in range(40)]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    texts = {name: values if name == "label" else list(map(json.dumps, values)) for name, values in columns.items()}
    pyarrow.csv.write_csv(pa.table(texts), tmp_path / "t.csv")
    found = []
    for name in ("t.parquet", "t.csv"):
        done = cli("init", tmp_path / name, "--target", "label", "--out", tmp_path / f"{name}.yaml")
        assert done.code == 0, done.err
        modalities = yaml.safe_load(done.out)["modalities"]
        found.append({key: [given.get(of) for of in ("type", "many", "on_bad")] for key, given in modalities.items()})
    # An empty list as text is a cell that cannot be loaded.
    assert found[0] | {"empty": ["vector", None, "absent"], "empty_steps": ["series", None, "absent"]} == found[1]
    assert found[1]["gaps"] == found[1]["gaps_in_steps"] == ["series", None, None]
    assert found[1]["bad"] == ["vector", None, "absent"]
    assert found[1]["several"] == ["series", "mean", None]


def test_texts_that_begin_as_lists_are_texts(cli: Caller, tmp_path: Path) -> None:
    texts = {
        "words": [f"[verse {number}] and some words about it" for number in range(40)],
        "deep": ["[" * 20_000 + str(number) + "]" * 20_000 for number in range(40)],
        "strings": [f'["{number}", "2"]' for number in range(40)],
        "label": ["ab"[number % 2] for number in range(40)],
    }
    pyarrow.csv.write_csv(pa.table(texts), tmp_path / "t.csv")
    done = cli("init", tmp_path / "t.csv", "--target", "label", "--out", tmp_path / "t.yaml")
    assert done.code == 0, done.err
    assert {given["type"] for given in yaml.safe_load(done.out)["modalities"].values()} == {"text"}
