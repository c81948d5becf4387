"""The recipe with several targets on the page about training trains as it stands."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from small import call

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
COUNT = 60


def test_the_recipe_of_the_page_trains_evaluates_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Several targets")[1]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    random = np.random.default_rng(0)
    with (tmp_path / "flats.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rooms", "area", "district", "text", "price", "label", "split"])
        for at in range(COUNT):
            rooms = int(random.integers(1, 6))
            price, label = str(100 * rooms + at), ["rent", "sale"][at % 2]
            lacking = [price if at % 5 else "", label if at % 7 or not at % 5 else ""]
            text = f"a flat to {label} in the {['north', 'south'][at % 2]}"
            split = ["train", "train", "train", "validation", "test"][at % 5 if at % 2 else (at + 1) % 5]
            writer.writerow([rooms, 25 * rooms + at % 9, "NS"[at % 2], text, *lacking, split])
    (tmp_path / "recipe.yaml").write_text(found[1].replace("epochs: 10", "epochs: 2"))
    monkeypatch.chdir(tmp_path)
    trained = call(monkeypatch, capsys, "train", "recipe.yaml", "--out", "run")
    assert trained.code == 0, trained.err
    assert "target 'price': 12 rows have no value, of 60; they count for the other targets alone" in trained.err
    evaluated = call(monkeypatch, capsys, "evaluate", "run")
    assert evaluated.code == 0, evaluated.err
    titles = [line for line in evaluated.out.splitlines() if line.endswith("test rows")]
    assert titles == ["test rows", "price, test rows", "kind, test rows"]
    assert re.search(r"^price: MAE: .* \| kind: Accuracy: ", evaluated.out, re.MULTILINE)
    assert call(monkeypatch, capsys, "predict", "run", "flats.csv", "--out", "out.csv").code == 0
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT
    assert {"price.value", "kind.label", "kind.probability_rent"} <= set(rows[0])
    report = (tmp_path / "run/report.md").read_text()
    assert "### price" in report
    assert "## Classes of kind (test rows)" in report
    refused = call(monkeypatch, capsys, "train", "recipe.yaml", "--out", "none", "--set", "fusion=vote")
    assert refused.code == 2
    assert "vote cannot combine predictions" in refused.err
