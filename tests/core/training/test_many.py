"""Trainings on cells of any number of values: what holds of single values holds of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

import mmreg
from mmreg import Features, Signal, registry, runs
from mmreg.data.batches import Batches
from mmreg.data.prepared import fit_arrays
from mmreg.errors import DataError, RunError
from mmreg.experiment import build_model, open_experiment, prepare_all
from mmreg.model.inference import transform
from mmreg.model.seeding import Draws
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve
from mmreg.runs.fuse import fuse
from mmreg.studies.robustness.measures import evaluate_robustness
from mmreg.training import session
from mmreg.training.given import Given

MANY = ["mean", "max", "attention"]


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.register()
    registry.register("encoder", "watched", Watched)
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    Watched.sizes.clear()


class Watched(toys.Linear):
    """Counts what it is given at a time."""

    sizes: list[int] = []  # noqa: RUF012 (of all instances)

    def forward(self, signal: Signal) -> Features:
        self.sizes.append(len(signal))
        return super().forward(signal)


def rows(count: int = 120, most: int = 4, empty: bool = True) -> list[dict[str, Any]]:
    """Rows whose first column has up to so many vectors, the mean of which tells one bit of a class of four."""
    random = np.random.default_rng(0)
    table = toys.rows(count)
    for row in table:
        values = random.integers(0 if empty else 1, most + 1)
        row["a"] = [(np.array(row["a"]) + random.normal(0, 0.3, 4)).tolist() for _ in range(values)]
    return table


def inputs(many: str | None = "mean", encoder: Any = "linear", **options: Any) -> dict[str, Any]:
    own = {} if many is None else {"many": many}
    return {"a": {"type": "numbers", "encoder": encoder, **own, **options}, "b": {"type": "numbers"}}


def train(folder: Path, many: str | None = "mean", table: Any = None, **changes: Any) -> mmreg.Run:
    return toys.train(folder, table or rows(), **{"modalities": inputs(many), **changes})


def permuted(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "a": row["a"][::-1]} for row in table]


def scores(run: mmreg.Run, table: Any) -> np.ndarray[Any, Any]:
    names = [f"probability_{label}" for label in "wxyz"]
    return np.array([[row[name] for name in names] for row in run.predict(table)])


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("fusion", ["concat", "product"])
def test_it_learns_and_a_loaded_run_predicts_the_same(tmp_path: Path, many: str, fusion: str) -> None:
    run = train(tmp_path / "run", many, rows(240), fusion=fusion, overrides=["training.epochs=12"])
    assert run.report["test"]["metrics"]["accuracy"] > 0.8
    loaded = mmreg.load(tmp_path / "run")
    table = rows(240)[192:]
    found = loaded.predict(table)
    assert loaded.evaluate(table)["metrics"]["accuracy"] == run.report["test"]["metrics"]["accuracy"]
    assert [row["modalities"] for row in found] == ["a+b" if row["a"] else "b" for row in table]
    np.testing.assert_allclose(scores(loaded, permuted(table)), scores(loaded, table), atol=1e-6)
    one_by_one = np.concatenate([scores(loaded, [row]) for row in table])
    np.testing.assert_allclose(one_by_one, scores(loaded, table), atol=1e-6)


@pytest.mark.parametrize("ordered", [False, True])
def test_tokens_go_to_an_operator_that_takes_them(tmp_path: Path, ordered: bool) -> None:
    own = inputs("tokens", ordered=ordered)
    run = train(
        tmp_path / "run", table=rows(240), modalities=own, fusion="transformer", overrides=["training.epochs=8"]
    )
    assert run.report["test"]["metrics"]["accuracy"] > 0.8
    table = rows(240)[192:]
    loaded = mmreg.load(tmp_path / "run")
    assert loaded.evaluate(table)["metrics"]["accuracy"] == run.report["test"]["metrics"]["accuracy"]
    difference = np.abs(scores(loaded, permuted(table)) - scores(loaded, table)).max()
    assert bool(difference > 1e-4) is ordered


def test_what_order_tells_is_learned_only_where_it_counts(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = []
    for number in range(300):
        pair, label = [[2.0] * 4, [-2.0] * 4], int(random.integers(2))
        noisy = [(np.array(value) + random.normal(0, 0.1, 4)).tolist() for value in pair]
        split = "train" if number < 200 else "validation" if number < 250 else "test"
        table.append(
            {"a": noisy[:: 1 if label else -1], "label": "no" if label else "yes", "split": split, "id": number}
        )
    found = {}
    for ordered in (False, True):
        only = {"a": {**inputs("attention")["a"], "ordered": ordered}}
        run = toys.train(tmp_path / str(ordered), table, modalities=only, fusion=None, overrides=["training.epochs=15"])
        found[ordered] = run.report["test"]["metrics"]["accuracy"]
    assert found[True] > 0.95
    assert found[False] < 0.75


@pytest.mark.parametrize("many", ["mean", "max"])
def test_with_one_value_a_row_it_is_the_model_without_many(tmp_path: Path, many: str) -> None:
    single = toys.rows(120, absent=0.2)
    listed = [{**row, "a": [] if row["a"] is None else [row["a"]]} for row in single]
    plain = train(tmp_path / "plain", None, single)
    own = train(tmp_path / "many", many, listed)
    toys.assert_same(plain.folder, own.folder)
    assert plain.report["test"] == own.report["test"]


def test_the_mean_is_that_of_single_encodings(tmp_path: Path) -> None:
    """In float64, by hand: each value through the encoder alone."""
    table = rows(60)
    plan = resolve(Recipe(toys.recipe(table, modalities=inputs())))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, None)
    fit_arrays(prepared, experiment.modalities, experiment.splits["train"])
    seen = [value for row in table if row["split"] == "train" for value in row["a"]]
    numbers = experiment.modalities["a"]
    assert isinstance(numbers, toys.Numbers)
    assert numbers.mean == pytest.approx(np.mean(np.array(seen, np.float32)))  # of every value of the training rows
    model = build_model(plan.recipe, experiment.specs, experiment.task).double().eval()
    encoder = model.encoder_of("a")
    with torch.no_grad():
        for tensor in encoder.buffers():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    (batch,) = Batches(prepared, np.arange(60), batch_size=60)
    doubled = {
        name: Signal(signal.values.double()) for name, signal in transform(batch, experiment.modalities).signals.items()
    }
    kept: list[Features] = []
    node = model.root
    assert node is not None
    node.fusion.register_forward_pre_hook(lambda module, arguments: kept.append(arguments[0]["a"]))  # type: ignore[union-attr]
    model(replace(batch, signals=doubled))
    (found,) = kept
    assert found.pooled is not None
    for row, vector in zip(table, found.pooled, strict=True):
        expected = torch.zeros(8, dtype=torch.float64)
        for value in row["a"]:
            alone = torch.tensor(np.array(value, np.float32) - np.float32(numbers.mean)).double()
            expected += encoder(Signal(alone[None])).pooled[0] / len(row["a"])
        torch.testing.assert_close(vector, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("many", [*MANY, "tokens"])
def test_the_gradient_reaches_every_parameter_and_is_zero_where_no_row_has_values(many: str) -> None:
    ordered = many in ("attention", "tokens")
    changes = {"modalities": inputs(many, ordered=ordered), "fusion": "transformer" if many == "tokens" else "concat"}
    plan = resolve(Recipe(toys.recipe(rows(60), **changes)))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, None)
    model = experiment.build_model().train()
    for drop in (None, {"a": np.ones(60, bool)}):
        (batch,) = Batches(prepared, np.arange(60), batch_size=60, drop=drop)
        model.zero_grad()
        model(transform(batch, experiment.modalities, Draws(0)), Draws(0)).scores.square().sum().backward()
        own = [*model.encoder_of("a").named_parameters(), *model.pooling.named_parameters()]
        for name, parameter in own:
            assert parameter.grad is not None, name
            if name != "layer.bias":  # which the norm takes away
                assert bool((parameter.grad != 0).any()) is (drop is None), name


def test_norms_in_training_see_the_values_and_no_padding(tmp_path: Path) -> None:
    table = rows(60)
    expected = sum(len(row["a"]) for row in table if row["split"] == "train")
    train(tmp_path / "run", table=table, modalities=inputs(encoder="watched"), overrides=["training.epochs=1"])
    assert sum(Watched.sizes[:3]) == expected  # of the 36 training rows in batches of 16


def test_pooling_is_keyed_by_the_seed_and_the_input_and_named_by_it(tmp_path: Path) -> None:
    def weights(**changes: Any) -> dict[str, Any]:
        plan = resolve(Recipe(toys.recipe(rows(60), **changes)))
        return dict(open_experiment(plan).build_model().pooling.named_parameters())

    both = {**inputs("attention"), "c": {"type": "numbers", "column": "a", "many": "attention"}}
    one, two = weights(modalities=inputs("attention")), weights(modalities=both)
    assert set(one) == {f"a.attention.{name}" for name in ("project.weight", "project.bias", "score.weight")}
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(two["a.attention.project.weight"], two["c.attention.project.weight"])
    run = train(tmp_path / "run", "attention", rows(60))
    assert "pooling.a.attention.score.weight" in runs.read_weights(run.folder / runs.WEIGHTS)


FROZEN = {"name": "linear", "freeze": True}


@pytest.mark.parametrize("many", MANY)
def test_features_of_values_are_encoded_once(tmp_path: Path, many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows()
    table[3]["a"] = [*table[5]["a"], *table[5]["a"]]
    changes: dict[str, Any] = {"modalities": inputs(many, FROZEN), "overrides": ["training.modality_dropout=0.2"]}
    once = train(tmp_path / "once", table=table, **changes)
    count = sum(len(row["a"]) for row in table)
    assert f"a: encoded once, {count} values x 8 features" in " ".join(once.report["notes"])
    monkeypatch.setattr(session, "encode_once", lambda *arguments, **options: Given())
    always = train(tmp_path / "always", table=table, **changes)
    first, second = once.model.state_dict(), always.model.state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=1e-5, msg=name)
    assert once.report["test"]["metrics"]["accuracy"] == always.report["test"]["metrics"]["accuracy"]


def test_every_value_of_a_row_draws_an_augmented_copy_of_its_own(tmp_path: Path) -> None:
    own = inputs("mean", FROZEN, noise=0.5, augmented_copies=3)
    run = train(tmp_path / "run", modalities=own)
    assert "(and 3 augmented copies)" in " ".join(run.report["notes"])
    assert run.report["validation"]["metrics"]["accuracy"] > 0.3
    missing = train(tmp_path / "missing", modalities=own, overrides=["training.missing_rate=0.3"])
    assert "training.missing_rate takes a from" in " ".join(missing.report["notes"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.modality_dropout=0.3", "training.accumulate=2"],
        ["training.missing_rate=0.3", "training.average=0.9"],
        ["training.balance=ogm_ge", "training.class_balance=0.5"],
    ],
    ids=["dropped", "missing", "balanced"],
)
def test_a_training_that_is_stopped_goes_on_to_the_same_bits(tmp_path: Path, overrides: list[str]) -> None:
    settings: dict[str, Any] = {
        "modalities": inputs("attention", {"name": "linear", "dropout": 0.2}, noise=0.1, ordered=True),
        "overrides": overrides,
    }
    train(tmp_path / "whole", **settings)
    toys.stopped_at(tmp_path / "stopped", 4, table=rows(), **settings)
    train(tmp_path / "stopped", resume=True, **settings)
    toys.assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_with_another_pooling_is_not_gone_on_with(tmp_path: Path) -> None:
    toys.stopped_at(tmp_path / "run", 2, table=rows(), modalities=inputs("mean"))
    with pytest.raises(RunError, match=r"modalities\.a\.many: was 'mean', is 'max'"):
        train(tmp_path / "run", "max", resume=True)


def test_fused_runs_have_the_pooling_of_each(tmp_path: Path) -> None:
    table = rows()
    parts = [{"a": inputs(many)["a"]} for many in ("attention", "max")]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, own in zip(folders, parts, strict=True):
        toys.train(folder, table, modalities=own, fusion=None)
    fused = fuse(folders, "mean", tmp_path / "both", device="cpu")
    each = [mmreg.load(folder) for folder in folders]
    expected = np.mean([scores(run, table) for run in each], axis=0)
    np.testing.assert_allclose(scores(mmreg.load(fused.folder), table), expected, atol=1e-6)
    assert fused.predict(table[:1])[0]["modalities"] == ("a" if table[0]["a"] else "")


def test_an_encoder_of_single_values_starts_one_of_many_and_back(tmp_path: Path) -> None:
    single = toys.train(tmp_path / "single", modalities={"a": {"type": "numbers"}}, fusion=None)
    starts = {"from": str(single.folder), "freeze": True}
    several = train(tmp_path / "several", modalities=inputs("attention", starts))
    for one, other in zip(
        single.model.encoder_of("a").parameters(), several.model.encoder_of("a").parameters(), strict=True
    ):
        assert torch.equal(one, other)
    back = {"a": {"type": "numbers", "encoder": {"from": str(several.folder), "input": "a"}}}
    again = toys.train(tmp_path / "back", modalities=back, fusion=None)
    assert not len(list(again.model.pooling.parameters()))


def test_robustness_is_measured(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    robustness = evaluate_robustness(run, corruptions=["a:noise=0,4"], rates=[0.5])
    clean, noisy = (point["metrics"]["accuracy"] for point in robustness["corruptions"][0]["strengths"])
    assert noisy <= clean
    again = evaluate_robustness(run, corruptions=["a:noise=0,4"], rates=[0.5], batch_size=3)
    assert again["corruptions"][0]["strengths"] == robustness["corruptions"][0]["strengths"]


def test_a_row_of_very_many_values_is_encoded_in_parts_in_use(tmp_path: Path) -> None:
    run = train(tmp_path / "run", modalities=inputs(encoder="watched"))
    table = rows(6)
    table[2]["a"] = [[1.0, 2.0, 3.0, 4.0]] * 1000
    Watched.sizes.clear()
    run.predict(table)
    count = sum(len(row["a"]) for row in table)
    assert sum(Watched.sizes) == count
    assert max(Watched.sizes) == 256
    table[2]["a"] = table[2]["a"][:1]
    short = run.predict(table[2:3])
    table[2]["a"] *= 1000
    assert run.predict(table)[2]["probability"] == pytest.approx(short[0]["probability"], abs=1e-6)


def test_bad_values_are_told_with_their_place_and_left_out(tmp_path: Path) -> None:
    table = rows()
    for number in (1, 100):
        table[number]["a"] = [[1.0] * 4, [1.0] * 3]
    with pytest.raises(DataError, match=r"row 2, column a: value 2 of 2, .*: it has the shape \(3,\), not \(4,\)"):
        train(tmp_path / "error", table=table)
    run = train(tmp_path / "absent", table=table, on_bad="absent")
    assert run.report["bad_cells"]["a"]["count"] == 2
    skipped = train(tmp_path / "skip", table=table, on_bad="skip")
    assert skipped.report["test"]["rows"] == run.report["test"]["rows"] - 1
