"""Training on a GPU: recorded steps give what steps give, and none waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmreg
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.layers import recurrent_states
from mmreg.recipe.resolve import resolve
from mmreg.training.captured import CapturedStep, CudaRecorder
from mmreg.training.loop import Trainer
from mmreg.training.rows import TrainingRows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = torch.device("cuda:0")
MODALITIES: dict[str, Any] = {
    "image": {"size": 16, "augment": ["crop", "flip"], "encoder": {"name": "image_cnn", "channels": [8, 16]}},
    "text": {"encoder": {"name": "text_rnn", "embedding_size": 16, "hidden_size": 16}},
    "audio": {"sample_rate": 2000, "noise": 0.1, "encoder": {"name": "audio_cnn", "channels": [8, 16]}},
}


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def rows(absent: bool) -> list[dict[str, Any]]:
    draws = np.random.default_rng(0)
    words = ["red", "green", "blue", "dark", "light"]
    return [
        {
            "image": None if absent and row % 7 == 0 else draws.integers(0, 256, (16, 16, 3), dtype=np.uint8),
            "text": " ".join(draws.choice(words, draws.integers(1, 9))),
            "audio": draws.standard_normal(draws.integers(500, 1900)).astype(np.float32),
            "label": int(draws.integers(3)),
            "split": "validation" if row >= 96 else "train",
        }
        for row in range(112)
    ]


def recipe(fusion: Any, absent: bool = False, **training: Any) -> dict[str, Any]:
    return {
        "table": rows(absent),
        "split": "split",
        "target": {"column": "label"},
        "modalities": MODALITIES,
        "fusion": fusion,
        "training": {"batch_size": 16, "epochs": 4, "gradient_clip": 1.0, "precision": "float32", **training},
    }


def trainer(
    fusion: Any = "concat", absent: bool = False, dtype: torch.dtype = torch.float32, **training: Any
) -> Trainer:
    experiment = open_experiment(resolve(mmreg.Recipe(**recipe(fusion, absent, **training))))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    data = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation)
    model = experiment.build_model().to(GPU)
    told: list[str] = []
    one = Trainer(experiment.plan, model, experiment.modalities, data, GPU, dtype, lambda step: None, tell=told.append)
    one.told = told  # type: ignore[attr-defined]
    return one


def trained(one: Trainer, record: Any) -> list[Tensor]:
    one.captured = CapturedStep(one.step, record, one.told.append)  # type: ignore[attr-defined]
    for _ in one.epochs():
        pass
    assert one.told == []  # type: ignore[attr-defined]
    return list(one.model.state_dict().values())


@pytest.mark.parametrize("fusion", ["concat", "product", "evidential", "cross_attention", "gmu"])
def test_recorded_steps_give_the_bits_that_steps_give(fusion: str) -> None:
    expected, found = trained(trainer(fusion), None), trained(trainer(fusion), CudaRecorder())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("absent", "training"),
    [
        (True, {}),
        (False, {"accumulate": 2}),
        (False, {"optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}}),
        (False, {"optimizer": {"name": "Muon"}}),
        (False, {"optimizer": {"name": "AdamW", "foreach": True}}),
    ],
    ids=["absent", "accumulate", "sgd", "muon", "foreach"],
)
def test_so_do_those_of_every_recipe(absent: bool, training: dict[str, Any]) -> None:
    expected = trained(trainer(absent=absent, **training), None)
    found = trained(trainer(absent=absent, **training), CudaRecorder())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_and_those_in_reduced_precision(dtype: torch.dtype) -> None:
    expected, found = trained(trainer(dtype=dtype), None), trained(trainer(dtype=dtype), CudaRecorder())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("fusion", ["concat", "product", "bottleneck", "gated"])
@pytest.mark.parametrize("absent", [False, True])
def test_no_step_waits_for_the_device(fusion: str, absent: bool) -> None:
    one = trainer(fusion, absent)
    one.model.train()
    groups = [[batch] for batch in one.rows.training_batches([np.arange(16), np.arange(16, 32)], None, GPU)]
    one.step(groups[0], 0, 16.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        one.step(groups[1], 1, 16.0)
        one.step(groups[1], 2, 16.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_waits_for_the_device_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that fails leaves nothing behind: neither in the weights nor on the device."""
    expected = trained(trainer(), None)
    one = trainer()
    encoder = type(one.model.encoder_of("image"))
    forward = encoder.forward

    def waiting(self: Any, signal: Any) -> Any:
        assert float(signal.values.sum()) < float("inf")
        return forward(self, signal)

    monkeypatch.setattr(encoder, "forward", waiting)
    for _ in one.epochs():
        pass
    (told,) = one.told  # type: ignore[attr-defined]
    assert told.startswith("steps are not recorded: ")
    for mine, other in zip(one.model.state_dict().values(), expected, strict=True):
        assert torch.equal(mine, other)
    torch.cuda.synchronize()


@pytest.mark.parametrize("lengths", [None, [7, 3, 5, 1]])
def test_a_recurrent_layer_in_bfloat16_keeps_gradients_that_float16_loses(lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True).to(GPU)
    values = torch.randn(4, 7, 6, device=GPU)
    given = None if lengths is None else torch.tensor(lengths, device=GPU)
    expected = recurrent_states(layer, values, given)
    with torch.autocast("cuda", torch.bfloat16):
        found = recurrent_states(layer, values, given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found[:, 0].float(), expected[:, 0], atol=0.03, rtol=0.03)
    (found[:, 0].float().sum() * 1e-9).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0, name


def test_values_that_do_not_fit_are_copied_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trainer()
    monkeypatch.setattr(TrainingRows, "keep_on", lambda self, device: False)
    found = trainer()
    for one in (expected, found):
        for _ in one.epochs():
            pass
    for own, other in zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-3, rtol=1e-2)  # sounds are padded to other lengths


def test_compiled_encoders_train_alike() -> None:
    plain, compiled = trainer(), trainer(compile=True)
    for one in (plain, compiled):
        for _ in one.epochs():
            pass
    assert len(compiled.told) == 1, "no more than that encoders are compiled"  # type: ignore[attr-defined]
    for mine, other in zip(plain.progress.history, compiled.progress.history, strict=True):
        assert mine.get("train", "loss") == pytest.approx(other.get("train", "loss"), rel=0.05)


@pytest.mark.parametrize("compile", [False, "auto", True])
def test_a_training_that_goes_on_gives_the_same_bits(compile: Any, tmp_path: Path) -> None:
    whole = recipe("product", deterministic=True, compile=compile)
    expected = mmreg.train(whole, tmp_path / "whole", device="cuda")
    part = recipe("product", deterministic=True, compile=compile)

    class Stop(mmreg.Callback):
        def on_epoch_end(self, run: Any, epoch: Any) -> None:
            if epoch.number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmreg.train(part, tmp_path / "part", device="cuda", callback=Stop())
    found = mmreg.train(part, tmp_path / "part", resume=True, device="cuda")
    for one, other in zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
