"""The recipe of the page about searches is searched as the page has it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from small import call

from mmreg_demo.data import write_data

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_page_is_searched_and_its_best_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'mmreg[tune]'")
    ((name, text),) = re.findall(r"^<!-- recipe: (\S+) -->\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    digits = [number % 10 for number in range(60)]
    write_data(tmp_path, np.random.default_rng(0).random((60, 8, 8)), digits, 0)
    few = ("--trials", "2", "--set", "training.epochs=1", "--device", "cpu")
    searched = call(monkeypatch, capsys, "tune", name, "--out", "tuned", *few)
    assert searched.code == 0, searched.err
    keys = searched.out.splitlines()[1]
    for key in ("modalities.image.encoder.dropout", "modalities.hint.encoder", "fusion", "training.optimizer.lr"):
        assert f" {key} " in keys
    trained = call(monkeypatch, capsys, "train", "tuned/best.yaml", "--out", "run", "--device", "cpu")
    assert trained.code == 0, trained.err
