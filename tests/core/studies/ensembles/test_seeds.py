"""Several seeds of one recipe as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

import mmreg
from mmreg.errors import OptionError


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def probabilities(run: mmreg.Run, rows: Any) -> np.ndarray:
    return np.array([[row[f"probability_{label}"] for label in "wxyz"] for row in run.predict(rows)])


@pytest.mark.parametrize("split", ["split", {"validation": 0.2, "test": 0.2}])
def test_seeds_are_one_run_that_predicts_their_mean(tmp_path: Path, split: Any) -> None:
    table = toys.rows(120)
    ensemble = mmreg.train_seeds(toys.recipe(table, split=split), tmp_path / "run", seeds=[3, 1], device="cpu")
    trained = [mmreg.load(tmp_path / "run" / f"seed-{seed}", "cpu") for seed in (3, 1)]
    first, second = (run.model.encoder_of("a").state_dict()["layer.weight"] for run in trained)
    assert not first.equal(second)
    assert trained[0].split_fingerprint == trained[1].split_fingerprint  # the same rows for testing
    assert "classification from a, b by mean" in repr(ensemble.run)
    new = toys.rows(30, seed=9)
    expected = np.mean([probabilities(run, new) for run in trained], 0)
    np.testing.assert_allclose(probabilities(mmreg.load(tmp_path / "run", "cpu"), new), expected, atol=1e-6)
    accuracies = [run.report["test"]["metrics"]["accuracy"] for run in trained]
    assert ensemble.metrics["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert [each["name"] for each in ensemble.run.report["seeds"]["test"]] == ["seed-3", "seed-1"]
    assert list(ensemble.run.report["test"]["metrics"]["modalities"]) == ["seed-3", "seed-1"]
    assert ensemble.run.report["test"]["rows"] == trained[0].report["test"]["rows"]


@pytest.mark.parametrize("seeds", [[], [0], [1, 1], [0, -1]])
def test_seeds_are_two_different_ones_at_least(tmp_path: Path, seeds: list[int]) -> None:
    with pytest.raises(OptionError, match="seeds must be at least two different numbers"):
        mmreg.train_seeds(toys.recipe(toys.rows()), tmp_path / "run", seeds=seeds)
