"""What a frozen encoder gives is computed once before the first epoch, and training with it gives the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import toys
from small import make_folder
from torch import nn

import mmreg
from mmreg import Features, Signal, Spec, registry, runs
from mmreg.data.cache import META, cache_dir
from mmreg.data.prepared import fit_arrays
from mmreg.data.upkeep import inventory
from mmreg.errors import RecipeError, TrainingError
from mmreg.experiment import open_experiment, prepare_all
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.training import session
from mmreg.training.encode_once import encode_once
from mmreg.training.given import Given
from mmreg.training.rows import TrainingRows

CPU = torch.device("cpu")
FROZEN = [f"modalities.{name}.encoder.freeze=true" for name in ("image", "title", "audio")]

SGD = "training.optimizer={name: SGD, lr: 0.1}"
"""Others divide by the size of gradients, and so make much of the rounding of those that are nearly zero."""


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.register()
    registry.register("encoder", "costly", Costly)
    registry.register("encoder", "crowded", Crowded)
    registry.register("encoder", "broken", Broken)
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    toys.Counting.rows.clear()


@contextmanager
def in_every_step() -> Iterator[None]:
    """Frozen encoders compute in each step, as if nothing could be encoded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "encode_once", lambda *arguments, **options: Given())
        yield


class Costly(toys.Linear):
    """Adds a loss of its own."""

    def forward(self, signal: Signal) -> Features:
        pooled = super().forward(signal).pooled
        assert pooled is not None
        return Features(pooled=pooled, losses={"size": pooled.square().mean()})


class Crowded(toys.Linear):
    """Normalises by the batch, in use as well."""

    def __init__(self, spec: Spec, *, features: int = 8) -> None:
        super().__init__(spec, features=features)
        self.norm = nn.BatchNorm1d(features, track_running_stats=False)


class Broken(toys.Linear):
    """Gives no finite numbers for some values."""

    def forward(self, signal: Signal) -> Features:
        pooled = super().forward(signal).pooled
        assert pooled is not None
        return Features(pooled=torch.where(signal.values[:, :1] > 3, torch.nan, pooled))


def figures(run: mmreg.Run) -> list[list[float]]:
    """All that a training measured, epoch by epoch."""
    with (run.folder / runs.METRICS).open() as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


def predictions(run: mmreg.Run) -> list[list[float]]:
    written = runs.read_predictions(run.folder, "test")
    assert written is not None
    return [column.to_pylist() for column in written.columns if column.type == "double"]


def assert_equal(one: mmreg.Run, other: mmreg.Run) -> None:
    """Two trainings gave the same figures, weights and predictions, but for rounding."""
    np.testing.assert_allclose(figures(one), figures(other), rtol=0, atol=1e-6)
    np.testing.assert_allclose(predictions(one), predictions(other), rtol=0, atol=1e-6)
    weights = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-6, msg=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return make_folder(tmp_path / "data")


def train(folder: Path, name: str, overrides: list[str], **options: Any) -> mmreg.Run:
    recipe = read_recipe(folder / "recipe.yaml", ["training.deterministic=true", *overrides])
    return mmreg.train(recipe, folder / name, device="cpu", **options)


@pytest.mark.parametrize(
    "overrides",
    [
        FROZEN,
        [*FROZEN, "fusion=concat", "modalities.image.encoder.freeze=false"],
        [*FROZEN, "fusion=transformer", SGD],
        [*FROZEN, "fusion=bottleneck", SGD, "modalities.audio.store=encoded"],
        [*FROZEN, "fusion=concat", "training.modality_dropout=0.3", "training.average=0.9"],
        [*FROZEN, "fusion=concat", "training.bucket=true", "training.accumulate=2"],
    ],
    ids=["pooled", "one trained", "tokens", "files kept", "dropped", "buckets"],
)
def test_figures_weights_and_predictions_are_those_of_encoding_in_each_step(folder: Path, overrides: list[str]) -> None:
    table = (folder / "table.csv").read_text().splitlines()
    table[5] = table[5].replace("images/4.png", "")
    table[9] = table[9].replace("sounds/8.wav", "")
    (folder / "table.csv").write_text("\n".join(table))
    once = train(folder, "once", overrides)
    with in_every_step():
        always = train(folder, "always", overrides)
    assert_equal(once, always)
    told = [note for note in once.report["notes"] if "encoded once" in note]
    assert len(told) == (2 if "modalities.image.encoder.freeze=false" in overrides else 3)
    assert not [note for note in always.report["notes"] if "encoded once" in note]
    again = mmreg.load(folder / "once").evaluate(split="test")["metrics"]
    assert again["accuracy"] == once.report["test"]["metrics"]["accuracy"]


