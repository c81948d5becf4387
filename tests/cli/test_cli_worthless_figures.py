"""What makes figures worth nothing is told: undefined ones, few rows to choose by, and the target as an input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from small import Caller, write_table

import mmreg
from mmreg.errors import OptionError

RECIPE = """
table: table.csv
split: split
target: {column: TARGET, task: TASK}
modalities: {size: {columns: [size], type: tabular, encoder: tabular_mlp}}
training: {epochs: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows of two classes, of which the validation rows have one, as they have one number."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "size": number,
            "kind": "b" if number % 2 and number < 30 else "a",
            "price": number % 7 if number < 30 else 5.5,
            "split": "train" if number < 30 else "validation",
        }
        for number in range(40)
    ]
    write_table(tmp_path / "table.csv", rows)
    write_table(tmp_path / "one.csv", rows[31:32])

    def written(target: str, task: str) -> Path:
        path = tmp_path / f"{task}.yaml"
        path.write_text(RECIPE.replace("TARGET", target).replace("TASK", task))
        return path

    return written


def test_a_metric_that_is_undefined_on_the_validation_rows_chooses_no_weights(cli: Caller, recipe: Any) -> None:
    done = cli("train", recipe("kind", "classification"), "--out", "run", "--set", "training.metric=auroc")
    assert done.code != 0
    assert "'auroc' chooses the weights, but gave no finite number on the validation rows; choose another" in done.err


@pytest.mark.parametrize(
    ("target", "task", "metric"), [("kind", "classification", "auroc"), ("price", "regression", "r2")]
)
def test_an_undefined_metric_is_null_in_reports_and_a_dash_in_tables(
    cli: Caller, recipe: Any, target: str, task: str, metric: str
) -> None:
    assert cli("train", recipe(target, task), "--out", "run", "--set", f"metrics=[{metric}]", "--quiet").code == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["validation"]["metrics"][metric] is None
    measured = cli("evaluate", "run", "one.csv", "--format", "json")
    assert json.loads(measured.out)["metrics"][metric] is None
    lines = cli("evaluate", "run", "one.csv").out.splitlines()
    assert dict(zip(lines[1].split(), lines[2].split(), strict=False)).get(metric, "\N{EN DASH}") == "\N{EN DASH}"
    assert "\N{EN DASH}" in lines[2]
    assert cli("train", recipe(target, task), "--out", "two", "--set", "training.seed=1", "--quiet").code == 0
    for command in (("runs",), ("runs", "diff", "run", "two")):
        assert cli(*command).code == 0, command
    assert mmreg.compare(["run", "two"]).metric != metric
    with pytest.raises(OptionError, match=f"'{metric}' is undefined on the validation rows of run, two; choose"):
        mmreg.compare(["run", "two"], metric=metric)


@pytest.mark.parametrize(("count", "told"), [(1, "1 validation row,"), (9, "9 validation rows,"), (10, "")])
def test_weights_that_few_validation_rows_choose_are_told(
    cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    split = ["validation"] * count + ["train"] * 60
    rows = [{"size": n % 13, "kind": "ab"[n % 2], "split": of} for n, of in enumerate(split)]
    write_table(tmp_path / "table.csv", rows)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("TARGET", "kind").replace("TASK", "classification"))
    drafted = cli("init", "table.csv", "--target", "kind", "--out", "drafted.yaml")
    checked = cli("validate", "recipe.yaml")
    assert (drafted.code, checked.code) == (0, 0)
    text = f"the weights are chosen by {told}"
    for found in ((tmp_path / "drafted.yaml").read_text(), checked.out + checked.err):
        assert (text in found) is bool(told), found
    last = cli("validate", "recipe.yaml", "--set", "training.keep=last")
    assert "the weights are chosen by" not in last.out + last.err


def test_a_column_that_the_table_lacks_is_told_by_its_own_line(cli: Caller, recipe: Any) -> None:
    path = recipe("price", "regression")
    done = cli("validate", path, "--set", "modalities.size.columns=[size, sizw]")
    assert done.code == 2
    assert re.search(r"\n  modalities\.size\.columns\.1: \S+ has no column 'sizw'; did you mean 'size'", done.err)


def test_an_input_that_is_the_target_is_told(cli: Caller, recipe: Any) -> None:
    path = recipe("price", "regression")
    told = "the modality 'size' reads the column 'price', which is to be predicted: figures will be too good"
    assert told not in cli("validate", path).err
    assert told in cli("validate", path, "--set", "modalities.size.columns=[size, price]").err
