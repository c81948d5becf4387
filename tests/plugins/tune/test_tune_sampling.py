"""What is drawn for a range or choice, and that each trial draws by its number."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest

import mmreg
from mmreg_tune.sampling import sampler, suggested

KEYS = {"table": "table.csv", "modalities": {"title": {"type": "text"}}}


def drawn(value: Any, count: int = 200) -> list[Any]:
    """What trials have for an open value, drawn at random."""
    ((key, what),) = mmreg.SearchedRecipe({**KEYS, "training": {"x": value}}).ranges.items()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggested(study.ask(), key, what) for _ in range(count)]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_log_is_even_in_the_logarithm() -> None:
    values = drawn({"search": "log", "low": 1e-4, "high": 1e-2})
    assert 1e-4 <= min(values) < max(values) <= 1e-2
    below = sum(value < 1e-3 for value in values)
    assert math.isclose(below / len(values), 0.5, abs_tol=0.1)  # the middle of the logarithms


def test_uniform_is_even() -> None:
    values = drawn({"search": "uniform", "low": 0, "high": 1})
    assert math.isclose(sum(value < 0.5 for value in values) / len(values), 0.5, abs_tol=0.1)
    assert set(drawn({"search": "uniform", "low": 0, "high": 1, "step": 0.25})) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_int_gives_whole_numbers_with_both_ends() -> None:
    assert set(drawn({"search": "int", "low": 1, "high": 4})) == {1, 2, 3, 4}
    assert set(drawn({"search": "int", "low": 8, "high": 32, "step": 8})) == {8, 16, 24, 32}
    values = drawn({"search": "int", "low": 1, "high": 1024, "log": True})
    assert all(type(value) is int for value in values)
    assert math.isclose(sum(value < 32 for value in values) / len(values), 0.5, abs_tol=0.1)


def test_a_choice_gives_what_its_values_are_called() -> None:
    assert set(drawn({"choice": ["a", {"name": "b", "x": 1}, None]})) == {"a", "b(x=1)", "null"}


def test_trials_draw_by_their_number_and_the_seed() -> None:
    def first(seed: int, number: int) -> float:
        return optuna.create_study(sampler=sampler(seed, number)).ask().suggest_float("x", 0, 1)

    assert first(0, 3) == first(0, 3)
    assert len({first(seed, number) for seed in range(3) for number in range(5)}) == 15
