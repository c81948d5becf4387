"""The moving average of weights: against its formula and torch's own, through a training, and when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toys import Listening, train

import mmreg
from mmreg import runs
from mmreg.training.averaging import Average
from mmreg.training.step import TrainingStep

NOISY: dict[str, Any] = {
    "modalities": {
        name: {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear", "dropout": 0.2}} for name in "ab"
    },
    "fusion": "weighted",
    "overrides": ["training.average=0.9"],
}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def model() -> Any:
    return mmreg.build_model(toys.recipe(toys.rows()))


def moved(model: torch.nn.Module, step: int) -> None:
    """Change all that is in a model, as a step would."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise if tensor.is_floating_point() else 1)


def test_each_step_follows_the_formula_with_a_decay_that_warms_up() -> None:
    trained = model()
    average = Average(trained, 0.5)
    expected = {name: tensor.double().clone() for name, tensor in trained.state_dict().items()}
    for step in range(20):
        moved(trained, step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in trained.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
            else:  # the count of a batch norm
                expected[name] = tensor.double()
    for name, tensor in average.model.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_once_warm_it_is_what_torch_does() -> None:
    trained = model()
    average, theirs = Average(trained, 0.25), AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.25))
    theirs.update_parameters(trained)
    for step in range(10, 20):  # (1 + 10) / (10 + 10) is more than 0.25 already
        moved(trained, step)
        average.update(step)
        theirs.update_parameters(trained)
    for own, other in zip(average.model.parameters(), theirs.module.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_finished_run_has_the_average_of_all_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course: list[dict[str, torch.Tensor]] = []
    began: list[dict[str, torch.Tensor]] = []
    step = TrainingStep.__call__

    def recorded(self: TrainingStep, group: Any, number: int, weight: float, parts: Any) -> Any:
        if not began:
            began.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        losses = step(self, group, number, weight, parts)
        course.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        return losses

    monkeypatch.setattr(TrainingStep, "__call__", recorded)
    run = train(tmp_path / "run", overrides=["training.average=0.9", "training.keep=last"])
    expected = {name: tensor.double() for name, tensor in began[0].items() if tensor.is_floating_point()}
    for number, weights in enumerate(course):
        decay = min(0.9, (1 + number) / (10 + number))
        expected = {name: decay * each + (1 - decay) * weights[name].double() for name, each in expected.items()}
    written = runs.read_weights(run.folder / runs.WEIGHTS)
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name].double(), tensor, rtol=1e-5, atol=1e-6)
    assert not torch.equal(written["head.weight"], course[-1]["head.weight"])


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **NOISY)
    best = run.report["best"]
    one = train(tmp_path / "one", **{**NOISY, "overrides": ["training.average=0.9", "training.epochs=1"]})
    state = torch.load(one.folder / runs.CHECKPOINT, weights_only=True)
    for kept in (runs.BEST, runs.WEIGHTS):
        written = runs.read_weights(one.folder / kept)
        assert all(torch.equal(written[name], tensor) for name, tensor in state["average"].items())
    measured = run.evaluate(split="validation")["metrics"]
    assert measured["accuracy"] == pytest.approx(best["value"])
    plain = train(tmp_path / "plain", **{**NOISY, "overrides": []})
    columns = [(each.folder / "metrics.csv").read_text().splitlines() for each in (run, plain)]
    assert columns[0] != columns[1]
    names = columns[0][0].split(",")
    losses = [[line.split(",")[names.index("train_loss")] for line in each[1:]] for each in columns]
    assert losses[0] == losses[1]  # the average changes nothing of the training itself


@pytest.mark.parametrize("stop_after", [8, 9, 18])
def test_a_stopped_training_goes_on_with_its_average_to_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    train(tmp_path / "whole", **NOISY)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", callback=Listening(stop_after), **NOISY)
    train(tmp_path / "stopped", resume=True, **NOISY)
    for name in (runs.METRICS, runs.WEIGHTS):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_a_training_that_is_finished_early_ends_with_the_average(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**NOISY, "overrides": ["training.average=0.9", "training.keep=last"]}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", callback=Listening(18), **settings)
    state = torch.load(tmp_path / "stopped" / runs.CHECKPOINT, weights_only=True)
    run = mmreg.finish(tmp_path / "stopped", toys.rows())
    written = runs.read_weights(run.folder / runs.WEIGHTS)
    assert all(torch.equal(written[name], tensor) for name, tensor in state["average"].items())
    assert not all(torch.equal(written[name], tensor) for name, tensor in state["model"].items())


def test_an_update_waits_for_no_device_and_makes_few_calls() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls.append(str(func))
            return func(*args, **(kwargs or {}))

    trained = model()
    average = Average(trained, 0.9)
    with Counting() as counting:
        average.update(3)
    assert not [call for call in counting.calls if "local_scalar" in call or "nonzero" in call]
    others = [call for call in counting.calls if "copy_" not in call and "detach" not in call]
    assert others == ["aten._foreach_lerp_.Scalar"]