def test_in_bfloat16_features_are_kept_in_it(folder: Path) -> None:
    overrides = [*FROZEN, "fusion=transformer", "training.precision=bfloat16"]
    once = train(folder, "once", overrides)
    with in_every_step():
        always = train(folder, "always", overrides)
    np.testing.assert_allclose(figures(once), figures(always), rtol=0, atol=0.01)  # whose rounding is one of 0.4 %
    kept = [
        json.loads((entry.path / META).read_text()) for entry in inventory(cache_dir()) if entry.store == "features"
    ]
    assert {dtype for meta in kept for dtype in meta["dtypes"].values()} == {"bfloat16"}
    assert {spec["dtype"] for meta in kept for spec in meta["stored"].values()} == {"int16"}


@pytest.mark.parametrize("modality", ["tabular", "vector", "series"])
def test_numbers_and_facts_are_encoded_once_as_well(tmp_path: Path, modality: str) -> None:
    rng = np.random.default_rng(0)
    table = [
        {"a": number, "b": "xyz"[n % 3], "list": rng.normal(size=4).tolist(), "label": "no" if number < 0 else "yes"}
        for n, number in enumerate(rng.normal(size=40).tolist())
    ]
    reads = {"columns": ["a", "b"]} if modality == "tabular" else {"column": "list"}
    encoder = {"tabular": "tabular_mlp", "vector": "mlp", "series": "series_cnn"}[modality]
    recipe = {
        "table": table,
        "target": {"column": "label", "task": "classification"},
        "modalities": {"facts": {"type": modality, **reads, "encoder": {"name": encoder, "freeze": True}}},
        "training": {"epochs": 2, "batch_size": 16, "deterministic": True},
    }
    once = mmreg.train(recipe, tmp_path / "once", device="cpu")
    assert [note for note in once.report["notes"] if note.startswith("facts: encoded once, ")]
    with in_every_step():
        always = mmreg.train(recipe, tmp_path / "always", device="cpu")
    assert_equal(once, always)


def inputs(**encoders: Any) -> dict[str, Any]:
    return {name: {"type": "numbers", "encoder": encoders.get(name, "linear")} for name in "ab"}


def frozen(**changes: Any) -> dict[str, Any]:
    return inputs(a={"name": "counting", "freeze": True, **changes})


def test_no_step_and_no_measuring_runs_the_frozen_encoder(tmp_path: Path) -> None:
    seen: list[int] = []

    class Following(mmreg.Callback):
        def on_start(self, run: Any, facts: Mapping[str, Any]) -> None:
            seen.append(sum(toys.Counting.rows))

        def on_end(self, run: Any, report: Mapping[str, Any]) -> None:
            seen.append(sum(toys.Counting.rows))

    run = toys.train(tmp_path / "run", modalities=frozen(), callback=Following())
    assert seen[0] == seen[1] == 200 + 16 + 8  # all rows, after a look at a batch and at half of it
    assert run.report["notes"] == ["a: encoded once, 200 values x 8 features, 6.4 kB"]
    assert all(parameter.requires_grad for parameter in run.model.parameters())
    run.predict(toys.rows(4))
    assert sum(toys.Counting.rows) == seen[1] + 4


def test_rows_without_values_and_a_shared_encoder_give_the_same(tmp_path: Path) -> None:
    table = toys.rows(absent=0.2)
    settings: dict[str, Any] = {"modalities": {**frozen(), "b": {"type": "numbers", "encoder": {"share": "a"}}}}
    once = toys.train(tmp_path / "once", table, **settings)
    assert len(once.report["notes"]) >= 2
    with in_every_step():
        assert_equal(once, toys.train(tmp_path / "always", table, **settings))


