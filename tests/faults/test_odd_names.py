"""Names with newlines and with bytes that are not UTF-8, of runs and of the files that cells name."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import toys
from small import make_folder, read_table, write_table
from toys import NOISY, assert_same, stopped_at, train

import mmreg
from mmreg.errors import RunError, TableError
from mmreg.recipe.yaml import read_yaml

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names that these systems do not have")


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def test_a_run_whose_name_has_a_newline_is_kept_resumed_finished_and_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "my\nrun \x1b[31m"
    stopped_at(folder, 11, **NOISY)
    mmreg.finish(folder, toys.rows(), device="cpu")
    train(folder, resume=True, **NOISY)
    train(tmp_path / "whole", **NOISY)
    assert_same(folder, tmp_path / "whole")
    assert mmreg.load(folder, "cpu").evaluate(toys.rows(), split="test")["rows"] == 40


def test_a_run_whose_name_is_not_utf_8_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(RunError, match="its name is not UTF-8; name another folder"):
        train(folder, **NOISY)
    assert list(tmp_path.iterdir()) == []


def test_cells_name_files_with_newlines_and_are_told_of_those_that_are_not_utf_8(tmp_path: Path) -> None:
    make_folder(tmp_path)
    rows: list[dict[str, Any]] = list(read_table(tmp_path / "table.csv"))
    shutil.move(tmp_path / rows[0]["image"], tmp_path / "images/a\nb.png")
    rows[0]["image"] = "images/a\nb.png"
    write_table(tmp_path / "table.csv", rows)
    run = mmreg.train(tmp_path / "recipe.yaml", tmp_path / "run", overrides=["training.epochs=1"], device="cpu")
    assert run.report["bad_cells"] == {}
    shutil.copy(tmp_path / rows[1]["image"], tmp_path / os.fsdecode(b"images/\xff.png"))
    rows[1]["image"] = os.fsdecode(b"images/\xff.png")
    recipe: dict[str, Any] = {**read_yaml((tmp_path / "recipe.yaml").read_text(), "")[0], "table": rows}
    with pytest.raises(TableError, match=r"column 'image' holds a text that is not UTF-8 in row 2, '"):
        mmreg.train(recipe, tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()
