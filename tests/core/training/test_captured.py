"""Recorded steps: nothing of a step is in the recording but what every step of its shape shares."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mmreg
from mmreg import registry
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.layers import GLOBAL_DRAWS
from mmreg.recipe.resolve import resolve
from mmreg.training import captured
from mmreg.training.captured import CapturedStep
from mmreg.training.encode_once import encode_once
from mmreg.training.loop import Trainer
from mmreg.training.recorded_draws import WatchedDraws
from mmreg.training.rows import TrainingRows
from mmreg.training.step import Losses

CPU = torch.device("cpu")
ROWS = 44
MODALITIES: dict[str, Any] = {
    "image": {"size": 8, "encoder": {"name": "image_cnn", "channels": [4], "features": 6, "dropout": 0.5}},
    "text": {"encoder": {"name": "text_rnn", "embedding_size": 5, "hidden_size": 4, "num_layers": 1, "dropout": 0.3}},
}


class Again:
    """Records by keeping a function, and replays it by calling it: what it has from its step's host stays as it was."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.recorded = self.replayed = 0

    def __call__(
        self, function: Callable[[], Losses], generators: Sequence[torch.Generator]
    ) -> tuple[Losses, Callable[[], None]]:
        self.recorded += 1
        model, optimizer = self.trainer.model, self.trainer.optimizer
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        state = [{key: value.clone() for key, value in own.items()} for own in optimizer.state.values()]
        losses = function()
        model.load_state_dict(weights)
        for own, before in zip(optimizer.state.values(), state, strict=True):
            for key, value in before.items():
                own[key].copy_(value)

        def replay() -> None:
            self.replayed += 1
            again = function()
            losses.values.copy_(again.values)

        return losses, replay


def table(absent: Sequence[int] = ()) -> list[dict[str, Any]]:
    draws = np.random.default_rng(0)
    words = ["red", "green", "blue", "dark", "light"]
    return [
        {
            "image": None if row in absent else draws.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            "text": " ".join(draws.choice(words, draws.integers(1, 9))),
            "label": int(draws.integers(3)),
            "weight": float(draws.random()),
            "split": "validation" if row >= 40 else "train",
        }
        for row in range(ROWS)
    ]


def trainer(
    absent: Sequence[int] = (), freeze: dict[str, int] | None = None, copies: int | None = None, **training: Any
) -> Trainer:
    modalities = copy.deepcopy(MODALITIES)
    if copies is not None:  # the picture is encoded once
        modalities["image"]["encoder"]["freeze"] = True
        modalities["image"]["augmented_copies"] = copies
    for name, epochs in (freeze or {}).items():
        modalities[name]["encoder"]["freeze"] = {"until_epoch": epochs}
    recipe = mmreg.Recipe(
        table=table(absent),
        split="split",
        target={"column": "label", "weight": "weight"},
        modalities=modalities,
        fusion={"name": "concat" if "balance" in training else "evidential"},
        training={"batch_size": 8, "epochs": 4, "gradient_clip": 1.0, **training},
    )
    experiment = open_experiment(resolve(recipe))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    model = experiment.build_model()
    own = (experiment.plan, model, experiment.modalities, prepared, train)
    given = encode_once(*own, CPU, torch.float32, None)
    rows = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation, given=given)
    rows.put_on(CPU)
    return Trainer(experiment.plan, model, experiment.modalities, rows, CPU, torch.float32, lambda step: None)


def trained(one: Trainer, record: Any = None, told: list[str] | None = None, whole: bool = True) -> list[Tensor]:
    one.captured = CapturedStep(one.step, record, [].append if told is None else told.append)
    one.captured._whole = whole
    for _ in one.epochs():
        pass
    return list(one.model.state_dict().values())


@pytest.mark.parametrize(
    ("absent", "training"),
    [
        ((), {}),
        ((1, 5, 30), {}),
        ((), {"accumulate": 2}),
        ((), {"optimizer": {"name": "AdamW", "fused": True}}),
        ((), {"modality_dropout": 0.2}),
        ((1, 5, 30), {"copies": 0}),
        ((1, 5, 30), {"copies": 3}),
        *(((1, 5, 30), {"balance": name}) for name in registry.names("balance")),
    ],
    ids=[
        *("all there", "some absent", "accumulate", "fused", "modality dropout", "encoded once", "augmented copies"),
        *registry.names("balance"),
    ],
)
def test_recorded_steps_give_what_steps_give(absent: Sequence[int], training: dict[str, Any]) -> None:
    plain, recorded = trainer(absent, **training), trainer(absent, **training)
    again = Again(recorded)
    expected, found = trained(plain), trained(recorded, again)
    assert again.recorded >= 1
    assert again.replayed >= 3
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert plain.progress.history == recorded.progress.history


