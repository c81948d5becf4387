"""Cells of any number of values in recipes: what is refused by name, and what `mmreg init` proposes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small import call, write_table

from mmreg.data.dialect import TableFile
from mmreg.errors import RecipeError
from mmreg.recipe.draft import draft_recipe
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve


def refusal(photos: dict[str, Any], **changes: Any) -> str:
    modalities = {"photos": {"type": "image", **photos}, "text": {"encoder": "text_bag"}}
    recipe = {"table": "t.csv", "target": {"column": "y"}, "modalities": modalities, "fusion": "concat", **changes}
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(recipe))
    return str(caught.value)


@pytest.mark.parametrize(
    ("photos", "changes", "told"),
    [
        ({"separator": "|"}, {}, "modalities.photos: separator is of cells of several values; give many as well"),
        ({"ordered": True}, {}, "modalities.photos: ordered is of cells of several values; give many as well"),
        ({"many": "max", "ordered": True}, {}, "the max of values has no order, so ordered does nothing"),
        ({"many": "median"}, {}, "modalities.photos.many: must be 'mean', 'max', 'attention' or 'tokens'"),
        ({"many": "mean", "separator": ""}, {}, "modalities.photos.separator"),
        ({"many": "tokens"}, {}, "tokens are for an operator that takes them, but concat takes one vector a row"),
        (
            {"many": "mean"},
            {"training": {"mixup": 0.2}},
            "modalities.photos.many: a row has any number of values then, which mixup cannot blend in pairs",
        ),
        (
            {"type": "tabular", "columns": ["a", "b"], "many": "mean"},
            {},
            "modalities.photos.many: tabular reads several columns together",
        ),
    ],
)
def test_what_does_not_go_together_is_told_by_its_key(photos: dict[str, Any], changes: Any, told: str) -> None:
    assert told in refusal(photos, **changes)


def test_tokens_need_an_operator() -> None:
    recipe = {"table": "t.csv", "target": {"column": "y"}, "modalities": {"image": {"many": "tokens"}}}
    with pytest.raises(RecipeError, match="but there is no operator; set many: mean, max or attention"):
        resolve(Recipe(recipe))


def test_a_recipe_spells_many_out_only_where_it_is_asked_for() -> None:
    inputs: dict[str, Any] = {"image": {"many": "attention", "separator": ";"}, "text": {}}
    plan = resolve(Recipe({"table": "t.csv", "target": {"column": "y"}, "modalities": inputs}))
    written = plan.to_data()["modalities"]
    assert {key: written["image"][key] for key in ("many", "separator", "ordered")} == {
        "many": "attention",
        "separator": ";",
        "ordered": False,
    }
    assert not {"many", "separator", "ordered"} & {key for key, value in written["text"].items() if value}
    assert resolve(Recipe(plan.to_data())).inputs["image"].many == plan.inputs["image"].many


@pytest.fixture
def cells(tmp_path: Path) -> list[list[str]]:
    """The files that 30 rows name, up to 3 each."""
    random = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(random.integers(0, 255, (12, 12, 3), np.uint8)).save(tmp_path / f"p {number}.png")
    return [[f"p {random.integers(8)}.png" for _ in range(number % 4)] for number in range(30)]


def drafted(table: Path) -> str:
    text = draft_recipe(TableFile(table), "label", table.parent)
    return next(line.strip() for line in text.splitlines() if "photos" in line)


@pytest.mark.parametrize("separator", ["|", ";", ","])
def test_init_parts_texts_whose_parts_are_files(tmp_path: Path, cells: list[list[str]], separator: str) -> None:
    rows = [{"photos": separator.join(names), "label": "ab"[at % 2]} for at, names in enumerate(cells)]
    line = drafted(write_table(tmp_path / "t.csv", rows))  # type: ignore[arg-type]
    quoted = f"'{separator}'" if separator in "|," else separator
    assert line.startswith(f"photos: {{type: image, column: photos, many: mean, separator: {quoted}, ")
    assert "up to 3 values a cell" in line


def test_init_reads_lists(tmp_path: Path, cells: list[list[str]]) -> None:
    rows = [{"photos": json.dumps(names), "label": "ab"[at % 2]} for at, names in enumerate(cells)]
    from_json = drafted(write_table(tmp_path / "t.csv", rows))  # type: ignore[arg-type]
    labels = [row["label"] for row in rows]
    pq.write_table(
        pa.table({"photos": pa.array(cells, pa.list_(pa.string())), "label": labels}), tmp_path / "t.parquet"
    )
    for line in (from_json, drafted(tmp_path / "t.parquet")):
        assert line.startswith("photos: {type: image, column: photos, many: mean, size: 12, encoder: ")


def test_init_takes_a_list_for_one_value_where_that_is_what_it_is(tmp_path: Path) -> None:
    table = {"photos": [[0.1, 0.2, 0.3]] * 20, "text": ["a, b and c"] * 20, "label": ["a", "b"] * 10}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    text = draft_recipe(TableFile(tmp_path / "t.parquet"), "label", tmp_path)
    assert "many" not in text


def test_init_prefers_all_files_to_those_of_rows_that_have_one(tmp_path: Path, cells: list[list[str]]) -> None:
    rows = [
        {"photos": "|".join(names[:1] if at % 5 else names), "label": "ab"[at % 2]} for at, names in enumerate(cells)
    ]
    assert "many: mean, separator: '|'" in drafted(write_table(tmp_path / "t.csv", rows))  # type: ignore[arg-type]


def test_files_that_lists_name_and_are_missing_are_told_by_validate(
    tmp_path: Path, cells: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"photos": "|".join(names), "label": "ab"[at % 2]} for at, names in enumerate(cells)]
    rows[7]["photos"] += "|gone.png"
    write_table(tmp_path / "t.csv", rows)  # type: ignore[arg-type]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "table: t.csv\ntarget: {column: label}\n"
        "modalities: {image: {column: photos, many: mean, separator: '|', size: 8}}"
    )
    done = call(monkeypatch, capsys, "validate", str(recipe))
    assert done.code == 0
    count = sum(len(names) for names in cells) + 1
    told = f"image: 1 of {count} files looked at are missing (first: t.csv, row 8, column photos: "
    assert f"{told}{tmp_path / 'gone.png'})" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("written", "keys", "told"),
    [
        ("|".join, "", """the cell names several files: set many: mean, separator: "|\""""),
        ("|".join, "many: mean, ", """the cell names several files: set separator: "|\""""),
        (json.dumps, "", "the cell is a list: set many: mean"),
        (list, "", "cells looked at hold lists; set many: mean"),
        (json.dumps, "many: mean, ", ""),
        (list, "many: mean, ", ""),
    ],
)
def test_validate_says_what_reads_cells_that_name_several_files(
    tmp_path: Path,
    cells: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    written: Any,
    keys: str,
    told: str,
) -> None:
    names = sorted({name for cell in cells for name in cell})[:2]
    rows = [{"photos": written(names), "label": "ab"[at % 2]} for at in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    recipe = tmp_path / "recipe.yaml"
    image = f"{{column: photos, {keys}size: 8}}"
    recipe.write_text(f"table: t.parquet\ntarget: {{column: label}}\nmodalities: {{image: {image}}}")
    done = call(monkeypatch, capsys, "validate", str(recipe))
    assert (done.code, "image:" in done.err) == (0, bool(told))
    assert told in " ".join(done.err.split())
