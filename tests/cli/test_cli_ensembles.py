"""`mmreg train --folds` and `--seeds` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import Caller


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw curves takes longer than to train."""
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", "report")


def test_folds_give_a_table_a_report_and_a_run(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    called = cli("train", text_recipe, "--folds", "2", "--out", tmp_path / "cv", "--set", "training.epochs=1")
    assert called.code == 0, called.err
    assert [line.split()[0] for line in called.out.splitlines()[1:4]] == ["fold-1", "fold-2", "mean"]
    assert "out of fold" in called.out
    report = json.loads((tmp_path / "cv/report.json").read_text())
    assert report["out_of_fold"]["rows"] == 48  # the 12 test rows of the table are in no fold
    (tmp_path / "cv" / "model.safetensors").rename(tmp_path / "weights")
    told = cli("evaluate", tmp_path / "cv")
    assert (told.code, "go on with the mmreg train that began it (with its --folds or --seeds)" in told.err) == (
        2,
        True,
    )
    (tmp_path / "weights").rename(tmp_path / "cv" / "model.safetensors")
    again = cli("train", text_recipe, "--folds", "2", "--out", tmp_path / "cv", "--set", "training.epochs=1")
    assert again.code == 2
    assert "--resume" in again.err
    same = cli("train", text_recipe, "--folds", "2", "--out", tmp_path / "cv", "--set", "training.epochs=1", "--resume")
    assert same.code == 0
    assert same.out == called.out


@pytest.mark.slow
def test_seeds_give_a_run(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    called = cli("train", text_recipe, "--seeds", "0..1", "--out", tmp_path / "run", "--set", "training.epochs=1")
    assert called.code == 0, called.err
    assert "combined" in called.out
    assert cli("evaluate", tmp_path / "run").code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--folds", "2", "--seeds", "0..1"), "go neither together"),
        (("--folds", "2", "--find-lr"), "go neither together"),
        (("--seeds", "0..1", "--seed", "3"), "leave --seed out"),
        (("--seeds", "3"), "at least two different"),
        (("--jobs", "2"), "--jobs goes with"),
    ],
)
def test_what_does_not_go_together_is_told(
    cli: Caller, text_recipe: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    called = cli("train", text_recipe, "--out", tmp_path / "run", *arguments)
    assert called.code == 2
    assert told in called.err
