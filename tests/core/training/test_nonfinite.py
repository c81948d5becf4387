"""Losses that are not finite: what is said of them, what stays as it was, and steps that are left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import nn
from toys import Linear, Numbers, assert_same, recipe, stopped_at, train

import mmreg
from mmreg import Features, Signal, registry, runs
from mmreg.errors import TrainingError
from mmreg.training import step as stepping
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.nonfinite import IN_A_ROW, StepGuard, Watch
from mmreg.training.progress import Position
from mmreg.training.step import Losses

SKIP = "training.on_nonfinite=skip"


class Faulty(Numbers):
    __doc__ = Numbers.__doc__

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        return Signal(torch.where(signal.values > 50, torch.nan, signal.values - self.mean))


class Exploding(Linear):
    __doc__ = Linear.__doc__

    def forward(self, signal: Signal) -> Features:
        features = super().forward(signal)
        assert features.pooled is not None
        large = (signal.values > 50).any()
        return Features(pooled=torch.where(large, torch.inf, features.pooled))


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()
    registry.register("modality", "faulty", Faulty)
    registry.register("encoder", "exploding", Exploding)


def spoilt(*places: int, count: int = 200) -> list[dict[str, Any]]:
    """Rows of which these have a number in b by which the components above know them."""
    table = toys.rows(count)
    for place in places:
        table[place]["b"][2] = 99.0
    return table


FAULTY: dict[str, Any] = {
    "modalities": {"a": {"type": "numbers"}, "b": {"type": "faulty", "encoder": "linear"}},
    "key": "id",
}


def test_the_error_names_step_epoch_rows_modality_and_what_is_kept(tmp_path: Path) -> None:
    train(tmp_path / "run", **FAULTY, overrides=["training.epochs=1"])
    before = (tmp_path / "run" / runs.CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "bad", spoilt(17, 5), **FAULTY)
    told = str(caught.value)
    step = int(told.split("at step ")[1].split(" ")[0])
    assert 1 <= step <= 8
    assert told.startswith(f"the loss is not a finite number at step {step} (epoch 1), over the rows r")
    assert " and 11 more: the values of 'b', as the model gets them, are not finite in row" in told
    assert "r17" in told or "r5" in told
    assert "training.on_nonfinite: skip" in told
    assert not (tmp_path / "bad" / runs.CHECKPOINT).exists()
    assert (tmp_path / "run" / runs.CHECKPOINT).read_bytes() == before


def test_the_last_good_checkpoint_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = stepping.TrainingStep._batch_gradients

    def bad_later(step: Any, batch: Any, seed: int, weight: float, share: float, progress: float, part: Any) -> Losses:
        losses = gradients(step, batch, seed, weight, share, progress, part)
        return Losses(losses.values * (torch.nan if progress >= 19 / 24 else 1.0), losses.names)

    monkeypatch.setattr(stepping.TrainingStep, "_batch_gradients", bad_later)
    with pytest.raises(
        TrainingError, match=r"at step 20 \(epoch 3\).*; the checkpoint of step 1[6-9] is kept"
    ) as caught:
        train(tmp_path / "run", overrides=["training.checkpoint={steps: 1}"])
    assert "all inputs, weights and features are finite" in str(caught.value)
    state = load_checkpoint(tmp_path / "run")[0]
    assert 16 <= state["progress"]["step"] <= 19
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["model"].values())


def test_features_that_are_not_finite_are_told_by_their_modality(tmp_path: Path) -> None:
    modalities = {"a": {"type": "numbers"}, "b": {"type": "numbers", "encoder": "exploding"}}
    with pytest.raises(TrainingError, match="all inputs and weights are finite, but the features of b are not; lower"):
        train(tmp_path / "run", spoilt(3), modalities=modalities)


def test_a_learning_rate_that_is_far_too_high_is_told_by_the_weights(tmp_path: Path) -> None:
    huge = ["training.optimizer={name: SGD, lr: 1.0e+30}", "training.schedule=null"]
    with pytest.raises(TrainingError, match=r"at step \d .*all inputs.*finite.*lower the learning rate"):
        train(tmp_path / "run", overrides=huge)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("overrides", [[], [SKIP]])
def test_nothing_but_the_error_is_told_where_the_first_step_is_not_finite(tmp_path: Path, overrides: list[str]) -> None:
    with pytest.raises(TrainingError, match=r"the loss is not a finite number|not one step .* had a finite loss"):
        train(tmp_path / "run", spoilt(*range(200)), **FAULTY, overrides=overrides)


def test_skipped_steps_change_nothing_and_are_counted(tmp_path: Path) -> None:
    listening = toys.Listening()
    run = train(tmp_path / "run", spoilt(17), **FAULTY, overrides=[SKIP], callback=listening)
    (note,) = (text for text in run.report["notes"] if "left out" in text)
    assert note == "3 steps with a loss or gradient that is not finite: left out"  # one an epoch
    assert note in listening.messages
    assert all(bool(torch.isfinite(each).all()) for each in run.model.state_dict().values())
    for epoch in load_checkpoint(run.folder)[0]["progress"]["history"]:
        assert all(math.isfinite(each["value"]) for each in epoch["values"])
    assert run.report["steps"] == 24


def test_a_training_with_skipped_steps_goes_on_to_the_same_bits_and_count(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**FAULTY, "overrides": [SKIP, "training.accumulate=2"]}
    whole = train(tmp_path / "whole", spoilt(17, 30), **settings)
    for step in (3, 4, 6, 9):
        stopped_at(tmp_path / "run", step, table=spoilt(17, 30), **settings)
    run = train(tmp_path / "run", spoilt(17, 30), resume=True, **settings)
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert run.report == whole.report


def test_too_many_skipped_steps_in_a_row_end_the_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"{IN_A_ROW} steps in a row had to be skipped; the loss is not a finite"):
        train(tmp_path / "run", spoilt(*range(600), count=1000), **FAULTY, overrides=[SKIP])
    with pytest.raises(TrainingError, match="not one step of epoch 1 had a finite loss"):
        train(tmp_path / "short", spoilt(*range(120)), **FAULTY, overrides=[SKIP, "training.epochs=2"])


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_step_that_is_left_out_is_as_if_it_had_never_been(name: str, waits: bool) -> None:
    """On the host, and as a fused optimizer does it by itself on a device, of torch's own kernels."""
    data = torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(1))
    bad = {1, 3, 4}
    models = [net(), net()]
    for model, batches in zip(models, (data, [each for n, each in enumerate(data) if n not in bad]), strict=True):
        options = {"momentum": 0.9} if name == "SGD" else {"weight_decay": 0.1}
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1, fused=True, **options)
        guard = StepGuard(model, optimizer, skips=True, scaled=False, device=torch.device("cpu"))
        assert guard.waits
        guard.waits = waits
        for number, batch in enumerate(batches):
            spoils = len(batches) == 6 and number in bad
            values = torch.where(torch.arange(8)[:, None] == 2, torch.nan, batch) if spoils else batch
            optimizer.zero_grad()
            guard.begin()
            loss = model(values).square().mean()
            loss.backward()
            if guard.admits(loss.detach()):
                optimizer.step()
            assert bool(guard.bad) is spoils
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_gradient_that_is_not_finite_is_left_out_though_the_loss_is() -> None:
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    guard = StepGuard(model, optimizer, skips=True, scaled=False, device=torch.device("cpu"))
    guard.begin()
    loss = model(torch.ones(1, 1)).abs().sqrt().sum()  # whose derivative at zero is infinite times zero
    loss.backward()
    assert math.isfinite(loss.item())
    assert not guard.admits(loss.detach())


