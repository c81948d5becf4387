"""`batch_size: auto`: the number of rows that steps on copies of the model find, kept with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from toys import Listening, train

import mmreg
from mmreg import runs
from mmreg.contract.spec import Spec
from mmreg.data.prepared import Prepared
from mmreg.errors import RecipeError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.training_form import BATCH_ROWS, Training
from mmreg.training import batch_size
from mmreg.training.batch_size import Trial, best_batch_size

PLENTY = 1e12
MANY = 10**7


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def device(
    overhead: float = 0.01, per_row: float = 1e-4, memory_per_row: float = 0.0, holds: int = MANY
) -> tuple[Callable[[int], Trial | None], list[int]]:
    """A made-up device: the seconds that steps take there, how many rows it holds, and which sizes were tried."""
    tried: list[int] = []

    def try_rows(size: int) -> Trial | None:
        tried.append(size)
        return None if size > holds else Trial(overhead + per_row * size, memory_per_row * size)

    return try_rows, tried


def test_rows_are_doubled_for_as_long_as_a_tenth_more_of_them_come_through_a_second() -> None:
    try_rows, tried = device(overhead=0.01, per_row=1e-4)
    # Rows a second: n / (0.01 + n / 10,000), so from n to 2 n the gain is 2 (100 + n) / (100 + 2 n): 1.09 at 512.
    assert best_batch_size(try_rows, MANY, PLENTY) == 512
    assert tried == [16, 32, 64, 128, 256, 512, 1024]
    assert best_batch_size(device(overhead=0)[0], MANY, PLENTY) == 16  # more rows are no faster
    assert best_batch_size(device(overhead=1e-3, per_row=0)[0], MANY, PLENTY) == 4096


def test_no_more_rows_are_taken_than_memory_holds() -> None:
    assert best_batch_size(device(per_row=0, holds=100)[0], MANY, PLENTY) == 64
    assert best_batch_size(device(per_row=0, holds=5)[0], MANY, PLENTY) == 4
    assert best_batch_size(device(per_row=0, holds=0)[0], MANY, PLENTY) == 1


def test_on_a_cpu_nothing_is_tried_that_would_take_more_than_half_of_the_free_memory() -> None:
    try_rows, tried = device(per_row=0, memory_per_row=1e6)
    assert best_batch_size(try_rows, MANY, 400e6) == 128  # 256 rows would take 256 of 200 MB
    assert max(tried) == 128


def test_an_epoch_keeps_its_steps() -> None:
    assert best_batch_size(device(per_row=0)[0], 32 * 200, PLENTY) == 128
    assert best_batch_size(device(per_row=0)[0], 300, PLENTY) == 16
    assert best_batch_size(device(per_row=0)[0], 5, PLENTY) == 5


def test_slow_steps_are_not_tried_for_long() -> None:
    try_rows, tried = device(overhead=1.0, per_row=0.01)
    assert best_batch_size(try_rows, MANY, PLENTY) == 64
    assert sum(3 * (1 + 0.01 * size) for size in tried) < 20


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lets 24 rows a batch be found after a real trial of 16; gives what was tried."""
    trials: list[Any] = []

    def choose(try_rows: Callable[[int], Trial | None], rows: int, free: float) -> int:
        trials.append((try_rows(16), rows, free))
        return 24

    monkeypatch.setattr(batch_size, "best_batch_size", choose)
    return trials


AUTO: dict[str, Any] = {"overrides": ["training.batch_size=auto"]}
GIVEN: dict[str, Any] = {"overrides": ["training.batch_size=24"]}


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return runs.read_weights(folder / runs.WEIGHTS)


def assert_same(one: Path, two: Path) -> None:
    assert (one / runs.METRICS).read_bytes() == (two / runs.METRICS).read_bytes()
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


def test_a_training_with_the_rows_that_were_found_is_the_one_that_names_them(tmp_path: Path, found: list[Any]) -> None:
    state = torch.random.get_rng_state()
    run = train(tmp_path / "auto", **AUTO)
    assert torch.equal(torch.random.get_rng_state(), state)
    ((trial, rows, free),) = found
    assert trial.seconds > 0
    assert rows == 120
    assert free > 0
    assert_same(run.folder, train(tmp_path / "given", **GIVEN).folder)
    assert run.batch_size == mmreg.load(run.folder, device="cpu").batch_size == 24
    assert run.recipe["training"]["batch_size"] == "auto"
    assert "batch_size: auto" in (run.folder / runs.RECIPE).read_text()
    assert json.loads((run.folder / runs.COMPONENTS).read_text())["batch_size"] == 24


def test_a_training_goes_on_with_the_rows_that_were_found(
    tmp_path: Path, found: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "auto", callback=Listening(8), **AUTO)

    def never(*arguments: Any) -> int:
        raise AssertionError("it was found before")

    monkeypatch.setattr(batch_size, "best_batch_size", never)
    train(tmp_path / "auto", resume=True, **AUTO)
    assert len(found) == 1
    assert_same(tmp_path / "auto", train(tmp_path / "given", **GIVEN).folder)


def test_the_longest_rows_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 101))
    prepared = Prepared(
        name="text",
        stored=Spec("T", (None,), "int32"),
        values=np.zeros(lengths.sum(), np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        index=np.arange(100),
    )
    tried = []

    def trial(*arguments: Any) -> Trial:
        tried.append(lengths[arguments[4]].tolist())
        return Trial(1e-3, 0)

    monkeypatch.setattr(batch_size, "_trial", trial)
    rows = batch_size.TrainingRows({"text": prepared}, np.zeros(100), np.ones(100, np.float32), np.arange(100), None)
    found = batch_size.find_batch_size(None, None, {}, rows, torch.device("cpu"), torch.float32)
    assert found == 16
    assert tried == [list(range(100, 84, -1))]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("none left"), RuntimeError("DefaultCPUAllocator: not enough")]
)
def test_too_little_memory_for_a_trial_is_no_error_but_any_other_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = batch_size.TrainingRows({}, np.zeros(640), np.ones(640, np.float32), np.arange(640), None)

    def trial(*arguments: Any) -> Trial:
        if len(arguments[4]) > 16:
            raise error
        return Trial(1e-3, 0)

    monkeypatch.setattr(batch_size, "_trial", trial)
    arguments = (None, None, {}, rows, torch.device("cpu"), torch.float32)
    assert batch_size.find_batch_size(*arguments) == 16
    error = RuntimeError("a shape that does not fit")
    rows = batch_size.TrainingRows({}, np.zeros(6400), np.ones(6400, np.float32), np.arange(6400), None)
    with pytest.raises(RuntimeError, match="a shape"):
        batch_size.find_batch_size(None, None, {}, rows, torch.device("cpu"), torch.float32)


def test_other_words_are_refused_and_what_needs_no_training_takes_the_default() -> None:
    with pytest.raises(RecipeError, match="batch_size"):
        read_recipe(toys.recipe([{}], training={"batch_size": "many"}))
    assert Training(batch_size="auto").batch_rows == BATCH_ROWS
    assert Training(batch_size=7).batch_rows == 7
