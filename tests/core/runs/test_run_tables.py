"""What a run does with the tables that it is given, and where it finds its own again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
import yaml
from numpy.typing import NDArray
from small import Caller, call

import mmreg
from mmreg import registry
from mmreg.data.table import read_table
from mmreg.errors import RunError, TableError


class Files(toys.Numbers):
    """Vectors of numbers in files."""

    paths = True
    extensions = frozenset({".txt"})

    def load(self, value: Any) -> NDArray[Any]:
        return super().load([float(number) for number in Path(value).read_text().split()])


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()
    registry.register("modality", "files", Files)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


def test_that_a_table_is_the_one_learned_from_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, copy = tmp_path / "table.jsonl", tmp_path / "copy.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in toys.rows(60)))
    mmreg.train(toys.recipe(str(table)), tmp_path / "run", device="cpu")
    run = mmreg.load(tmp_path / "run", "cpu")
    shutil.copy(table, copy)
    for given in (table, copy):
        caplog.clear()
        run.evaluate(given)
        assert caplog.text.count("so most of these rows were learned from") == 1
    caplog.clear()
    run.evaluate()
    run.evaluate(copy, split="test")
    table.write_text("".join(json.dumps(row) + "\n" for row in toys.rows(60, seed=1)))
    run.evaluate(table)
    assert "learned from" not in caplog.text


def test_a_table_without_rows_of_the_split_says_so(tmp_path: Path) -> None:
    mmreg.train(toys.recipe(toys.rows(60)), tmp_path / "run", device="cpu")
    run = mmreg.load(tmp_path / "run", "cpu")
    with pytest.raises(RunError, match="has no test rows to evaluate on"):
        run.evaluate(toys.rows(60)[:3], split="test")
    assert run.evaluate(toys.rows(60)[:3], split="train")["rows"] == 3
    run.on_bad = "skip"
    with pytest.raises(RunError, match=r"^there are no rows to evaluate on$"):
        run.evaluate([{**row, "a": [1.0]} for row in toys.rows(60)[:3]])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, a database, and the files that its cells name relative to that folder.

    The working directory is another one.
    """
    folder = tmp_path / "project"
    (folder / "vectors").mkdir(parents=True)
    rows = toys.rows(60)
    for number, row in enumerate(rows):
        (folder / f"vectors/{number}.txt").write_text(" ".join(map(str, np.add(row["a"], row["b"]))))
    with closing(sqlite3.connect(folder / "data.db")) as connection:
        connection.execute("CREATE TABLE rows (id, v, label, split)")
        cells = [(row["id"], f"vectors/{n}.txt", row["label"], row["split"]) for n, row in enumerate(rows)]
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", cells)
        connection.commit()
    recipe = toys.recipe(source(folder), modalities={"v": {"type": "files"}}, fusion=None, key="id")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def source(folder: Path) -> str:
    return f"sqlite://{folder / 'data.db'}#rows"


def trained(project: Path, name: str = "run") -> mmreg.Run:
    return mmreg.train(project / "recipe.yaml", project.parent / name, device="cpu")


def test_a_table_that_is_predicted_stays_as_it_was(tmp_path: Path) -> None:
    run = toys.train(tmp_path / "run")
    table = read_table([{"a": row["a"]} for row in toys.rows(10)])
    assert [row["modalities"] for row in run.predict(table)] == ["a"] * 10
    assert table.columns == ["a"]


def test_files_in_the_cells_of_a_plugins_table_are_found_again_from_anywhere(project: Path) -> None:
    report = trained(project).report["test"]
    loaded = mmreg.load(project.parent / "run", device="cpu")
    assert loaded.evaluate() == report
    assert loaded.evaluate(source(project), split="test") == report
    predictions = loaded.predict(source(project))
    assert [row["modalities"] for row in predictions] == ["v"] * 60


def test_the_command_line_finds_them_too(project: Path, cli: Caller) -> None:
    report = trained(project).report["test"]
    run = project.parent / "run"
    for table in ((), (source(project), "--split", "test")):
        measured = cli("evaluate", run, *table, "--format", "json", "--device", "cpu")
        assert measured.code == 0, measured.err
        assert json.loads(measured.out) == report
    predicted = cli("predict", run, source(project), "--device", "cpu")
    assert predicted.code == 0, predicted.err
    assert len(predicted.out.splitlines()) == 61


def test_a_combination_of_such_runs_finds_them(project: Path) -> None:
    for name in ("one", "two"):
        trained(project, name)
    parts = [project.parent / name for name in ("one", "two")]
    fused = mmreg.fuse(parts, "mean", project.parent / "both", device="cpu")
    loaded = mmreg.load(project.parent / "both", device="cpu")
    assert loaded.evaluate()["metrics"]["accuracy"] == fused.evaluate()["metrics"]["accuracy"]


def test_a_recipe_of_no_folder_means_the_working_directory_of_its_training(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = yaml.safe_load((project / "recipe.yaml").read_text())
    monkeypatch.chdir(project)
    report = mmreg.train(recipe, tmp_path / "run", device="cpu").report["test"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert mmreg.load(tmp_path / "run", device="cpu").evaluate() == report


def test_where_the_recipes_folder_is_gone_cells_are_relative_to_the_working_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(project)
    moved = tmp_path / "moved"
    shutil.move(project, moved)
    monkeypatch.chdir(moved)
    rows = mmreg.load(tmp_path / "run", device="cpu").predict(source(moved))
    assert [row["modalities"] for row in rows] == ["v"] * 60


def test_a_recipe_is_drafted_with_the_files_that_it_will_find(project: Path, cli: Caller) -> None:
    (project / "vectors").rename(project.parent / "vectors")  # relative to the recipe below, and to nothing else
    drafted = cli("init", source(project), "--out", project.parent / "drafted.yaml")
    assert drafted.code == 0, drafted.err
    assert "missing" not in drafted.out
    checked = cli("validate", project.parent / "drafted.yaml")
    assert checked.code == 0, checked.err
    assert "missing" not in checked.err


def test_columns_that_a_table_lacks_are_measured_as_absent_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = toys.rows(60)
    mmreg.train(toys.recipe(rows), tmp_path / "run", device="cpu")
    run = mmreg.load(tmp_path / "run", "cpu")
    column = next(iter(run.plan.inputs.values())).columns[0]
    lacking = [{name: value for name, value in row.items() if name != column} for row in rows]
    assert run.evaluate([{**row, column: None} for row in rows]) == run.evaluate(lacking)
    assert [message for message in caplog.messages if "has no column" in message] == [
        f"note: <table> has no column {column!r}; it counts as absent in every row"
    ]
    with pytest.raises(TableError, match="has no column 'label'"):
        run.evaluate([{name: value for name, value in row.items() if name != "label"} for row in lacking])