def test_steps_of_rows_of_any_number_of_values_are_recorded_where_shapes_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = [{**row, "image": [row["image"]] * (1 + (at % 8 > 5))} for at, row in enumerate(table())]
    monkeypatch.setattr(sys.modules[__name__], "table", lambda absent: lists)
    monkeypatch.setitem(MODALITIES["image"], "many", "attention")
    plain, recorded = trainer(epochs=12), trainer(epochs=12)
    again = Again(recorded)
    expected, found = trained(plain), trained(recorded, again)
    assert again.recorded >= 1
    assert again.replayed >= 1
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_they_are_those_of_a_training_that_knows_nothing_of_it() -> None:
    plain, recorded = trainer(), trainer()
    again = Again(recorded)
    found = trained(recorded, again)
    for _ in plain.epochs():
        pass
    for one, other in zip(found, plain.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)  # the learning rate is of float32


def test_steps_are_recorded_anew_where_a_balance_has_weighed_the_losses_anew() -> None:
    counts = []
    for balance in ("own_losses", "gradient_blending"):
        recorded = trainer(epochs=7, balance=balance)
        again = Again(recorded)
        trained(recorded, again)
        assert bool(recorded.model.blended) == (balance == "gradient_blending")
        counts.append(again.recorded)
    assert counts[1] > counts[0]


def test_what_an_epoch_changes_is_recorded_anew() -> None:
    plain, recorded = trainer(freeze={"image": 2}, epochs=5), trainer(freeze={"image": 2}, epochs=5)
    again = Again(recorded)
    expected, found = trained(plain), trained(recorded, again)
    assert again.recorded >= 2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_few_shapes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "MOST", 1)
    one = trainer((1, 5, 30), modality_dropout=0.3)
    again = Again(one)
    trained(one, again)
    assert again.recorded == 1


def test_a_component_that_draws_on_the_host_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    one, told = trainer(), []
    encoder = one.model.encoder_of("image")
    forward = encoder.forward

    def noisy(signal: Any) -> Any:
        random.random()
        return forward(signal)

    monkeypatch.setattr(encoder, "forward", noisy)
    again = Again(one)
    trained(one, again, told)
    assert again.recorded == 0
    assert told == ["steps are not recorded: a component draws random numbers on the host"]


def test_a_recording_that_gives_something_else_is_not_used() -> None:
    class Wrong(Again):
        def __call__(self, function: Any, generators: Any) -> Any:
            losses, replay = super().__call__(function, generators)

            def wrong() -> None:
                replay()
                with torch.no_grad():
                    for parameter in self.trainer.model.parameters():
                        parameter.mul_(1.01)

            return losses, wrong

    plain, mistaken, told = trainer(), trainer(), []
    expected, found = trained(plain), trained(mistaken, Wrong(mistaken), told)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    (text,) = told
    assert text.endswith("a component goes by something that changes from step to step on the host")


def test_what_cannot_be_recorded_runs_as_it_is() -> None:
    def refuse(function: Any, generators: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, refused, told = trainer(), trainer(), []
    expected, found = trained(plain), trained(refused, refuse, told)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    (text,) = told
    assert text.endswith("operation not permitted when stream is capturing")


def test_the_draws_of_one_batch_are_not_those_of_the_next_in_a_step() -> None:
    """A batch's last component is done when the next batch begins, which seeds the host's generator as well."""
    elsewhere = torch.device("meta")
    with GLOBAL_DRAWS, torch.random.fork_rng(devices=[]):
        first = WatchedDraws(1, elsewhere)
        first.reseed("text")
        second = WatchedDraws(2, elsewhere, first)
        second.reseed("text")
        torch.rand(1)
        assert (first.drew(), first.drew_on_host) == (set(), False)
        assert (second.drew(), second.drew_on_host) == ({"component text"}, True)