def test_an_input_that_shares_a_frozen_encoder_may_augment_by_itself(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "modalities": {**frozen(), "b": {"type": "numbers", "noise": 0.1, "encoder": {"share": "a"}}}
    }
    once = toys.train(tmp_path / "once", **settings)
    assert once.report["notes"] == [
        "a: encoded once, 200 values x 8 features, 6.4 kB",
        "b: its frozen encoder computes in every step, as numbers augments; to encode once, set noise: 0.0, or "
        "augmented_copies: 4",
    ]
    with in_every_step():
        assert_equal(once, toys.train(tmp_path / "always", **settings))


def test_other_recipes_find_the_features_again_and_other_weights_or_values_do_not(tmp_path: Path) -> None:
    def count(name: str, **settings: Any) -> int:
        toys.Counting.rows.clear()
        toys.train(tmp_path / name, **{"modalities": frozen(), **settings})
        return sum(toys.Counting.rows)

    assert count("first") == 224
    assert count("again") == 0
    assert count("other", fusion="gated", overrides=["training.optimizer=SGD", "training.batch_size=8"]) == 0
    named = {"c": {**frozen()["a"], "column": "a"}}
    assert count("named", modalities=named, fusion=None) == 224  # whose weights are keyed to its name
    assert count("seed", overrides=["training.seed=1"]) == 224
    assert count("options", modalities=frozen(features=4)) == 224
    assert count("precision", overrides=["training.precision=bfloat16"]) == 224
    assert count("values", table=toys.rows(seed=1)) == 224
    assert count("last") == 0
    kept = [entry for entry in inventory(cache_dir()) if entry.store == "features"]
    assert {entry.modality for entry in kept} == {"Counting"}
    assert {entry.values for entry in kept} == {200}


def test_a_killed_encoding_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg.training.encoding.WINDOW", 2)

    class Killed(mmreg.Callback):
        def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
            if what == "preparing features of a" and done >= 64:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "run", modalities=frozen(), callback=Killed())
    assert [entry.state for entry in inventory(cache_dir())].count("unfinished") == 1
    toys.Counting.rows.clear()
    run = toys.train(tmp_path / "run", modalities=frozen(), overwrite=True)
    assert sum(toys.Counting.rows) == 24 + 200 - 64
    assert [entry.state for entry in inventory(cache_dir())].count("unfinished") == 0
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "other"))
    whole = toys.train(tmp_path / "whole", modalities=frozen())
    toys.assert_same(run.folder, whole.folder)


def test_damaged_features_are_encoded_anew_in_the_midst_of_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = toys.train(tmp_path / "first", modalities=frozen())

    class Damaging(mmreg.Callback):
        def on_start(self, run: Any, facts: Mapping[str, Any]) -> None:
            (entry,) = (each for each in inventory(cache_dir()) if each.store == "features")
            with (entry.path / "values.0.bin").open("r+b") as file:
                file.seek(1000)
                file.write(b"\xff\xff")

    run = toys.train(tmp_path / "run", modalities=frozen(), callback=Damaging())
    assert "the values of a, encoded, in the cache" in caplog.text
    toys.assert_same(run.folder, expected.folder)


@pytest.mark.parametrize("copies", [0, 3])
def test_a_training_that_goes_on_gives_what_one_in_a_piece_gives(tmp_path: Path, copies: int) -> None:
    modalities = frozen()
    modalities["a"] |= {"augmented_copies": copies, "noise": 0.5 if copies else 0.0}
    whole = toys.train(tmp_path / "whole", modalities=modalities)
    toys.stopped_at(tmp_path / "run", 11, modalities=modalities)
    toys.Counting.rows.clear()
    resumed = toys.train(tmp_path / "run", modalities=modalities, resume=True)
    assert not toys.Counting.rows
    toys.assert_same(resumed.folder, whole.folder)


