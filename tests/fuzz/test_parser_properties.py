"""What holds for every input of the parsers: CSV, YAML and `--set`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmreg.data.table import read_table
from mmreg.errors import MmregError, RecipeError, TableError
from mmreg.files import csv_text
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.yaml import read_yaml

checked = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def plain(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Plain data as YAML and JSON hold it."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    )


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
RECIPE = {"table": "t.csv", "target": {"column": "y"}, "modalities": {"title": {"type": "text"}}}


@st.composite
def tables(draw: Callable[..., Any]) -> tuple[list[str], list[list[str]]]:
    """Names of columns, and rows of texts, none of which is empty as a whole."""
    header = draw(st.lists(CELLS.filter(bool), min_size=2, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    return header, rows


def as_read(text: str) -> str | None:
    """A cell as CSV files give it: line ends are those of the file, and an empty cell is absent."""
    return text or None


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@given(table=tables())
@checked
def test_texts_that_a_csv_writer_writes_come_back_equal(
    ending: str, table: tuple[list[str], list[list[str]]], tmp_path: Path
) -> None:
    header, rows = table
    # A text before it keeps a column from being one of numbers.
    rows = [[f"x{cell}" for cell in rows[0]], *rows]
    path = tmp_path / f"table.{ending}"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="," if ending == "csv" else "\t", quoting=csv.QUOTE_ALL).writerows([header, *rows])
    found = read_table(path)
    assert found.columns == header
    columns = [list(found.iter_values(column)) for column in header]
    assert [list(row) for row in zip(*columns, strict=True)] == [[as_read(cell) for cell in row] for row in rows]


@given(numbers=st.lists(st.integers(-(10**17), 10**17) | st.none(), min_size=1, max_size=20))
@checked
def test_whole_numbers_come_back_as_numbers(numbers: list[int | None], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(csv_text([{"id": at, "n": number} for at, number in enumerate(numbers)]), encoding="utf-8")
    assert list(read_table(path).iter_values("n")) == numbers


@given(numbers=st.lists(st.floats(-9e14, 9e14), min_size=1, max_size=20))
@checked
def test_fractions_come_back_to_the_last_bit(numbers: list[float], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(csv_text([{"id": at, "n": number} for at, number in enumerate(numbers)]), encoding="utf-8")
    assert list(read_table(path).iter_values("n")) == numbers


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "arrow", "feather"])
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@checked
def test_any_bytes_are_a_table_or_an_error_that_names_the_file(ending: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"table.{ending}"
    path.write_bytes(data)
    try:
        assert len(read_table(path)) > 0
    except TableError as error:
        told = str(error)
        assert path.name in told


@given(data=plain(st.text(max_size=50)))  # a key of YAML has 1,024 characters at most, escapes included
@checked
def test_what_yaml_writes_comes_back_equal(data: Any) -> None:
    assert read_yaml(yaml.safe_dump(data, allow_unicode=True), "x")[0] == data


@given(data=plain(st.text(max_size=50)))  # a key of YAML has 1,024 characters at most, escapes included
@checked
def test_json_is_yaml(data: Any) -> None:
    assert read_yaml(json.dumps(data), "x")[0] == data


@given(text=st.text() | st.text("{}[]:,-&*!|>'\"#?%@ \n\tab01.~"))
@checked
def test_any_text_is_yaml_or_an_error_that_names_the_document(text: str) -> None:
    try:
        _, lines = read_yaml(text, "here.yaml")
    except RecipeError as error:
        lines, told = {}, str(error)
        assert "here.yaml" in told
    assert all(line >= 1 for line in lines.values())


@given(text=st.text() | st.text("=.:{}[]ab0 "))
@checked
def test_any_setting_changes_the_recipe_or_is_refused(text: str) -> None:
    try:
        changed = read_recipe(dict(RECIPE), [text])
    except MmregError:
        return
    assert changed.data != Recipe(RECIPE).data or "=" in text


@given(epochs=st.integers(1, 10**6), name=st.text("abc", min_size=1), label=st.text(min_size=1))
@checked
def test_settings_set_what_they_say_and_nothing_else(epochs: int, name: str, label: str) -> None:
    settings_ = [
        f"training.epochs={epochs}",
        f"modalities.{name}.column={json.dumps(label)}",
        f"modalities.{name}.type=text",
    ]
    recipe = read_recipe(dict(RECIPE), settings_)
    assert recipe.form.training.epochs == epochs
    assert recipe.form.modalities[name].column == label
    assert recipe.form.target.column == "y"
    assert set(recipe.form.modalities) == {"title", name}


@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, min_size=1), min_size=1, max_size=5))
@checked
def test_csv_text_is_what_a_csv_reader_reads(rows: list[dict[str, str]]) -> None:
    found = list(csv.DictReader(io.StringIO(csv_text(rows), newline="")))
    assert len(found) == len(rows) or any(not any(row.values()) for row in rows)
    assert [row for row in found if any(row.values())] == [
        {name: row.get(name, "") for name in found[0]} for row in rows if any(row.values())
    ]
