"""Class-balanced sampling: how often each class and each row is drawn, and where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from toys import Listening, train

from mmreg import registry
from mmreg.errors import RecipeError
from mmreg.recipe.training_form import Training
from mmreg.training.order import epoch_order
from mmreg.training.sampling import balanced_rows, row_classes

COUNTS = {0: 700, 1: 200, 2: 70, 3: 30}
CLASSES = np.random.default_rng(0).permutation(np.repeat(list(COUNTS), list(COUNTS.values())))


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def drawn(balance: float, epoch: int = 0, classes: np.ndarray = CLASSES) -> np.ndarray:
    options = Training(class_balance=balance, batch_size=64)
    return np.concatenate(epoch_order(len(classes), options, epoch, classes=classes))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_an_epoch_draws_each_class_by_the_formula_up_to_one_row(balance: float) -> None:
    sizes = np.array(list(COUNTS.values()), float)
    expected = 1000 * sizes ** (1 - balance) / (sizes ** (1 - balance)).sum()
    counts = np.array([np.bincount(CLASSES[drawn(balance, epoch)], minlength=4) for epoch in range(400)])
    assert (counts.sum(1) == 1000).all()
    assert (np.abs(counts - expected) < 1).all()
    assert counts.mean(0) == pytest.approx(expected, abs=0.15)  # 6 standard errors of a rounded number at most


def test_a_minority_is_seen_as_often_as_the_majority_and_its_rows_alike() -> None:
    rows = drawn(1.0)
    assert np.bincount(CLASSES[rows]).tolist() == [250] * 4
    times = np.bincount(rows, minlength=1000)
    for name, count in COUNTS.items():
        assert set(times[name == CLASSES]) <= {250 // count, 250 // count + 1}


def test_rows_are_mixed_over_the_epoch() -> None:
    halves = np.split(CLASSES[drawn(1.0)], 2)
    assert np.bincount(halves[0]) == pytest.approx(np.bincount(halves[1]), abs=60)


def test_balance_zero_takes_every_row_once() -> None:
    assert sorted(balanced_rows(CLASSES, 0.0, np.random.default_rng(1)).tolist()) == list(range(1000))


def test_the_draws_are_keyed_by_seed_and_epoch() -> None:
    assert drawn(1.0, 3).tolist() == drawn(1.0, 3).tolist()
    assert drawn(1.0, 3).tolist() != drawn(1.0, 4).tolist()


def test_of_several_labels_the_rarest_one_counts() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0]], np.float32)
    classes = row_classes("log_odds", labels)
    assert classes is not None
    assert classes.tolist() == [1, 0, 2, 2, -1]
    assert row_classes("values", labels) is None


def few(count: int = 120) -> list[dict[str, Any]]:
    """Rows of which one class has a tenth of the others' training rows."""
    table = toys.rows(count)
    rare = [row for row in table if row["label"] == "w" and row["split"] == "train"]
    return [row for row in table if row not in rare[2:]]


def test_a_training_sees_the_classes_alike(tmp_path: Path) -> None:
    table = few()
    train_rows = [row["label"] for row in table if row["split"] == "train"]
    assert train_rows.count("w") == 2
    seen: list[float] = []

    class Watching(toys.Linear):
        """Keeps the first number of every row that it trains on."""

        def forward(self, signal: Any) -> Any:
            if self.training:
                seen.extend(signal.values[:, 0].tolist())
            return super().forward(signal)

    registry.register("encoder", "watching", Watching)
    try:
        modality = {"a": {"type": "numbers", "encoder": "watching"}}
        train(tmp_path / "run", table, modalities=modality, fusion=None, overrides=["training.class_balance=1"])
    finally:
        registry.unregister("encoder", "watching")
    assert len(seen) == 3 * len(train_rows)
    _, times = np.unique(np.round(seen, 5), return_counts=True)
    assert sum(sorted(times)[-2:]) / len(seen) == pytest.approx(0.25, abs=0.02)  # two rows are a quarter of all


def test_a_stopped_training_draws_the_same_rows(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"overrides": ["training.class_balance=0.7"]}
    whole = train(tmp_path / "whole", few(), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", few(), callback=Listening(9), **settings)
    stopped = train(tmp_path / "stopped", few(), resume=True, **settings)
    names = ("metrics.csv", "model.safetensors")
    assert all((whole.folder / name).read_bytes() == (stopped.folder / name).read_bytes() for name in names)


def test_a_target_of_numbers_is_refused_with_what_to_do(tmp_path: Path) -> None:
    table = [{**row, "label": float(number)} for number, row in enumerate(toys.rows())]
    target = {"column": "label", "task": "regression"}
    with pytest.raises(RecipeError, match=r"training\.class_balance.*'regression' has no classes.*target\.weight"):
        train(tmp_path / "run", table, target=target, overrides=["training.class_balance=1"])