def test_a_checkpoint_holds_the_same_with_and_without(tmp_path: Path) -> None:
    toys.stopped_at(tmp_path / "once", 11, modalities=frozen())
    with in_every_step():
        toys.stopped_at(tmp_path / "always", 11, modalities=frozen())
        resumed = toys.train(tmp_path / "once", modalities=frozen(), resume=True)
    expected = toys.train(tmp_path / "always", modalities=frozen(), resume=True)
    assert_equal(resumed, expected)


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        ("costly", "its encoder adds losses of its own"),
        ("crowded", "what its encoder gives for a row depends on the rows beside it, or on chance"),
    ],
)
def test_an_encoder_whose_features_are_not_of_the_row_alone_computes_in_every_step(
    tmp_path: Path, encoder: str, why: str
) -> None:
    run = toys.train(tmp_path, modalities=inputs(a={"name": encoder, "freeze": True}))
    assert run.report["notes"] == [f"a: its frozen encoder computes in every step, as {why}"]


def test_what_mixes_or_augments_or_does_not_say_so_is_encoded_in_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes(name: str, **settings: Any) -> list[str]:
        return list(toys.train(tmp_path / name, **settings).report["notes"])

    monkeypatch.setattr(toys.Numbers, "mixes", frozenset({"mixup"}))
    mixed = notes("mixed", modalities=frozen(), overrides=["training.mixup=0.2"])
    assert mixed == [
        "a: its frozen encoder computes in every step, as mixup and cutmix mix rows before they are encoded"
    ]
    monkeypatch.setattr(toys.Numbers, "unaugmented", None)
    assert "as the modality numbers does not say whether it augments" in notes("unknown", modalities=frozen())[0]


def test_a_training_that_sees_few_of_the_rows_encodes_these_alone(tmp_path: Path) -> None:
    few = ["training.max_steps=5"]
    run = toys.train(tmp_path / "few", modalities=frozen(), overrides=few)
    assert not run.report["notes"]
    toys.train(tmp_path / "all", modalities=frozen())
    toys.Counting.rows.clear()
    assert toys.train(tmp_path / "again", modalities=frozen(), overrides=few).report["notes"]
    assert not toys.Counting.rows


def test_features_that_do_not_fit_on_the_disk_are_computed_in_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=6399))
    monkeypatch.setattr("mmreg.training.kept_features.shutil", usage)
    (told,) = toys.train(tmp_path, modalities=frozen()).report["notes"]
    assert told.endswith("its features would take about 6.4 kB in the cache, and 6.4 kB are free there")


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_rows_whose_features_are_not_finite_are_named(tmp_path: Path, noise: float) -> None:
    table = toys.rows()
    table[3]["a"] = [9.0, 0.0, 0.0, 0.0]
    encoder = {"name": "broken", "freeze": True}
    told = r"the frozen encoder of 'a' gives features that are not finite for rows? .*; use precision float32, or other"
    with pytest.raises(TrainingError, match=told) as error:
        toys.train(tmp_path, table, modalities=inputs(a=encoder), key="id", overrides=[f"modalities.a.noise={noise}"])
    assert "r3" in str(error.value)
    assert "mend" not in str(error.value)


def test_a_frozen_encoder_turns_augmentation_off_unless_the_recipe_asks_for_it() -> None:
    def noise(**changes: Any) -> Any:
        modalities = frozen()
        modalities["a"] |= {"type": "noisy", **changes}
        plan = resolve(mmreg.Recipe(toys.recipe(toys.rows(40), modalities=modalities)))
        assert plan.to_data()["modalities"]["a"]["augmented_copies"] == changes.get("augmented_copies", 0)
        return plan.inputs["a"].modality.options["noise"]

    class Noisy(toys.Numbers):
        def __init__(self, *, size: int = 4, noise: float = 0.3) -> None:
            super().__init__(size=size, noise=noise)

    registry.register("modality", "noisy", Noisy)
    assert noise() == 0.0
    assert noise(noise=0.2) == 0.2
    assert noise(augmented_copies=2) == 0.3
    assert noise(encoder="linear") == 0.3


