"""Test-time augmentation: the mean over augmented versions, against one made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

import mmreg
from mmreg.errors import OptionError
from mmreg.model.augmented import mean_scores
from mmreg.model.seeding import derive, generator

SIZE = 16


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    """A run whose modality `a` augments, with a model-level fusion."""
    toys.register()
    modalities = {"a": {"type": "numbers", "noise": 0.8}, "b": {"type": "numbers"}}
    return toys.train(tmp_path_factory.mktemp("noisy") / "run", modalities=modalities, fusion="mean")


def probabilities(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[row[f"probability_{label}"] for label in "wxyz"] for row in rows])


def noise(seed: int, copy: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the noise that one version of them gets, batch by batch."""
    changed = []
    for number, start in enumerate(range(0, len(rows), SIZE)):
        batch = rows[start : start + SIZE]
        there = [row for row in batch if row["a"] is not None]
        draws = generator("cpu", derive(seed, "augmented", copy, number), "a")
        drawn = iter(0.8 * torch.randn((len(there), 4), generator=draws))
        for row in batch:
            a = None if row["a"] is None else (np.array(row["a"]) + next(drawn).numpy()).tolist()
            changed.append({**row, "a": a})
    return changed


def test_probabilities_are_the_mean_over_the_plain_and_the_augmented_rows(noisy: mmreg.Run) -> None:
    rows = toys.rows(50, seed=3, absent=0.2)
    versions = [rows, *(noise(0, copy, rows) for copy in range(3))]
    expected = np.mean([probabilities(noisy.predict(version, batch_size=SIZE)) for version in versions], 0)
    found = probabilities(noisy.predict(rows, batch_size=SIZE, augmented=3))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - probabilities(noisy.predict(rows))).max() > 0.01
    assert noisy.predict(rows, batch_size=SIZE, augmented=3) == noisy.predict(rows, batch_size=SIZE, augmented=3)


def test_figures_are_those_of_the_mean(noisy: mmreg.Run) -> None:
    rows = toys.rows(80, seed=4)
    most_probable = probabilities(noisy.predict(rows, augmented=2)).argmax(1)
    right = np.mean(["wxyz"[number] == row["label"] for number, row in zip(most_probable, rows, strict=True)])
    figures = noisy.evaluate(rows, augmented=2)["metrics"]
    assert figures["accuracy"] == pytest.approx(right)
    assert figures["modalities"]["b"] == noisy.evaluate(rows)["metrics"]["modalities"]["b"]  # which is not augmented
    assert figures["modalities"]["a"] != noisy.evaluate(rows)["metrics"]["modalities"]["a"]


def test_a_run_that_augments_nothing_refuses(tmp_path: Path, noisy: mmreg.Run) -> None:
    run = toys.train(tmp_path / "run")
    with pytest.raises(OptionError, match="no modality of this run augments"):
        run.predict(toys.rows(5), augmented=2)
    with pytest.raises(OptionError, match="augmented must be at least 1, found -1"):
        noisy.predict(toys.rows(5), augmented=-1)


def test_the_mean_is_that_of_what_scores_say() -> None:
    scores = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(mean_scores(scores, "values"), scores.mean(0))
    logs = scores.log_softmax(-1)
    torch.testing.assert_close(mean_scores(logs, "log_probabilities").exp(), logs.exp().mean(0))
    torch.testing.assert_close(mean_scores(scores, "log_odds").sigmoid(), scores.sigmoid().mean(0))
    extreme = torch.tensor([[[200.0]], [[300.0]]], dtype=torch.float64)
    assert mean_scores(extreme, "log_odds").item() == pytest.approx(200.69, abs=0.01)
