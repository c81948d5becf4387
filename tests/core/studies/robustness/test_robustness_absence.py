"""Absence through the whole road, for every installed operator: an absent modality has no influence at all."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sequences
import torch
import toys
from torch import Tensor

import mmreg
from mmreg import registry
from mmreg.contract.spec import Spec
from mmreg.data.prepared import Prepared
from mmreg.model import model as model_module
from mmreg.model.inference import Predicted
from mmreg.recipe.training_form import Training
from mmreg.training.dropout import dropped_modalities

OPERATORS = sorted({entry.spec.name for entry in registry.specs("fusion")})
ROWS = 60
scatter = model_module._scatter


class Listening(mmreg.Callback):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()
    sequences.register()


def check_takes_two(name: str) -> None:
    """Skip an operator that does not fuse two modalities."""
    cls: Any = registry.load(registry.find("fusion", name))
    if not cls.min_inputs <= 2 <= (cls.max_inputs or 2):
        pytest.skip(f"{name} takes {cls.min_inputs} to {cls.max_inputs} modalities")


def train(folder: Path, table: list[dict[str, Any]], **changes: Any) -> tuple[mmreg.Run, list[str]]:
    listening = Listening()
    overrides = ["training.epochs=1", "training.modality_dropout=0.2"]
    run = mmreg.train(
        toys.recipe(table, **changes), folder, device="cpu", overrides=overrides, callback=listening, overwrite=True
    )
    return run, listening.messages


def filled(values: Tensor, rows: Tensor, size: int, filler: float) -> Tensor:
    """As `_scatter`, but with something else than zeros where a row has nothing."""
    if not values.is_floating_point():
        return scatter(values, rows, size)
    return values.new_full((size, *values.shape[1:]), filler).index_copy(0, rows, values)


def assert_same(one: Predicted, two: Predicted) -> None:
    assert torch.equal(one.scores, two.scores)
    assert one.scores.isfinite().all()
    assert all(torch.equal(one.extras[name], two.extras[name]) for name in one.extras)
    for name, part in one.parts.items():
        assert torch.equal(part.scores[part.present], two.parts[name].scores[part.present])


def with_garbage(prepared: dict[str, Prepared], drop: dict[str, Any], rows: Any, value: float) -> dict[str, Prepared]:
    """The same values, but in the dropped rows something else."""
    changed = {}
    for name, part in prepared.items():
        values = np.stack(list(part.arrays(np.arange(len(part)))))  # every row has a value of its own
        values[part.index[rows[drop[name]]]] = value
        changed[name] = Prepared(name=name, stored=part.stored, values=values, offsets=part.offsets, index=part.index)
    return changed


@pytest.mark.parametrize("name", OPERATORS)
def test_an_absent_modality_has_no_influence_and_nothing_gives_the_prior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    check_takes_two(name)
    table = toys.rows(ROWS, absent=0.3)
    run, messages = train(tmp_path / "run", table, fusion=name)
    weights = {key: value.clone() for key, value in run.model.state_dict().items()}
    expected = run.predict_rows(**prepared_rows(run, table))

    # In prediction: whatever the table holds in the place of what is absent.
    complete = prepared_rows(run, toys.rows(ROWS))
    drop = {key: np.array([row[key] is None for row in table]) for key in "ab"}
    for value in (0.0, float("nan"), float("inf"), 1e30):
        prepared = with_garbage(complete["prepared"], drop, complete["rows"], value)
        assert_same(expected, run.predict_rows(prepared, complete["rows"], drop=drop))

    # Rows that lack everything get the training prior, and training says so.
    empty = ~expected.present
    assert (empty.numpy() == (drop["a"] & drop["b"])).all()
    assert 0 < empty.sum() < ROWS
    assert (expected.scores[empty] == run.model.prior).all()
    targets = np.array([row["label"] for row in table[: int(0.6 * ROWS)]])
    prior = torch.tensor([float((targets == label).mean()) for label in "wxyz"])
    torch.testing.assert_close(run.model.prior.exp(), prior)
    count = int(empty[: int(0.6 * ROWS)].sum())
    assert f"{count} train rows have no modality at all; they get the training prior" in messages

    # In the model: whatever stands where a row has no features; so in training, too.
    monkeypatch.setattr(model_module, "_scatter", functools.partial(filled, filler=float("nan")))
    assert_same(expected, run.predict_rows(**prepared_rows(run, table)))
    monkeypatch.setattr(model_module, "_scatter", functools.partial(filled, filler=1e3))
    again, _ = train(tmp_path / "again", table, fusion=name)
    for key, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, weights[key]), key


def prepared_rows(run: mmreg.Run, table: list[dict[str, Any]]) -> dict[str, Any]:
    known = run.known_rows(table)
    return {"prepared": dict(known.prepared), "rows": known.rows}


TOKEN_OPERATORS = [
    name for name in OPERATORS if getattr(registry.load(registry.find("fusion", name)), "takes", "") == "tokens"
]


@pytest.mark.parametrize("name", TOKEN_OPERATORS)
def test_absent_tokens_have_no_influence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    check_takes_two(name)
    table = sequences.rows(toys.rows(ROWS, absent=0.3))
    inputs = {key: {"type": "steps", "encoder": "each_step"} for key in "ab"}
    run, _ = train(tmp_path / "run", table, fusion=name, modalities=inputs)
    expected = run.predict_rows(**prepared_rows(run, table))
    complete = prepared_rows(run, sequences.rows(toys.rows(ROWS)))
    drop = {key: np.array([row[key] is None for row in table]) for key in "ab"}
    assert_same(expected, run.predict_rows(**complete, drop=drop))
    assert (expected.scores[~expected.present] == run.model.prior).all()
    monkeypatch.setattr(model_module, "_scatter", functools.partial(filled, filler=float("nan")))
    assert_same(expected, run.predict_rows(**prepared_rows(run, table)))


@pytest.mark.parametrize("fusion", ["concat", "transformer", "weighted"])
def test_a_whole_split_without_a_modality_is_trained_on(tmp_path: Path, fusion: str) -> None:
    table = [{**row, "b": None} if row["split"] == "validation" else row for row in toys.rows(ROWS)]
    run, _ = train(tmp_path / "run", table, fusion=fusion)
    assert run.report["validation"]["rows"] == 12
    figures = run.evaluate(split="validation")["metrics"]
    assert figures["accuracy"] == run.report["validation"]["metrics"]["accuracy"]


def presence(present: dict[str, list[bool]]) -> dict[str, Prepared]:
    """Modalities of which only the presence matters."""
    found = {}
    for name, there in present.items():
        index = np.where(there, 0, -1).astype(np.int64)
        values = np.zeros((1, 1), np.float32)
        found[name] = Prepared(name=name, stored=Spec("C", (1,)), values=values, offsets=None, index=index)
    return found


def dropped(prepared: dict[str, Prepared], share: Any, epoch: int = 1, seed: int = 0) -> dict[str, Any]:
    rows = np.arange(len(next(iter(prepared.values()))))
    found = dropped_modalities(prepared, rows, Training(modality_dropout=share, seed=seed), epoch)
    assert found is not None
    return found


def test_modality_dropout_never_drops_all_of_a_row() -> None:
    random = np.random.default_rng(0)
    present = {name: (random.random(5000) < 0.6).tolist() for name in "abc"}
    masks = dropped(presence(present), 0.9)
    had = np.stack([present[name] for name in "abc"])
    lost = np.stack([masks[name] for name in "abc"])
    assert (lost <= had).all()
    assert ((had & ~lost).any(0) == had.any(0)).all()
    assert lost.any(0).mean() > 0.5


def test_modality_dropout_drops_the_shares_that_were_asked_for() -> None:
    prepared = presence({name: [True] * 20_000 for name in "ab"})
    masks = dropped(prepared, 0.4)
    for name in "ab":  # where both would be lost, one of them stays, each as often
        assert masks[name].mean() == pytest.approx(0.4 - 0.4**2 / 2, abs=0.015)
    masks = dropped(prepared, {"a": 0.5})
    assert masks["a"].mean() == pytest.approx(0.5, abs=0.015)
    assert not masks["b"].any()
    masks = dropped(prepared, {"a": 0.2, "b": 0.6})
    assert masks["a"].mean() == pytest.approx(0.2 - 0.12 / 2, abs=0.015)
    assert masks["b"].mean() == pytest.approx(0.6 - 0.12 / 2, abs=0.015)


def test_modality_dropout_is_keyed_by_seed_and_epoch() -> None:
    prepared = presence({name: [True] * 500 for name in "ab"})
    first = dropped(prepared, 0.3)
    assert all((first[name] == mask).all() for name, mask in dropped(prepared, 0.3).items())
    for other in (dropped(prepared, 0.3, epoch=2), dropped(prepared, 0.3, seed=1)):
        assert any((first[name] != mask).any() for name, mask in other.items())


def test_without_modality_dropout_nothing_is_dropped() -> None:
    prepared = presence({"a": [True] * 9})
    assert dropped_modalities(prepared, np.arange(9), Training(modality_dropout=0), 1) is None
    assert not dropped(prepared, 0.9)["a"].any()