@pytest.mark.parametrize(
    ("changes", "training", "message"),
    [
        ({"encoder": "linear", "noise": 0.1}, {}, r"what linear gives changes as it is trained: freeze it for good"),
        ({"encoder": {"name": "linear", "freeze": {"until_epoch": 1}}, "noise": 0.1}, {}, "what .* freeze it for good"),
        (
            {"encoder": {"name": "linear", "freeze": True}},
            {},
            r"nothing is augmented \(noise: 0.0\): let numbers augment",
        ),
        (
            {"encoder": {"name": "linear", "freeze": True}, "noise": 0.1},
            {"mixup": 0.2},
            "training.mixup and cutmix mix rows anew in each step, before they are encoded: leave them out",
        ),
    ],
)
def test_copies_that_cannot_be_are_refused(changes: Any, training: dict[str, Any], message: str) -> None:
    modalities = {"a": {"type": "numbers", "augmented_copies": 2, **changes}}
    with pytest.raises(RecipeError, match=rf"modalities\.a\.augmented_copies: {message}.*, or leave it out"):
        resolve(mmreg.Recipe(toys.recipe(toys.rows(40), modalities=modalities, fusion=None, training=training)))


def test_each_epoch_draws_one_of_the_copies_of_each_row_and_validation_takes_none(tmp_path: Path) -> None:
    modalities = frozen()
    modalities["a"] |= {"augmented_copies": 4, "noise": 0.5}
    table = toys.rows(80, absent=0.1)
    plan = resolve(mmreg.Recipe(toys.recipe(table, modalities=modalities)))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, cache_dir())
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    model, told = experiment.build_model(), list[str]()
    given = encode_once(
        plan, model, experiment.modalities, prepared, train, CPU, torch.float32, cache_dir(), tell=told.append
    )
    assert "(and 4 augmented copies) x 8 features" in told[0]
    rows = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation, given=given)
    encoder, modality = model.encoder_of("a"), experiment.modalities["a"]
    with torch.no_grad():
        present = train[prepared["a"].present[train]]
        plain = encoder(modality.transform(prepared["a"].gather(present), training=False)).pooled
    seen = []
    for epoch in range(40):
        (batch,) = rows.training_batches([np.arange(len(train))], None, CPU, epoch)
        (again,) = rows.training_batches([np.arange(len(train))], None, CPU, epoch)
        assert torch.equal(batch.features["a"].pooled, again.features["a"].pooled)
        assert "a" not in batch.signals
        assert "b" in batch.signals
        seen.append(batch.features["a"].pooled)
    versions = [{tuple(row) for row in each.tolist()} for each in torch.stack(seen, 1)]
    assert {len(each) for each in versions} == {4}
    first, other = ([sorted(versions[row]).index(tuple(each[row].tolist())) for each in seen] for row in (0, 1))
    assert first != other  # each row draws its own
    copies = torch.stack([torch.tensor(sorted(each)) for each in versions])
    far = (copies - plain[:, None]).abs().amax((1, 2))
    assert bool((far > 0).all())
    assert float(far.median()) < 3  # they are of these very rows
    (batch,) = rows.validation_batches(99, None, CPU)
    present = validation[prepared["a"].present[validation]]
    with torch.no_grad():
        expected = encoder(modality.transform(prepared["a"].gather(present), training=False)).pooled
    torch.testing.assert_close(batch.features["a"].pooled, expected)


@pytest.mark.parametrize("copies", [0, 3])
def test_features_on_the_device_are_those_that_are_gathered_there(tmp_path: Path, folder: Path, copies: int) -> None:
    overrides = [*FROZEN, "fusion=transformer", "modalities.audio.encoder.freeze=false", "training.precision=bfloat16"]
    overrides += [f"modalities.image.augmented_copies={copies}"]
    plan = resolve(read_recipe(folder / "recipe.yaml", overrides))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, None)
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    given = encode_once(
        plan, experiment.build_model(), experiment.modalities, prepared, train, CPU, torch.bfloat16, None
    )
    assert set(given.plain) == {"image", "title"}
    assert set(given.copies) == ({"image"} if copies else set())
    arguments = prepared, experiment.targets, experiment.weights, train, validation
    there, here = TrainingRows(*arguments, given=given), TrainingRows(*arguments, given=given)
    there.put_on(CPU)
    drop = {"image": np.arange(len(train)) % 5 == 0}
    for epoch in (0, 1, 0):
        order = [np.arange(7), np.arange(7, 36)]
        pairs = [(rows.training_batches(order, drop, CPU, epoch)) for rows in (there, here)]
        pairs += [rows.validation_batches(5, None, CPU) for rows in (there, here)]
        for resident, gathered in [*zip(*pairs[:2], strict=True), *zip(*pairs[2:], strict=True)]:
            found = resident.to(CPU)
            assert set(found.features) == set(gathered.features) == {"image", "title"}
            for name, expected in gathered.features.items():
                tokens, mask = found.features[name].tokens, found.features[name].mask
                assert tokens.dtype == torch.bfloat16
                size = expected.tokens.shape[1]
                assert torch.equal(tokens[:, :size], expected.tokens)
                assert (mask is None) == (expected.mask is None) == (name == "image")
                assert mask is None or torch.equal(mask[:, :size], expected.mask)
                assert (found.rows[name] is None) == (gathered.rows[name] is None)


