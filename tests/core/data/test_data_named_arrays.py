"""Modalities that store several named arrays: loaded, cached, gathered, trained with and used."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
import torch
import toys
from numpy.typing import NDArray
from small import Caller, call
from torch import Tensor, nn

import mmreg
from mmreg import Encoder, Features
from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Signal
from mmreg.contract.spec import SEQUENCE, VECTOR, Spec, Specs, specs_from_json, specs_text, specs_to_json
from mmreg.data.batches import Batches
from mmreg.data.cache import entries_dir
from mmreg.data.prepare import prepare
from mmreg.data.prepared import Prepared
from mmreg.data.table import read_table
from mmreg.errors import OptionError, RecipeError, SpecError
from mmreg.studies.robustness import evaluate_robustness
from mmreg.testing import run_checks


class Song(Modality):
    """Texts such as "3a 1b 2c": times and notes, ragged, and how many of each note there are."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    @property
    def stored(self) -> Specs:
        return {
            "times": Spec(SEQUENCE, (None, 1)),
            "counts": Spec(VECTOR, (26,), "int16"),
            "notes": Spec("T", (None,), "int64", 27),
        }

    @property
    def spec(self) -> Specs:
        return self.stored

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:
        self.loaded.append(value)
        times = np.array([[float(note[:-1])] for note in value.split()], np.float32).reshape(-1, 1)
        notes = np.array([ord(note[-1]) - ord("a") + 1 for note in value.split()], np.int64)
        counts = np.bincount(notes, minlength=27)[1:].astype(np.int16)
        return {"notes": notes, "times": times, "counts": counts}  # the order has no meaning


SONGS = read_table({"song": ["3a 1b 2c", "4d", None, "5c 6c", "3a 1b 2c", " "]})


def get(modality: Modality, cache: Path | None = None) -> Prepared:
    return prepare(modality, SONGS, ["song"], name="song", cache_dir=cache)


@pytest.mark.parametrize("cached", [False, True])
def test_ragged_arrays_are_padded_to_one_length_and_fixed_ones_are_not(cache: Path, cached: bool) -> None:
    prepared = get(Song(), cache if cached else None)
    assert prepared.present.tolist() == [True, True, False, True, True, False]
    assert [(cell.row, cell.cause) for cell in prepared.bad] == [(5, "nothing is in it")]
    signal = prepared.gather(np.array([3, 0]))
    assert len(signal) == 2
    assert list(signal.values) == ["times", "counts", "notes"]
    assert signal.values["times"][..., 0].tolist() == [[5, 6, 0], [3, 1, 2]]
    assert signal.values["notes"].tolist() == [[3, 3, 0], [1, 2, 3]]
    assert signal.values["counts"][:, :4].tolist() == [[0, 0, 2, 0], [1, 1, 1, 0]]
    assert [tensor.dtype for tensor in signal.values.values()] == [torch.float32, torch.int16, torch.int64]
    assert signal.lengths is not None
    assert signal.lengths.tolist() == [2, 3]
    assert signal.lengths_on_host() is signal.host_lengths is not None
    assert prepared.nbytes == 6 * 4 + 6 * 8 + 3 * 26 * 2


class Word(Modality):
    """The letters of a word: one array."""

    stored = spec = Spec("T", (None,), "int32", 30)

    def load(self, value: Any) -> NDArray[Any]:
        return np.array([ord(letter) - 96 for letter in value], np.int32)


def test_an_entry_of_one_array_is_as_its_layout_has_always_been(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Word, "__module__", "pinned")
    table = read_table({"word": ["ab", None, "cde", "ab"]})
    prepare(Word(), table, ["word"], name="word", cache_dir=cache, options={"size": 3})
    (entry,) = entries_dir(cache).iterdir()
    assert entry.name == "3b91ff61d44d8f337df348f572bb1bb9f0e8ade7"
    values = {path.stem: np.fromfile(path, np.int64).tolist() for path in entry.glob("[oi]*.bin")}
    assert values == {"offsets": [0, 2, 5], "index": [0, -1, 1, 0]}
    assert np.fromfile(entry / "values.bin", np.int32).tolist() == [1, 2, 3, 4, 5]
    meta = json.loads((entry / "meta.json").read_text())
    digest = meta.pop("digest")
    assert meta == {
        **{"input": "word", "modality": "Word", "store": "decoded", "values": 2},
        "bad": [],
        "files": {"index.bin": 32, "offsets.bin": 24, "values.bin": 20},
        "checksums": {path.name: [zlib.crc32(path.read_bytes())] for path in entry.glob("*.bin")},
    }
    assert digest == hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=16).hexdigest()


