"""A step never makes the host wait for a device, whatever is fused and however; counted on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mmreg
from mmreg import convolution, layers, registry
from mmreg.contract.signals import Signal
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.model.seeding import Draws
from mmreg.recipe.resolve import resolve
from mmreg.training.loop import Trainer
from mmreg.training.rows import TrainingRows

CPU = torch.device("cpu")
WAITING = {"aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::unique", "aten::equal"}
MODALITIES: dict[str, Any] = {
    "image": {
        "size": 8,
        "augment": ["crop", "flip", "color", "trivial"],
        "encoder": {"name": "image_cnn", "channels": [4], "features": 8},
    },
    "text": {"encoder": {"name": "text_rnn", "embedding_size": 5, "hidden_size": 4, "features": 8}},
    "audio": {
        "sample_rate": 1000,
        "noise": 0.1,
        "time_shift": 0.1,
        "spec_augment": True,
        "encoder": {"name": "audio_cnn", "channels": [4], "features": 8},
    },
}


class Waits(TorchDispatchMode):
    """Lists the operations whose result the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        masks = name == "aten::index" and any(each is not None and each.dtype == torch.bool for each in args[1])
        if name in WAITING or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def rows() -> list[dict[str, Any]]:
    draws = np.random.default_rng(0)
    words = ["red", "green", "blue", "dark", "light"]
    return [
        {
            "image": draws.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            "text": None if row == 3 else " ".join(draws.choice(words, draws.integers(1, 9))),
            "audio": draws.standard_normal(draws.integers(300, 900)).astype(np.float32),
            "label": int(draws.integers(3)),
            "split": "validation" if row >= 16 else "train",
        }
        for row in range(20)
    ]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs as on an accelerator, where lengths are not in host memory."""

    def wait(signal: Signal) -> Any:
        raise AssertionError("the host waits for lengths")

    for module in (layers, convolution):
        monkeypatch.setattr(module, "on_host", lambda values: False)
    monkeypatch.setattr(Signal, "lengths_on_host", wait)


@pytest.mark.parametrize("fusion", registry.names("fusion"))
def test_no_step_waits(fusion: str) -> None:
    no_step_waits(fusion)


@pytest.mark.parametrize("balance", registry.names("balance"))
def test_no_balanced_step_waits(balance: str) -> None:
    no_step_waits("concat", balance)


def no_step_waits(fusion: str, balance: str | None = None) -> None:
    recipe = mmreg.Recipe(
        table=rows(),
        split="split",
        target={"column": "label"},
        modalities=MODALITIES,
        fusion=fusion,
        training={"batch_size": 8, "epochs": 1, "gradient_clip": 1.0, "balance": balance},
    )
    experiment = open_experiment(resolve(recipe))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    data = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation)
    data.put_on(CPU)
    model = experiment.build_model()
    trainer = Trainer(experiment.plan, model, experiment.modalities, data, CPU, torch.float32, lambda step: None)
    model.train()
    (batch, *_) = data.training_batches([np.arange(8)], None, CPU)
    weight, progress = torch.tensor(8.0), torch.tensor(0.5)
    trainer.step.gradients([batch], [Draws(0)], weight, progress)  # constants are made
    with Waits() as waits:
        trainer.step.gradients([batch], [Draws(0)], weight, progress)
    assert waits.found == []