def test_memory_holds_features_where_there_is_no_cache_and_both_are_the_same(tmp_path: Path, folder: Path) -> None:
    plan = resolve(read_recipe(folder / "recipe.yaml", [*FROZEN, "fusion=transformer"]))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, cache_dir())
    train = experiment.splits["train"]
    fit_arrays(prepared, experiment.modalities, train)
    model = experiment.build_model()
    arguments = plan, model, experiment.modalities, prepared, train, CPU, torch.float32
    kept, held = (encode_once(*arguments, cache).plain for cache in (cache_dir(), None))
    found = encode_once(*arguments, cache_dir()).plain
    for name, values in held.items():
        for other in (kept[name], found[name]):
            for array, expected in values.everything().items():
                np.testing.assert_array_equal(other.everything()[array], expected)
    rows = np.arange(len(experiment.table))
    for name, values in held.items():  # each row's tokens, and no more of them than it has
        with torch.no_grad():
            signal = experiment.modalities[name].transform(prepared[name].gather(rows), training=False)
            expected = model.encoder_of(name)(signal)
        got = values.features(values.gather(rows))
        if expected.mask is not None:
            assert torch.equal(got.mask, expected.mask[:, : got.mask.shape[1]])
            assert not expected.mask[:, got.mask.shape[1] :].any()
        mask = torch.ones(got.tokens.shape[:2]).bool() if got.mask is None else got.mask
        size = got.tokens.shape[1]
        torch.testing.assert_close(got.tokens[mask], expected.tokens[:, :size][mask], rtol=0, atol=1e-6)


def test_pooled_features_and_tokens_of_one_encoder_are_kept_apart(folder: Path) -> None:
    given = {}
    for fusion in ("concat", "transformer"):
        plan = resolve(read_recipe(folder / "recipe.yaml", [*FROZEN, f"fusion={fusion}"]))
        experiment = open_experiment(plan)
        prepared = prepare_all(plan, experiment.table, experiment.modalities, cache_dir())
        train = experiment.splits["train"]
        fit_arrays(prepared, experiment.modalities, train)
        model = experiment.build_model()
        arguments = plan, model, experiment.modalities, prepared, train, CPU, torch.float32
        given[fusion] = encode_once(*arguments, cache_dir()).plain
    for name in given["concat"]:
        assert set(given["concat"][name].everything()) == {"pooled"}
        assert set(given["transformer"][name].everything()) == {"tokens"}


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", ["false", "auto", "true"])
def test_on_a_gpu_it_gives_the_same(folder: Path, compiled: str) -> None:
    overrides = [*FROZEN, "fusion=transformer", "modalities.audio.encoder.freeze=false", SGD]
    overrides += ["training.precision=float32", f"training.compile={compiled}", "training.epochs=4"]
    recipe = read_recipe(folder / "recipe.yaml", overrides)
    once = mmreg.train(recipe, folder / "once", device="cuda")
    with in_every_step():
        always = mmreg.train(recipe, folder / "always", device="cuda")
    assert len([note for note in once.report["notes"] if "encoded once" in note]) == 2
    np.testing.assert_allclose(figures(once), figures(always), rtol=0, atol=1e-3)  # kernels are chosen by timing
    np.testing.assert_allclose(predictions(once), predictions(always), rtol=0, atol=1e-3)
