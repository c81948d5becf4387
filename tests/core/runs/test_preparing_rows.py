"""Rows are decoded once for several predictions, and bad cells are left to whoever asks for that."""

from __future__ import annotations

from pathlib import Path

import pytest
import small

import mmreg
from mmreg.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.make_folder(tmp_path_factory.mktemp("prepared"))
    mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    return folder


def test_prepared_rows_are_predicted_as_the_rows_are(folder):
    run = mmreg.load(folder / "run", "cpu")
    rows = [{"title": "a red thing"}, {"image": (folder / "images/1.png").read_bytes()}]
    given = run.prepare(rows)
    scores = run.predict_rows(given.prepared, given.rows).scores
    assert run.task.predictions(scores)["label"] == [row["label"] for row in run.predict(rows)]


def test_bad_cells_are_left_to_the_caller_who_asks_for_it(folder):
    run = mmreg.load(folder / "run", "cpu")
    rows = [{"image": b"no picture", "title": "x"}, {"title": "y"}]
    with pytest.raises(DataError):
        run.prepare(rows)
    prepared = run.prepare(rows, on_bad="absent").prepared
    assert [cell.row for cell in prepared["image"].bad] == [0]
    assert not prepared["image"].present.any()
