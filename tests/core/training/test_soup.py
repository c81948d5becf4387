"""The greedy soup of the best epochs: against means made by hand, and where another epoch does harm."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from toys import train

import mmreg
from mmreg import runs
from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.errors import ValidationRowsError
from mmreg.training.soup import averaged, best_epochs, epoch_weights, greedy_soup

SOUP: dict[str, Any] = {**toys.NOISY, "overrides": ["training.keep=soup", "training.epochs=6"]}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def state(value: float, count: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2,), value), "half": torch.full((1,), value).half(), "count": torch.tensor(count)}


def test_real_numbers_are_averaged_and_counts_are_those_of_the_first() -> None:
    mean = averaged([state(1.0, 7), state(2.0, 5), state(6.0, 3)])
    assert mean["weight"].tolist() == [3.0, 3.0]
    assert (mean["half"].dtype, mean["half"].tolist()) == (torch.float16, [3.0])
    assert mean["count"].item() == 7
    assert averaged([state(1.0, 7)])["weight"].tolist() == [1.0, 1.0]


def measured(target: float) -> Any:
    """Less error the nearer the weight is to a number."""
    return lambda given: -abs(float(given["weight"][0]) - target)


def test_an_epoch_that_does_harm_is_left_out() -> None:
    ingredients = [(4, state(1.0, 4)), (5, state(9.0, 5)), (3, state(2.0, 3))]
    soup = greedy_soup(ingredients, -0.5, measured(1.5), more_is_better=True)
    assert soup.epochs == (4, 3)
    assert soup.state["weight"].tolist() == [1.5, 1.5]
    assert soup.value == 0.0
    alone = greedy_soup(ingredients, -0.0, measured(1.0), more_is_better=True)
    assert (alone.epochs, alone.state["weight"].tolist()) == ((4,), [1.0, 1.0])


def test_an_epoch_that_changes_nothing_is_taken_and_less_may_be_better() -> None:
    ingredients = [(4, state(1.0, 4)), (5, state(3.0, 5))]
    assert greedy_soup(ingredients, 1.0, lambda given: 1.0, more_is_better=True).epochs == (4, 5)
    assert greedy_soup(ingredients, 1.0, lambda given: 0.9, more_is_better=False).epochs == (4, 5)
    assert greedy_soup(ingredients, 1.0, lambda given: 1.1, more_is_better=False).epochs == (4,)
    assert greedy_soup(ingredients, 1.0, lambda given: None, more_is_better=True).epochs == (4,)


def test_of_equal_epochs_the_earlier_one_is_better() -> None:
    values = [0.5, 0.7, 0.7, 0.2, 0.6]
    history = [Epoch(n, n, 0.1, (MetricValue("validation", "", "f", v),)) for n, v in enumerate(values, 1)]
    assert best_epochs([*history, Epoch(6, 6, 0.1)], "f", more_is_better=True) == [2, 3, 5]
    assert best_epochs(history, "f", more_is_better=False) == [4, 1, 5]


def test_of_as_many_right_the_lower_loss_is_better() -> None:
    told = [
        {"f": 0.5, "loss": 0.1},
        {"f": 0.7, "loss": 0.9},
        {"f": 0.7, "loss": 0.8},
        {"f": 0.7},
        {"f": 0.7, "loss": 0.8},
    ]
    history = [
        Epoch(n, n, 0.1, tuple(MetricValue("validation", "", *pair) for pair in values.items()))
        for n, values in enumerate(told, 1)
    ]
    assert best_epochs(history, "f", more_is_better=True) == [3, 5, 2]
    assert best_epochs(history, "f", more_is_better=False) == [1, 3, 5]
    assert best_epochs(history, "loss", more_is_better=False) == [1, 3, 5]


def accuracy(run: mmreg.Run, weights: Mapping[str, torch.Tensor]) -> float:
    run.model.load_state_dict(dict(weights))
    figures = run.evaluate([row for row in toys.rows() if row["split"] == "validation"])
    return float(figures["metrics"]["accuracy"])


def test_a_training_ends_with_the_mean_of_epochs_that_trying_each_gives(tmp_path: Path) -> None:
    settings = {**SOUP, "overrides": [*SOUP["overrides"], "training.metric=accuracy"]}
    run = train(tmp_path / "run", **settings)
    told = run.report["soup"]
    trained = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    files = {path.stem for path in (tmp_path / "run/checkpoints").glob("epoch-*")}
    found = {
        int(name.removeprefix("epoch-")): runs.read_weights(tmp_path / f"run/checkpoints/{name}.safetensors")
        for name in files
    }
    with (tmp_path / "run" / runs.METRICS).open() as file:
        by_epoch = {
            int(row["epoch"]): (-float(row["validation_accuracy"]), float(row["validation_loss"]))
            for row in csv.DictReader(file)
        }
    best = sorted(by_epoch, key=lambda number: (by_epoch[number], number))[:3]
    before = sorted(range(1, 6), key=lambda number: (by_epoch[number], number))[:3]
    assert set(found) == {*best, *before}  # the others are gone; an earlier checkpoint may ask for these
    chosen, value = [best[0]], -by_epoch[best[0]][0]
    for number in best[1:]:
        tried = accuracy(run, averaged([found[each] for each in [*chosen, number]]))
        if tried >= value:
            chosen, value = [*chosen, number], tried
    assert (told["epochs"], told["value"]) == (chosen, pytest.approx(value))
    assert len(chosen) > 1  # else nothing is mixed here
    expected = averaged([found[number] for number in chosen])
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    assert run.report["validation"]["metrics"]["accuracy"] == pytest.approx(value)
    assert any("the mean of those of the epochs" in note for note in run.report["notes"])


@pytest.mark.parametrize("steps", [(20,), (9, 33, 45)])
def test_a_training_that_was_stopped_ends_with_the_same_soup(tmp_path: Path, steps: tuple[int, ...]) -> None:
    whole = train(tmp_path / "whole", **SOUP)
    for step in steps:
        toys.stopped_at(tmp_path / "run", step, **SOUP)
    resumed = train(tmp_path / "run", resume=True, **SOUP)
    toys.assert_same(tmp_path / "whole", tmp_path / "run")
    assert whole.report["soup"] == resumed.report["soup"]


def test_one_that_goes_on_from_the_earlier_checkpoint_has_what_it_needs(tmp_path: Path) -> None:
    train(tmp_path / "whole", **SOUP)
    toys.stopped_at(tmp_path / "run", 40, **SOUP)
    (tmp_path / "run" / runs.CHECKPOINT).write_bytes(b"damaged")
    train(tmp_path / "run", resume=True, **SOUP)
    toys.assert_same(tmp_path / "whole", tmp_path / "run")


def test_weights_that_are_damaged_are_left_out_and_told(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **SOUP)
    damaged = min(whole.report["soup"]["epochs"])
    toys.stopped_at(tmp_path / "run", 47, **SOUP)
    place = tmp_path / "run" / epoch_weights(damaged)
    place.write_bytes(place.read_bytes()[:-1])
    run = train(tmp_path / "run", resume=True, **SOUP)
    assert damaged not in run.report["soup"]["epochs"]
    assert any("left out of the soup" in note for note in run.report["notes"])


def test_what_is_stopped_can_be_finished_with_a_soup(tmp_path: Path) -> None:
    toys.stopped_at(tmp_path / "run", 36, **SOUP)
    run = mmreg.finish(tmp_path / "run", toys.rows(), device="cpu")
    assert run.report["soup"]["epochs"]
    again = mmreg.load(tmp_path / "run", "cpu")
    assert again.predict(toys.rows(20, seed=4)) == run.predict(toys.rows(20, seed=4))


def test_a_soup_of_averages_is_one_of_the_averaged_weights(tmp_path: Path) -> None:
    settings = {**SOUP, "overrides": [*SOUP["overrides"], "training.average=0.9"]}
    run = train(tmp_path / "run", **settings)
    found = [runs.read_weights(tmp_path / "run" / epoch_weights(number)) for number in run.report["soup"]["epochs"]]
    expected = averaged(found)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in run.model.state_dict().items())


def test_a_soup_is_chosen_by_validation_rows(tmp_path: Path) -> None:
    table = [{**row, "split": "train"} for row in toys.rows(40)]
    with pytest.raises(ValidationRowsError, match="keep: soup is chosen by validation rows"):
        train(tmp_path / "run", table, overrides=["training.keep=soup"])


def test_a_frozen_encoder_that_is_encoded_once_is_the_same_in_the_soup(tmp_path: Path) -> None:
    encoder = {"name": "linear", "freeze": True}
    settings = {"modalities": {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}}
    run = train(tmp_path / "run", overrides=["training.keep=soup", "training.epochs=6"], **settings)
    assert len(run.report["soup"]["epochs"]) > 1
    kept = runs.read_weights(tmp_path / "run" / runs.FROZEN)
    frozen = {name: tensor for name, tensor in run.model.state_dict().items() if name.startswith("encoders.a.")}
    assert frozen
    assert all(torch.equal(tensor, kept[name]) for name, tensor in frozen.items())
    figures = mmreg.load(tmp_path / "run", "cpu").evaluate([r for r in toys.rows() if r["split"] == "validation"])
    assert run.report["validation"]["metrics"]["accuracy"] == figures["metrics"]["accuracy"]
