"""Metrics that are undefined on the rows at hand are told as such, and choose no weights."""

from __future__ import annotations

import json
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
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", "report")
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
