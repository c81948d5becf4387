"""Looking for a learning rate: on a function whose limit is known, on a recipe, and on the command line."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from small import call, make_folder
from torch import nn
from toys import Listening

import mmreg
from mmreg import registry
from mmreg.errors import OptionError, TableError
from mmreg.training.loop import Trainer
from mmreg.training.rate_range import RangeTest, RateRange


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def of_a_quadratic(curvature: float, steps: int = 100) -> RateRange:
    """Gradient descent on curvature / 2 * x ** 2, which converges up to the rate 2 / curvature."""
    x = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=1.0)
    test = RangeTest(1e-7, 10.0, steps)
    while not test.over:
        optimizer.param_groups[0]["lr"] = test.rate
        optimizer.zero_grad()
        loss = curvature / 2 * x**2
        loss.backward()
        optimizer.step()
        test.add(float(loss.detach()))
    return test.result()


@pytest.mark.parametrize("curvature", [2.0, 50.0, 1e4])
def test_the_loss_of_a_quadratic_turns_at_its_known_limit(curvature: float) -> None:
    found = of_a_quadratic(curvature)
    ratio = found.rates[1] / found.rates[0]
    turning = found.rates[int(np.argmin(found.losses))]  # the first rate that is too large takes the next step
    assert 2 / curvature < turning < 2 / curvature * ratio
    assert found.diverged
    assert found.suggestion is not None
    assert 2 / curvature / 100 < found.suggestion < 2 / curvature
    assert found.minimum <= turning * ratio


def test_the_rates_grow_by_one_ratio_from_the_first_to_the_last() -> None:
    test = RangeTest(1e-7, 10.0, 100)
    while not test.over:
        test.add(1.0)
    found = test.result()
    assert (found.rates[0], found.rates[-1], len(found.rates)) == (1e-7, pytest.approx(10.0), 100)
    assert np.diff(np.log(found.rates)) == pytest.approx(math.log(1e8) / 99)
    assert not found.diverged


def test_it_stops_where_the_running_loss_is_four_times_the_best() -> None:
    losses = [1.0] * 10 + [100.0] * 10
    test = RangeTest(1e-7, 10.0, 100)
    running = 0.0
    for number, loss in enumerate(losses):
        test.add(loss)
        running = 0.9 * running + 0.1 * loss
        assert test.over == (running / (1 - 0.9 ** (number + 1)) > 4.0)
        if test.over:
            break
    assert test.result().diverged


def test_a_loss_below_zero_is_no_divergence() -> None:
    test = RangeTest(1e-7, 10.0, 30)
    for number in range(30):
        assert not test.over
        test.add(-1.0 - number)
    assert test.over
    assert not test.result().diverged


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(bad: float) -> None:
    test = RangeTest(1e-7, 10.0, 30)
    for loss in (2.0, 1.5, 1.0, bad):
        test.add(loss)
    found = test.result()
    assert test.over
    assert found.diverged
    assert np.isfinite(found.smoothed).all()
    assert found.suggestion in found.rates[:3]


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    assert RateRange([1e-3, 1e-2, 1e-1], [1.0, 2.0, 3.0], True).suggestion is None


@pytest.mark.parametrize("scale", [1e-6, 0.693, 1.0, 1e6])
def test_a_loss_that_changes_by_rounding_alone_suggests_nothing(scale: float) -> None:
    random = np.random.default_rng(0)
    rates = np.geomspace(1e-7, 10.0, 100).tolist()
    for _ in range(100):
        constant = float(scale * random.uniform(0.1, 1))
        rounded = np.full(100, constant) * (1 + 1e-7 * random.standard_normal(100))
        for losses in ([constant] * 100, rounded.tolist()):
            found = RateRange(rates, losses, False)
            assert found.suggestion is None
            assert found.minimum == rates[0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_loss_that_falls_by_little_suggests_a_rate(scale: float) -> None:
    rates = np.geomspace(1e-7, 10.0, 100).tolist()
    found = RateRange(rates, [scale * (1 - 1e-4 / (1 + math.exp((50 - step) / 5))) for step in range(100)], False)
    assert found.suggestion == pytest.approx(rates[50], rel=0.5)
    assert found.minimum > rates[80]


def test_a_first_loss_of_zero_is_no_measure_of_divergence() -> None:
    test = RangeTest(1e-7, 10.0, 30)
    for loss in [0.0, 0.0] + [1.0] * 20:
        test.add(loss)
        assert not test.over
    test.add(100.0)
    assert test.over
    assert test.result().diverged


def test_losses_of_zero_are_no_divergence() -> None:
    test = RangeTest(1e-7, 10.0, 30)
    for _ in range(30):
        assert not test.over
        test.add(0.0)
    assert not test.result().diverged
    assert test.result().suggestion is None


def test_the_rate_of_the_recipe_does_not_matter() -> None:
    """Not even if it is zero, where only the multipliers of the weights are left."""
    encoder = {"name": "linear", "lr": 0.1}
    modalities = {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}
    recipe = toys.recipe(toys.rows(), modalities=modalities)
    found = [
        mmreg.find_lr(recipe, device="cpu", steps=30, overrides=[f"training.optimizer={{name: SGD, lr: {rate}}}"])
        for rate in (0.0, 1.0)
    ]
    assert found[0] == found[1]
    assert found[0].losses[0] != found[0].losses[-1]


class Still(mmreg.Optimizer):
    """An optimizer without an own rate."""

    def build(self, groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD([each for group in groups for each in group.parameters], lr=0.0)


def test_an_optimizer_that_never_moves_is_refused() -> None:
    registry.register("optimizer", "still", Still)
    try:
        with pytest.raises(OptionError, match="the optimizer still has a rate of 0 for all weights"):
            mmreg.find_lr(toys.recipe(toys.rows(40)), device="cpu", overrides=["training.optimizer=still"])
    finally:
        registry.unregister("optimizer", "still")


def test_a_recipe_is_tried_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rates: list[list[float]] = []
    init = Trainer.__init__

    def kept(self: Trainer, *arguments: Any) -> None:
        init(self, *arguments)
        step = self.step

        def stepped(group: Any, number: int, weight: float, parts: Any = None) -> Any:
            rates.append([group["lr"] for group in self.optimizer.param_groups])
            return step(group, number, weight, parts)

        stepped.guard = step.guard  # type: ignore[attr-defined]
        self.step = stepped  # type: ignore[assignment]

    monkeypatch.setattr(Trainer, "__init__", kept)
    encoder = {"name": "linear", "lr": 0.1}
    modalities = {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}
    recipe = toys.recipe(toys.rows(), modalities=modalities)
    before = torch.random.get_rng_state()
    listening = Listening()
    found = mmreg.find_lr(recipe, device="cpu", steps=60, callback=listening)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not list(tmp_path.iterdir())
    assert [max(each) for each in rates] == pytest.approx(found.rates[: len(rates)])
    assert [min(each) / max(each) for each in rates] == pytest.approx([0.1] * len(rates))
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 1
    again = mmreg.find_lr(recipe, device="cpu", steps=60)
    assert (again.rates, again.losses) == (found.rates, found.losses)


def test_it_goes_over_the_rows_as_often_as_it_needs() -> None:
    found = mmreg.find_lr(toys.recipe(toys.rows(40)), device="cpu", steps=50, high=1e-3)
    assert len(found.losses) == 50  # of an epoch of two steps


def test_wrong_rates_and_empty_tables_are_refused() -> None:
    for low, high in ((1.0, 0.1), (1e-7, math.inf), (1e-7, math.nan), (math.nan, 1.0), (1e-300, 1e300), (0.0, 1.0)):
        with pytest.raises(ValueError, match="must be finite and grow"):
            mmreg.find_lr(toys.recipe(toys.rows()), low=low, high=high)
    table = [{**row, "a": [0.0]} for row in toys.rows(40)]
    with pytest.raises(TableError, match="no training row is left"):
        mmreg.find_lr(toys.recipe(table, on_bad="skip"), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("rates"))


def test_the_command_prints_a_suggestion_and_writes_the_curve(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    recipe = str(folder / "recipe.yaml")
    done = call(monkeypatch, capsys, "train", recipe, "--find-lr", "--out", str(folder / "r"), "--device", "cpu")
    assert done.code == 0, done.err
    assert "falls fastest" in done.out
    assert "suggestion: training.optimizer.lr=" in done.out
    assert "no picture was drawn, as matplotlib is missing: pip install 'mmreg[plot]'" in done.err
    with (folder / "r-lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["learning_rate"]) == 1e-7
    assert set(rows[0]) == {"learning_rate", "loss", "smoothed"}
    assert not (folder / "r").exists()
    refused = call(monkeypatch, capsys, "train", recipe, "--find-lr", "--resume")
    assert refused.code == 2
    assert "--find-lr goes neither with --resume nor with --dry-run" in refused.err


def test_the_curve_is_drawn_where_matplotlib_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mmreg.cli.find_lr import draw

    never = RateRange([1e-3, 1e-2, 1e-1], [1e9, 1e9, 1e9 * (1 + 1e-9)], False)
    assert draw(never, tmp_path / "never.png")  # with axes of some height
    assert draw(of_a_quadratic(10.0), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