def test_losses_are_looked_at_together_where_the_device_would_have_to_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: looks.append(len(tensors)) or stack(tensors))
    watch = Watch(skips=False, explain=lambda number: f"step {number}")
    for number in range(1, 120):
        watch.after(number, torch.tensor(1.0), None, 1.0)
    assert looks == [50, 50]
    watch.after(120, torch.tensor(torch.inf), None, 1.0)
    watch.after(121, torch.tensor(torch.nan), None, 1.0)
    with pytest.raises(TrainingError, match="step 120"):
        watch.look()


def test_means_leave_out_what_a_device_has_skipped() -> None:
    watch = Watch(skips=True, explain=str)
    position = Position(0, 0.1)
    for number, (loss, weight, bad) in enumerate([(1.0, 2.0, False), (torch.nan, 3.0, True), (4.0, 1.0, False)], 1):
        flag, value = torch.tensor(bad), torch.tensor(loss)
        position.add(1, weight, Losses.of(value, {("a", "loss"): 2 * value}), flag)
        watch.after(number, value, flag, weight)
    watch.look()
    position.weight -= watch.take_left_out()
    assert [mean.value for mean in position.means()] == pytest.approx([2.0, 4.0])
    assert (watch.skipped, watch.in_a_row) == (1, 0)


def test_sums_of_steps_with_different_terms_are_kept_and_read_back() -> None:
    position, device = Position(3, 0.1), torch.device("cpu")
    for loss, terms in [(1.0, {("a", "loss"): 3.0}), (3.0, {}), (5.0, {("a", "loss"): 1.0})]:
        named = {name: torch.tensor(value) for name, value in terms.items()}
        position.add(1, 2.0, Losses.of(torch.tensor(loss), named), None)
    again = Position.from_plain(position.to_plain(), device)
    assert vars(again).keys() == vars(position).keys()
    for one in (position, again):
        assert [(mean.part, mean.value) for mean in one.means()] == [("", 3.0), ("a", pytest.approx(4 / 3))]
    older = {"first_step": 3, "learning_rate": 0.1, "batches": 1, "weight": 2.0, "seconds": 1.0}
    older |= {"loss": torch.tensor(6.0), "terms": [["a", "loss", torch.tensor(4.0)]]}
    assert [mean.value for mean in Position.from_plain(older, device).means()] == [3.0, 2.0]


def test_padding_is_no_value(tmp_path: Path) -> None:
    from mmreg.contract.spec import Spec
    from mmreg.training.nonfinite import _not_finite

    values = torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]])
    signal: Signal[Any] = Signal(values, torch.tensor([1, 2]))
    assert _not_finite(signal, {"": Spec("T", (None,))}).tolist() == [False, True]
    both: Signal[Any] = Signal({"x": values, "n": torch.tensor([1, 2])}, torch.tensor([1, 1]))
    specs = {"x": Spec("T", (None,)), "n": Spec("", (), "int64")}
    assert _not_finite(both, specs).tolist() == [False, True]


def test_a_recipe_that_says_neither_stop_nor_skip_is_refused() -> None:
    with pytest.raises(mmreg.MmregError, match="on_nonfinite"):
        mmreg.Recipe(recipe(toys.rows(), training={"on_nonfinite": "ignore"}))
    assert np.isfinite(IN_A_ROW)
