"""Exported files predict what their run does, for any rows, lengths and absent modalities, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from export_components import RNN, SERIES, TASKS, TITLE, VECTOR
from export_runs import trained_run

import mmreg
from mmreg import Features, Spec, registry
from mmreg.errors import RunError
from mmreg_export import writing
from mmreg_export.arrays import PRESENT, ModalityArrays, model_arrays, random_inputs
from mmreg_export.checking import TOLERANCE, check, padded, run_scores
from mmreg_export.export import Exported, export
from mmreg_export.program import SCORES, Program, Readable, masked
from mmreg_export.refusals import components, refusals

OPERATORS = sorted({entry.spec.name for entry in registry.specs("fusion") if entry.distribution == "mmreg"})


def onnx_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def onnx_scores(path: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What ONNX Runtime alone gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    wanted = {given.name for given in session.get_inputs()}
    return torch.from_numpy(session.run(["scores"], {k: v.numpy() for k, v in inputs.items() if k in wanted})[0])


@pytest.fixture(scope="module")
def described_run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    """A small recurrent encoder beside a vector."""
    cell = {**RNN, "cell": "rnn", "bidirectional": False, "num_layers": 1, "pooling": "last"}
    modalities = {"title": {**TITLE, "encoder": cell}, "vector": VECTOR}
    return trained_run(table, tmp_path_factory.mktemp("described") / "run", modalities, "concat")


@pytest.fixture(scope="module")
def written(described_run: mmreg.Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(described_run, "torch-export", tmp_path_factory.mktemp("written") / "model.pt2")


def test_a_program_of_fixed_form_predicts_what_the_run_does(described_run: mmreg.Run) -> None:
    modalities = model_arrays(described_run)
    program = Program(described_run, modalities).eval()
    assert check(described_run, modalities, program, {}, "the program") <= 1e-5
    inputs = random_inputs(modalities, 3, 7)
    inputs["present_title"][1] = inputs["present_vector"][1] = False
    assert torch.equal(program(inputs)["scores"][1], described_run.model.prior)


def test_a_recurrent_model_is_exported_for_rows_and_lengths_that_were_not_traced(
    described_run: mmreg.Run, written: Exported
) -> None:
    assert written.difference <= TOLERANCE
    module = torch.export.load(written.file).module()
    modalities = model_arrays(described_run)
    for rows, steps in ((1, 1), (2, 11), (7, 64)):
        inputs = random_inputs(modalities, rows, steps, seed=5)
        given = module(padded(inputs, modalities, {}))
        assert torch.allclose(given["scores"], run_scores(described_run, modalities, inputs), atol=TOLERANCE)
        assert torch.allclose(given["probabilities"].sum(1), torch.ones(rows), atol=1e-5)
    facts = json.loads(written.description.read_text())
    assert [given["name"] for given in facts["inputs"]] == [
        *("title", "title.lengths", "vector"),
        *("present_title", "present_vector"),
    ]
    assert facts["inputs"][0]["shape"] == ["batch", "time_title"]
    assert facts["outputs"][1]["columns"] == ["blue", "green", "red"]


def test_rows_of_the_table_get_the_run_s_own_predictions(described_run: mmreg.Run, written: Exported) -> None:
    run = described_run
    rows = [{"title": "a red thing", "vector": [1, 2, 0, 1]}, {"title": None, "vector": [0, 1, 1, 0]}]
    words, vectors = run.modalities["title"].load("a red thing"), run.modalities["vector"]
    inputs = {
        "title": torch.from_numpy(np.stack([words, np.zeros_like(words)])),
        "title.lengths": torch.tensor([len(words), 1]),
        "vector": torch.from_numpy(np.stack([vectors.load(row["vector"]) for row in rows])),
        "present_title": torch.tensor([True, False]),
        "present_vector": torch.tensor([True, True]),
    }
    given = torch.export.load(written.file).module()(inputs)["probabilities"]
    told = [[row[f"probability_{name}"] for name in ("blue", "green", "red")] for row in run.predict(rows)]
    assert np.allclose(given.numpy(), told, atol=TOLERANCE)


def test_each_of_several_targets_is_read_in_its_own_units(trained: Any, tmp_path: Path) -> None:
    price, colour = {"column": "price", "task": "regression"}, {"column": "label", "task": "classification"}
    run = trained({"vector": VECTOR}, targets={"price": price, "colour": colour})
    written = export(run, "torch-export", tmp_path / "model.pt2")
    inputs = {
        "vector": torch.from_numpy(run.modalities["vector"].load([1, 2, 0, 1]))[None],
        "present_vector": torch.tensor([True]),
    }
    given, told = torch.export.load(written.file).module()(inputs), run.predict({"vector": [1, 2, 0, 1]})[0]
    assert given["price.values"].item() == pytest.approx(told["price.value"], abs=1e-4)
    probabilities = [told[f"colour.probability_{name}"] for name in ("blue", "green", "red")]
    assert given["colour.probabilities"][0].tolist() == pytest.approx(probabilities, abs=1e-4)
    facts = json.loads(written.description.read_text())
    names = ["scores", "price.values", "colour.probabilities"]
    assert [one["name"] for one in facts["outputs"]] == names
    assert [one["dtype"] for one in facts["outputs"]] == [str(given[name].dtype)[6:] for name in names]


def test_values_far_from_zero_are_told_apart() -> None:
    seconds = Readable("values", "values", ["value"], [0], "values", [1_700_000_000.0], [8.0])
    assert seconds.of(torch.tensor([[0.125], [0.25]])).tolist() == [[1_700_000_001.0], [1_700_000_002.0]]


@pytest.mark.slow
def test_runs_that_were_put_together_are_exported_as_one(trained: Any, table: Path, tmp_path: Path) -> None:
    trained({"title": TITLE, "vector": VECTOR}, "concat", folder="first")
    trained({"series": {**SERIES, "encoder": "series_cnn"}}, folder="second")
    run = mmreg.fuse([tmp_path / "first", tmp_path / "second"], "mean", tmp_path / "both", device="cpu")
    run = mmreg.load(run.folder, device="cpu", precision="float32")
    assert export(run, "torch-export", tmp_path / "model.pt2").difference <= TOLERANCE


def test_a_run_without_a_target_gives_its_vectors(trained: Any, tmp_path: Path) -> None:
    modalities = {"vector": VECTOR, "second": {**VECTOR, "column": "other"}}
    run = trained(modalities, target={"task": "contrastive", "features": 5})
    written = export(run, "torch-export", tmp_path / "model.pt2")
    inputs = random_inputs(model_arrays(run), 6, 3, seed=3)
    given = torch.export.load(written.file).module()(inputs)
    assert list(given) == ["scores"]
    norms = given["scores"].view(6, 2, 5).norm(dim=2)
    assert torch.allclose(
        norms, torch.stack([inputs["present_vector"], inputs["present_second"]], 1).float(), atol=1e-5
    )
    assert "unit vector" in json.loads(written.description.read_text())["outputs"][0]["is"]


@pytest.mark.slow
def test_an_onnx_file_holds_for_rows_and_lengths_that_were_not_traced(trained: Any, tmp_path: Path) -> None:
    onnx_packages()
    run = trained({"title": TITLE, "vector": VECTOR}, "concat")
    written = export(run, "onnx", tmp_path / "model.onnx")
    modalities = model_arrays(run)
    for rows, steps in ((1, 1), (2, 11), (7, 64)):
        inputs = random_inputs(modalities, rows, steps, seed=5)
        wanted = run_scores(run, modalities, inputs)
        assert torch.allclose(onnx_scores(written.file, inputs), wanted, atol=TOLERANCE), (rows, steps)


def test_what_cannot_be_exported_is_refused_by_name_before_anything_is_written(trained: Any, tmp_path: Path) -> None:
    run = trained({"vector": VECTOR, "second": VECTOR}, "borda")
    with pytest.raises(RunError, match="fusion borda: it ranks scores"):
        export(run, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model*"))
    assert refusals(run, "torch-export") == []


@pytest.mark.parametrize("form", ["torch-export", "onnx"])
def test_features_of_host_memory_and_cells_of_many_values_are_refused(form: str) -> None:
    weights = {"weight": torch.zeros(2)}
    model = SimpleNamespace(modalities=["sound"], pooling_of=lambda name: "mean", state_dict=lambda: weights)
    recipe = {"modalities": {"sound": {"encoder": {"name": "mmreg:hf_audio"}}}}
    sound = SimpleNamespace(spec=Spec("TC", (None, 1)))
    run: Any = SimpleNamespace(model=model, recipe=recipe, modalities={"sound": sound})
    cells, encoder = refusals(run, form)
    assert cells.startswith("modality sound: its cells hold any number of values")
    assert encoder.startswith("encoder hf_audio: it computes its features outside of torch")


def test_components_within_others_are_found() -> None:
    recipe = {
        "modalities": {"video": {"encoder": {"name": "per_step", "encoder": "image_cnn"}}},
        "fusion": {"name": "concat", "inputs": ["video", {"fusion": {"name": "mmreg:borda"}}]},
    }
    assert {("encoder", "image_cnn"), ("fusion", "borda")} <= set(components(recipe))


FORWARD, ENCODED = Program.forward, Program._encoded


def with_absent_rows(self: Program, inputs: Any) -> Any:
    """As if every row had every modality."""
    there = {name: torch.ones_like(values) for name, values in inputs.items() if name.startswith(PRESENT)}
    return FORWARD(self, {**inputs, **there})


def with_padding(self: Program, modality: ModalityArrays, inputs: Any) -> Features:
    """As if every row had as many steps as the longest one."""
    if modality.lengths:
        whole = torch.full_like(inputs[modality.lengths], inputs[modality.name].shape[1])
        inputs = {**inputs, modality.lengths: whole}
    return ENCODED(self, modality, inputs)


@pytest.mark.parametrize(("method", "broken"), [("forward", with_absent_rows), ("_encoded", with_padding)])
def test_the_check_fails_where_masking_is_broken(
    described_run: mmreg.Run, monkeypatch: pytest.MonkeyPatch, method: str, broken: Any
) -> None:
    modalities = model_arrays(described_run)
    monkeypatch.setattr(Program, method, broken)
    with pytest.raises(RunError, match=r"the file was not written: for .* off the run's"):
        check(described_run, modalities, Program(described_run, modalities).eval(), {}, "the file")


def test_what_an_absent_row_s_values_were_encoded_to_is_left_out() -> None:
    found = masked(Features(torch.ones(2, 3), torch.ones(2, 4, 3)), torch.tensor([True, False]))
    assert found.pooled is not None
    assert found.tokens is not None
    assert found.mask is not None
    assert found.pooled.sum(1).tolist() == [3, 0]
    assert found.tokens.sum((1, 2)).tolist() == [12, 0]
    assert found.mask.sum(1).tolist() == [4, 0]


@pytest.mark.parametrize("name", ["predicting", "save_torch"])
def test_a_file_that_predicts_otherwise_is_not_kept(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = trained({"vector": VECTOR})
    right = getattr(writing, name)

    def wrong(*given: Any) -> Any:
        predict = right(*given)
        return lambda inputs: {SCORES: predict(inputs)[SCORES] + 0.01}

    monkeypatch.setattr(f"mmreg_export.export.{name}", wrong)
    with pytest.raises(RunError, match=r"was not written: .* 0\.01 off"):
        export(run, "torch-export", tmp_path / "model.pt2")
    assert not list(tmp_path.glob("*model*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_what_people_read_of_every_task_is_what_the_run_predicts(trained: Any, tmp_path: Path, name: str) -> None:
    target, output, start = TASKS[name]
    run = trained({"vector": VECTOR}, target={"task": name, **target})
    written = export(run, "torch-export", tmp_path / "model.pt2")
    vector = torch.from_numpy(run.modalities["vector"].load([1, 2, 0, 1]))[None]
    given = torch.export.load(written.file).module()({"vector": vector, "present_vector": torch.tensor([True])})
    told = [value for key, value in run.predict({"vector": [1, 2, 0, 1]})[0].items() if key.startswith(start)]
    assert given[output][0].tolist() == pytest.approx(told, abs=1e-4)