def test_what_was_loaded_is_given_one_value_at_a_time_as_copies(cache: Path) -> None:
    prepared = get(Song(), cache)
    arrays = list(prepared.arrays(np.array([3, 2, 1])))
    assert [array["notes"].tolist() for array in arrays] == [[3, 3], [4]]
    assert arrays[0]["counts"].shape == (26,)
    arrays[0]["times"][:] = -1
    assert next(prepared.arrays(np.array([3])))["times"].ravel().tolist() == [5, 6]


def test_an_entry_of_the_cache_is_found_again_and_has_a_file_for_each_array(cache: Path) -> None:
    get(Song(), cache)
    again = Song()
    assert get(again, cache).gather(np.array([1])).values["notes"].tolist() == [[4]]
    assert again.loaded == []
    (entry,) = entries_dir(cache).iterdir()
    sizes = json.loads((entry / "meta.json").read_text())["files"]
    assert sizes == {
        "values.0.bin": 3 * 26 * 2,  # counts, notes, times: by their names' order, whatever that of `stored`
        "values.1.bin": 6 * 8,
        "values.2.bin": 6 * 4,
        "offsets.bin": 4 * 8,
        "index.bin": 6 * 8,
    }
    (entry / "values.1.bin").write_bytes(b"")
    get(again, cache)
    assert again.loaded


def test_the_order_of_the_names_does_not_matter_to_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Song().stored
    assert isinstance(stored, dict)
    get(Song(), cache)
    monkeypatch.setattr(Song, "stored", dict(reversed(stored.items())))
    other = Song()
    signal = get(other, cache).gather(np.array([0]))
    assert other.loaded == []
    assert list(signal.values) == ["notes", "counts", "times"]
    assert signal.values["times"].ravel().tolist() == [3, 1, 2]


@pytest.mark.parametrize("rows", [[2], [2, 5]])
def test_nothing_at_all_is_gathered_from_a_column_in_which_everything_is_absent(rows: list[int], cache: Path) -> None:
    table = SONGS.select(rows)
    for folder in (None, cache, cache):
        prepared = prepare(Song(), table, ["song"], name="song", cache_dir=folder)
        assert not prepared.present.any()
        assert prepared.nbytes == 0


def loads(**arrays: Any) -> Song:
    """A song that loads these arrays instead of its own."""
    song = Song()
    song.load = lambda value: {**Song.load(song, value), **arrays}  # type: ignore[method-assign]
    return song


