"""The statistics of a training: against a computation by hand, where they are written, and that they change nothing."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from toys import Listening, StopAt, train

from mmreg import Callback, Features, Step
from mmreg.training.step import TrainingStep
from mmreg.training.stopping import Stopped

STATISTICS: dict[str, Any] = {"callbacks": [{"name": "statistics", "every": 4}], "fusion": "product"}
EACH: dict[str, Any] = {"callbacks": [{"name": "statistics", "every": 1}], "fusion": "product"}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "statistics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_step_is_measured_as_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and activations of the first and the fourth step, of an encoder with ReLU."""
    found: dict[int, dict[str, float]] = {}
    given: list[torch.Tensor] = []
    forward = toys.Linear.forward

    def kept(self: Any, signal: Any) -> Features:
        features: Features = forward(self, signal)
        if torch.is_grad_enabled():
            given.append(features.pooled.detach().clone())
        return features

    class ByHand(Callback):
        def on_start(self, run: Any, facts: Any) -> None:
            self.layers = run.model.encoders["a"]

        def on_gradients(self, step: int) -> None:
            weights = torch.cat([p.detach().flatten() for p in self.layers.parameters()]).double()
            gradients = torch.cat([p.grad.flatten() for p in self.layers.parameters()]).double()
            self.before = weights
            pooled = given[-2].double()  # of the modality a; that of b comes after it
            dead = sum(not any(column) for column in pooled.T.tolist()) / pooled.shape[1]
            found[step] = {
                "gradient_norm": math.sqrt(sum(x * x for x in gradients.tolist())),
                "weight_norm": math.sqrt(sum(x * x for x in weights.tolist())),
                "activation_mean": float(pooled.mean()),
                "activation_std": float(((pooled - pooled.mean()) ** 2).mean().sqrt()),
                "dead": dead,
            }

        def on_step(self, step: Step) -> None:
            weights = torch.cat([p.detach().flatten() for p in self.layers.parameters()]).double()
            found[step.step]["update_norm"] = float((weights - self.before).square().sum().sqrt())

    monkeypatch.setattr(toys.Linear, "forward", kept)
    overrides = ["training.epochs=1", "training.gradient_clip=0.01"]
    run = train(tmp_path / "run", overrides=overrides, callback=ByHand(), **STATISTICS)
    rows = {int(row["step"]): row for row in read(run.folder) if row["component"] == "encoders.a"}
    assert sorted(rows) == [1, 4, 8]
    for step, row in rows.items():
        for name, value in found[step].items():
            assert float(row[name]) == pytest.approx(value, rel=1e-4, abs=1e-7), (step, name)
    assert all(float(row["gradient_norm"]) > 0.01 for row in rows.values())  # before it is clipped


def test_dead_features_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = toys.Linear.forward

    def half(self: Any, signal: Any) -> Features:
        features: Features = forward(self, signal)
        return Features(pooled=features.pooled * torch.tensor([0.0, 1.0] * 4))

    monkeypatch.setattr(toys.Linear, "forward", half)
    run = train(tmp_path / "run", overrides=["training.epochs=1"], **STATISTICS)
    dead = [float(row["dead"]) for row in read(run.folder) if row["component"].startswith("encoders")]
    assert dead
    assert min(dead) >= 0.5


def test_the_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    with_, without = (train(tmp_path / name, fusion="product", callbacks=callbacks) for name, callbacks in
                      (("with", STATISTICS["callbacks"]), ("without", [])))  # fmt: skip
    for name in ("metrics.csv", "model.safetensors"):
        assert (with_.folder / name).read_bytes() == (without.folder / name).read_bytes()
    assert not with_.model.encoders["a"]._forward_hooks


def test_who_does_not_ask_for_gradients_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    step = TrainingStep.__call__

    def seen(self: TrainingStep, group: Any, number: int, weight: float, parts: Any = None) -> Any:
        asked.append(self.on_gradients)
        return step(self, group, number, weight, parts)

    monkeypatch.setattr(TrainingStep, "__call__", seen)
    train(tmp_path / "run", overrides=["training.max_steps=2"])
    assert asked == [None, None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a training that nobody stops writes, of three epochs of eight steps."""
    toys.register()
    return (train(tmp_path_factory.mktemp("whole") / "run", **EACH).folder / "statistics.csv").read_text()


@pytest.mark.parametrize("step", [1, 7, 8, 9, 12, 18])
def test_a_training_that_goes_on_goes_on_in_the_same_file(tmp_path: Path, whole: str, step: int) -> None:
    """It was stopped after any step of an epoch, of which the last one is kept."""
    stop = StopAt(step)
    with pytest.raises(Stopped):
        train(tmp_path / "run", callback=stop, stop=stop.stop, **EACH)
    run = train(tmp_path / "run", resume=True, **EACH)
    assert (run.folder / "statistics.csv").read_text() == whole


@pytest.mark.parametrize("step", [5, 8, 13])
@pytest.mark.parametrize("every", [1, 3])
def test_nothing_is_lost_by_a_kill(tmp_path: Path, whole: str, step: int, every: int) -> None:
    """What the file holds at a step is all that a killed process leaves, with a line of it cut off maybe."""
    left: dict[int, str] = {}
    run = tmp_path / "run"

    class Watching(Listening):
        def on_gradients(self, step: int) -> None:
            left[step] = (run / "statistics.csv").read_text() if step > 1 else ""

    settings = {**EACH, "overrides": [f"training.checkpoint={{minutes: null, steps: {every}}}"]}
    with pytest.raises(KeyboardInterrupt):
        train(run, callback=Watching(step), **settings)
    assert {int(row["step"]) for row in csv.DictReader(left[step].splitlines())} == set(range(1, step))
    for cut in (0, 1, 60):
        (run / "statistics.csv").write_text(left[step] + whole.splitlines()[1][:cut])
        went_on = shutil.copytree(run, tmp_path / f"cut{cut}")
        train(went_on, resume=True, **settings)
        assert (went_on / "statistics.csv").read_text() == whole


def test_the_report_shows_the_last_measured_step(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **STATISTICS)
    text = (run.folder / "report.md").read_text(encoding="utf-8")
    section = text.partition("## Statistics of step 24")[2].partition("\n## ")[0]
    assert "| encoders.a |" in section
    assert "gradient_norm" in section
    train(tmp_path / "run", overwrite=True)
    assert "Statistics" not in (run.folder / "report.md").read_text(encoding="utf-8")  # of the earlier training
