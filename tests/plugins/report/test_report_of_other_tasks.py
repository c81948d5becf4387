"""Reports of runs of every task: what does not apply is left out, and nothing fails."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmreg
from mmreg_report.writing import write_report

TARGETS: dict[str, Any] = {
    "regression": {"column": "price", "task": "regression"},
    "two_numbers": {"column": "pair", "task": "regression"},
    "ordinal": {"column": "verdict", "task": "ordinal", "order": ["bad", "fair", "good"]},
    "multilabel": {"column": "tags", "task": "multilabel", "separator": ";"},
    "quantile": {"column": "price", "task": "quantile", "quantiles": [0.1, 0.5, 0.9]},
    "survival": {"columns": {"time": "days", "event": "died"}, "task": "survival"},
}
TOLD = {
    "regression": ["Predicted over true values (value)", "true value", "Rows of the greatest loss"],
    "two_numbers": ["Predicted over true values (value_0)", "Predicted over true values (value_1)"],
    "ordinal": ["Confusion matrix", "Expected calibration error"],
    "multilabel": ["Labels (test rows)", "ROC", "Rows of the greatest loss"],
    "quantile": ["Quantiles (test rows)", "Rows of the greatest loss"],
    "survival": ["c_index"],
}


def table() -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {
            "split": ("train", "validation", "test")[n % 3],
            "a": random.normal(size=2).tolist(),
            "b": None if n % 5 == 0 else random.normal(size=2).tolist(),
            "price": float(random.normal(50, 5)),
            "pair": random.normal(size=2).tolist(),
            "verdict": ("bad", "fair", "good")[n % 4 % 3],
            "tags": ("x;y", "y", "<z>;x")[n % 4 % 3],
            "days": float(random.exponential()) + 0.01,
            "died": ("yes", "no")[n % 4 % 2],
        }
        for n in range(60)
    ]


def recipe(**changed: Any) -> dict[str, Any]:
    encoder = {"name": "mlp", "hidden": [4], "features": 4}
    return {
        "table": table(),
        "split": "split",
        "modalities": {name: {"type": "vector", "column": name, "encoder": encoder} for name in "ab"},
        "fusion": "concat",
        "training": {"epochs": 1, "batch_size": 16},
        **changed,
    }


def told(run: Path, **options: Any) -> str:
    text = write_report([run], device="cpu", **options).read_text(encoding="utf-8")
    assert "could not be told" not in text, re.findall("could not be told[^<]*", text)
    assert "cannot be read" not in text, re.findall("[^>]*cannot be read[^<]*", text)
    return text


@pytest.mark.parametrize("task", TARGETS)
def test_each_task_is_told_of(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmreg.train(recipe(target=TARGETS[task]), tmp_path / "run", device="cpu")
    assert "left out of this training" not in capsys.readouterr().err
    at_end = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "could not be told" not in at_end
    text = told(tmp_path / "run")
    for expected in TOLD[task]:
        assert expected in text
        assert expected in at_end


def test_several_targets_are_told_apart(tmp_path: Path) -> None:
    targets = {"price": TARGETS["regression"], "verdict": {"column": "verdict", "task": "classification"}}
    rows = table()
    rows[2]["verdict"] = rows[5]["verdict"] = None  # two test rows lack this target
    mmreg.train(recipe(table=rows, targets=targets), tmp_path / "run", device="cpu")
    text = told(tmp_path / "run")
    for expected in ("Figures of price", "Predicted over true values (price: value)", "ROC of verdict"):
        assert expected in text
    assert "Confusion matrix of verdict (test rows)" in text
    (counts,) = re.findall(r"<caption>Rows of each class of verdict</caption>.*?</table>", text, re.DOTALL)
    found = re.findall(r'<th scope="row">(\w+)</th><td class="n">(\d+)</td>', counts)
    told_rows = {name: int(number) for name, number in found}
    assert told_rows == Counter(row["verdict"] for row in rows if row["split"] == "test" and row["verdict"])


def test_a_task_without_a_target_is_told_of(tmp_path: Path) -> None:
    mmreg.train(recipe(target={"task": "contrastive"}, fusion=None), tmp_path / "run", device="cpu")
    text = told(tmp_path / "run")
    assert "Figures" in text
    assert "Confusion matrix" not in text


def test_a_run_with_no_rows_to_measure_on_is_told_of(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in table()]
    mmreg.train(recipe(table=rows, target=TARGETS["ordinal"]), tmp_path / "run", device="cpu")
    assert "neither validation nor test rows" in told(tmp_path / "run")


def test_a_combination_of_runs_is_told_of(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(table()), tmp_path / "table.parquet")
    for name in "ab":
        alone = recipe(table=str(tmp_path / "table.parquet"), target={"column": "verdict", "task": "classification"})
        del alone["fusion"]
        alone["modalities"] = {name: alone["modalities"][name]}
        mmreg.train(alone, tmp_path / name, device="cpu")
    mmreg.fuse([tmp_path / "a", tmp_path / "b"], "product", tmp_path / "fused")
    at_end = (tmp_path / "fused" / "report.html").read_text(encoding="utf-8")
    assert "Combined of these runs" in at_end
    text = told(tmp_path / "fused")
    assert "Figures by what the model is given" in text
    assert text.count("absent</em>") > 0


def test_an_input_that_several_trainings_read_is_shown_once(tmp_path: Path) -> None:
    facts = {"type": "tabular", "columns": ["price", "gap"], "encoder": "tabular_mlp"}
    gaps = [{**row, "gap": None if n % 2 else 1.5} for n, row in enumerate(table())]
    pq.write_table(pa.Table.from_pylist(gaps), tmp_path / "table.parquet")
    target = {"column": "verdict", "task": "classification"}
    one = recipe(table=str(tmp_path / "table.parquet"), target=target)
    one["modalities"]["facts"] = facts
    for name in ("one", "two"):
        mmreg.train(one, tmp_path / name, device="cpu")
    mmreg.fuse([tmp_path / "one", tmp_path / "two"], "mean", tmp_path / "fused")
    text = told(tmp_path / "fused")
    assert "gap: <em>absent</em>" in text
    assert "gap: None" not in text
    names = re.findall(r"<th[^>]*>([^<]*)</th>", text[text.index("Most confident wrong rows") :])
    assert [name for name in names if name.endswith(("a", "b", "facts"))][:3] == ["a", "b", "facts"]
    presence = text[text.index("Rows that have each modality") :]
    assert presence[: presence.index("</table>")].count("<tr>") - 1 == 6  # three inputs in two splits