@pytest.mark.parametrize(
    ("song", "said"),
    [
        (loads(notes=np.zeros(2, np.int64)), r"differ in length .* they share: 3 of 'times', 2 of 'notes'"),
        (loads(counts=np.zeros(26)), r"gave an array \(26,\) of float64 for 'counts'"),
        (loads(notes=[1, 2, 3]), "gave a list for 'notes'"),
        (loads(more=np.zeros(1)), "gave the arrays notes, times, counts, more; this is an error in the modality"),
    ],
)
def test_what_stored_does_not_promise_is_the_authors_error(song: Song, said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        get(song)
    assert "promises times: TC (any, 1) float32; counts: C (26) int16; notes: T (any) int64, 27 tokens" in str(
        error.value
    )


def test_one_array_where_several_are_promised_is_the_authors_error_and_the_other_way_round() -> None:
    song = Song()
    song.load = lambda value: np.zeros(3)  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(SpecError, match=r"its `load` gave an array \(3,\) of float64"):
        get(song)
    one = type("One", (Song,), {"stored": Spec(VECTOR, (1,))})()
    with pytest.raises(SpecError, match="its `load` gave the arrays notes, times, counts"):
        get(one)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({}, r"stores arrays named \[\]"),
        ({"": Spec(VECTOR, (1,))}, r"stores arrays named \[''\]"),
        ({"a": Spec("CT", (1, None))}, r"stores a: CT \(1, any\) float32, but only the first axis may vary"),
        ({"a": Spec("C", (1,), "bfloat16")}, "stores a: .*'bfloat16' is no dtype of NumPy"),
    ],
)
def test_stored_arrays_that_cannot_be_are_the_authors_error(stored: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        get(type("Wrong", (Song,), {"stored": stored})())


def test_specs_are_plain_data_and_a_text() -> None:
    several = {"axes": Spec(VECTOR, (3,)), "words": Spec("T", (None,), "int64", 9)}
    assert specs_from_json(json.loads(json.dumps(specs_to_json(several)))) == several
    assert specs_from_json(specs_to_json(several["axes"])) == several["axes"]
    assert specs_text(several) == "axes: C (3) float32; words: T (any) int64, 9 tokens"
    assert specs_text(several["axes"]) == str(several["axes"])


def test_a_signal_of_several_tensors_moves_and_changes_as_one_does() -> None:
    lengths = torch.tensor([2, 3])
    signal = Signal({"a": torch.zeros(2, 3), "b": torch.ones(2)}, lengths, lengths)
    assert len(signal) == 2
    moved = signal.to("meta")
    assert moved.device.type == "meta"
    assert [tensor.device.type for tensor in moved.values.values()] == ["meta", "meta"]
    one = signal.replace(signal.values["a"], lambda sizes: sizes + 1)
    assert one.values.shape == (2, 3)
    assert one.host_lengths is not None
    assert one.host_lengths.tolist() == [3, 4]


def test_a_batch_of_several_tensors_moves_to_another_device() -> None:
    (batch,) = Batches({"song": get(Song())}, np.array([0, 3]))
    moved = batch.to("meta").signals["song"]
    assert {name: tensor.device.type for name, tensor in moved.values.items()} == dict.fromkeys(
        ("times", "counts", "notes"), "meta"
    )
    assert moved.host_lengths is not None
    assert moved.host_lengths.tolist() == [3, 2]


# A training with several arrays, by the toys of tests/helpers/records.py, whose specs are known after fit_values alone.


@pytest.fixture
def _toys() -> None:
    toys.register()
    records.register()


def write(folder: Path, **changes: Any) -> Path:
    """The rows as a table and a recipe for them, in a folder."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records.rows()))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(records.recipe("rows.jsonl", **changes)))  # JSON is YAML
    return path


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


@pytest.mark.usefixtures("_toys")
def test_a_run_is_trained_measured_and_used_by_the_command_line(cli: Caller, tmp_path: Path) -> None:
    recipe, run = write(tmp_path), tmp_path / "run"
    checked = cli("validate", recipe)
    assert checked.code == 0, checked.err
    assert "numbers: C (2) float32" in checked.out
    trained = cli("train", recipe, "--out", run, "--device", "cpu", "-q")
    assert trained.code == 0, trained.err
    facts = json.loads((run / "components.json").read_text())["modalities"]["record"]
    assert facts["spec"]["categories"]["vocabulary_size"] == 3
    measured = cli("evaluate", run, "--format", "json", "--device", "cpu")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out) == {"split": "test", "rows": 24, **json.loads(measured.out)}
    assert (
        json.loads(measured.out)["metrics"]["accuracy"]
        == json.loads((run / "report.json").read_text())["test"]["metrics"]["accuracy"]
    )
    assert cli("evaluate", run, tmp_path / "rows.jsonl", "--missing", "all", "--device", "cpu").code == 0
    predicted = cli("predict", run, tmp_path / "rows.jsonl", "--device", "cpu")
    assert predicted.code == 0, predicted.err
    assert len(predicted.out.splitlines()) == 121
    one = cli("predict", run, "--value", "brand=acme", "--device", "cpu")
    assert one.code == 0, one.err
    assert one.out.splitlines()[1].endswith(",record")


@pytest.mark.usefixtures("_toys")
def test_it_learns_from_both_arrays_and_a_resumed_training_ends_the_same(tmp_path: Path) -> None:
    recipe = records.recipe(records.rows(), training={**records.recipe("")["training"], "epochs": 12})
    whole = mmreg.train(recipe, tmp_path / "whole", device="cpu")
    assert whole.report["test"]["metrics"]["accuracy"] > 0.7  # of the numbers or the categories alone it is about 0.5
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(recipe, tmp_path / "parts", device="cpu", callback=toys.Listening(stop_after=20))
    resumed = mmreg.train(recipe, tmp_path / "parts", device="cpu", resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.usefixtures("_toys")
def test_a_loaded_run_knows_its_columns_and_predicts_the_same(tmp_path: Path) -> None:
    trained = mmreg.train(records.recipe(records.rows()), tmp_path / "run", device="cpu")
    loaded = mmreg.load(tmp_path / "run", device="cpu")
    assert loaded.modalities["record"].columns == ("price", "brand", "weight")
    assert loaded.predict(records.rows(9, seed=5)) == trained.predict(records.rows(9, seed=5))


@pytest.mark.usefixtures("_toys")
def test_runs_of_several_arrays_are_fused(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    write(tmp_path)
    for name in ("record", "a"):
        inputs = {name: records.recipe(str(table))["modalities"][name]}
        mmreg.train(records.recipe(str(table), modalities=inputs, fusion=None), tmp_path / name, device="cpu")
    fused = mmreg.fuse([tmp_path / "record", tmp_path / "a"], "mean", tmp_path / "both", device="cpu")
    loaded = mmreg.load(tmp_path / "both", device="cpu")
    assert loaded.evaluate()["metrics"] == fused.evaluate()["metrics"]


@pytest.mark.usefixtures("_toys")
def test_a_corruption_is_refused_as_it_changes_one_array(tmp_path: Path) -> None:
    run = mmreg.train(records.recipe(records.rows()), tmp_path / "run", device="cpu")
    with pytest.raises(
        OptionError, match=r"noise does not fit record, .* several arrays \(numbers: C \(2\) float32; cat"
    ):
        evaluate_robustness(run, records.rows(), corruptions=["record:noise=0.1"])


@pytest.mark.usefixtures("_toys")
def test_an_encoder_of_one_array_is_never_asked_about_several(tmp_path: Path) -> None:
    inputs = {"record": {"type": "records", "columns": records.COLUMNS, "encoder": "linear"}}
    with pytest.raises(RecipeError) as error:
        mmreg.train(records.recipe(records.rows(), modalities=inputs), tmp_path / "run", device="cpu")
    assert (
        "linear does not take what records gives, numbers: C (2) float32; categories: C (1) int64, 3 tokens: "
        "it takes a single array. With their default options these take it: ft_transformer, record_mlp, tabm, "
        "tabular_mlp"
    ) in str(error.value)


@pytest.mark.usefixtures("_toys")
def test_an_encoder_of_several_arrays_may_refuse_one(tmp_path: Path) -> None:
    inputs = {"a": {"type": "numbers", "encoder": "record_mlp"}}
    with pytest.raises(RecipeError, match=r"record_mlp does not take what numbers gives, .*: it takes records"):
        mmreg.train(records.recipe(records.rows(), modalities=inputs), tmp_path / "run", device="cpu")


def test_the_conformance_checks_of_the_encoder_pass() -> None:
    spec = {"numbers": Spec(VECTOR, (4,)), "categories": Spec(VECTOR, (3,), "int64", 9)}
    report = run_checks(records.RecordMLP, specs=[spec])
    assert report.ok, str(report)


def test_the_conformance_checks_find_padding_that_leaks_from_one_of_several_arrays() -> None:
    class Sums(Encoder):
        """The sum of everything, padding included.

        Args:
            features: the size of the result.
        """

        multiple_arrays = True

        def __init__(self, spec: Mapping[str, Spec], *, features: int = 4) -> None:
            super().__init__()
            self.out_features = features
            self.layer = nn.Linear(2, features)

        def forward(self, signal: Signal[dict[str, Tensor]]) -> Features:
            times, level = signal.values["times"], signal.values["level"]
            return Features(pooled=self.layer(torch.cat([times.mean(1), level], 1)))

    spec = {"times": Spec(SEQUENCE, (None, 1)), "level": Spec(VECTOR, (1,))}
    report = run_checks(Sums, specs=[spec], checks=["padding", "rows_are_independent", "batch_of_one"])
    assert {result.check: result.outcome for result in report.results} == {
        "padding": "failed",
        "rows_are_independent": "failed",
        "batch_of_one": "passed",
    }


def test_the_conformance_checks_pass() -> None:
    report = run_checks(
        records.Records,
        options={"noise": 0.2},
        values=[{name: row[name] for name in records.COLUMNS} for row in records.rows(8)],
        bad_values=["text", {"price": "much", "brand": "acme", "weight": 1.0}],
    )
    assert report.ok, str(report)
