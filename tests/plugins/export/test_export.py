"""Exported files predict what their run does, for any rows, lengths and absent modalities, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmreg
from mmreg import registry
from mmreg.errors import RunError
from mmreg_export.arrays import model_arrays, random_inputs
from mmreg_export.checking import TOLERANCE, check, padded, run_scores
from mmreg_export.export import export
from mmreg_export.program import Program
from mmreg_export.refusals import REFUSED, components, refusals

VECTOR = {"type": "vector", "column": "vector", "encoder": "mlp"}
RNN = {"name": "text_rnn", "embedding_size": 6, "hidden_size": 5, "num_layers": 2}
TITLE = {"type": "text", "column": "title", "encoder": RNN}
IMAGE = {"column": "image", "size": 16, "encoder": {"name": "image_cnn", "channels": [4], "features": 4}}
AUDIO = {"type": "audio", "column": "audio", "sample_rate": 8000}
CNN = {"name": "audio_cnn", "channels": [4], "features": 4}
SERIES = {"type": "series", "column": "series"}
TABULAR = {"type": "tabular", "columns": ["a", "b"]}
ENCODERS: dict[str, dict[str, Any]] = {
    "image_cnn": IMAGE,
    "text_rnn lstm": TITLE,
    "text_rnn gru": {**TITLE, "encoder": {**RNN, "cell": "gru", "pooling": "last"}},
    "text_rnn rnn": {**TITLE, "encoder": {**RNN, "cell": "rnn", "bidirectional": False, "pooling": "last"}},
    "text_bag": {**TITLE, "encoder": "text_bag"},
    "text_cnn": {**TITLE, "encoder": "text_cnn"},
    "transformer": {**TITLE, "encoder": "transformer"},
    "text_rnn series": {**SERIES, "encoder": {**RNN, "pooling": "attention"}},
    "series_cnn": {**SERIES, "encoder": "series_cnn"},
    "patch_transformer": {**SERIES, "encoder": "patch_transformer"},
    "tabular_mlp": {**TABULAR, "encoder": "tabular_mlp"},
    "ft_transformer": {**TABULAR, "encoder": "ft_transformer"},
    "tabm": {**TABULAR, "encoder": "tabm"},
    "mlp": VECTOR,
    "audio_cnn log_mel": {**AUDIO, "encoder": CNN},
    "audio_cnn mfcc": {**AUDIO, "features": "mfcc", "encoder": CNN},
    "audio_cnn spectrogram": {**AUDIO, "features": "spectrogram", "encoder": CNN},
    "torchvision": {**IMAGE, "size": 32, "encoder": {"name": "torchvision", "model": "resnet18", "weights": "none"}},
}
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


def test_a_program_of_fixed_form_predicts_what_the_run_does(trained: Any) -> None:
    run = trained({"title": TITLE, "vector": VECTOR}, "concat")
    modalities = model_arrays(run)
    program = Program(run, modalities).eval()
    assert check(run, modalities, program, {}, "the program") <= 1e-5
    inputs = random_inputs(modalities, 3, 7)
    inputs["present"][1] = False
    assert torch.equal(program(inputs)["scores"][1], run.model.prior)


def test_a_recurrent_model_is_exported_for_rows_and_lengths_that_were_not_traced(trained: Any, tmp_path: Path) -> None:
    run = trained({"title": TITLE, "vector": VECTOR}, "concat")
    written = export(run, "torch-export", tmp_path / "model.pt2")
    assert written.difference <= TOLERANCE
    module = torch.export.load(written.file).module()
    modalities = model_arrays(run)
    for rows, steps in ((1, 1), (2, 11), (7, 64)):
        inputs = random_inputs(modalities, rows, steps, seed=5)
        given = module(padded(inputs, modalities, {}))
        assert torch.allclose(given["scores"], run_scores(run, modalities, inputs), atol=TOLERANCE), (rows, steps)
        assert torch.allclose(given["probabilities"].sum(1), torch.ones(rows), atol=1e-5)
    facts = json.loads(written.description.read_text())
    assert [given["name"] for given in facts["inputs"]] == ["title", "title.lengths", "vector", "present"]
    assert facts["inputs"][0]["shape"] == ["batch", "title_steps"]
    assert facts["outputs"][1]["columns"] == ["blue", "green", "red"]


def test_rows_of_the_table_get_the_run_s_own_predictions(trained: Any, tmp_path: Path) -> None:
    run = trained({"title": TITLE, "vector": VECTOR}, "product")
    file = export(run, "torch-export", tmp_path / "model.pt2").file
    rows = [{"title": "a red thing", "vector": [1, 2, 0, 1]}, {"title": None, "vector": [0, 1, 1, 0]}]
    words, vectors = run.modalities["title"].load("a red thing"), run.modalities["vector"]
    inputs = {
        "title": torch.from_numpy(np.stack([words, np.zeros_like(words)])),
        "title.lengths": torch.tensor([len(words), 1]),
        "vector": torch.from_numpy(np.stack([vectors.load(row["vector"]) for row in rows])),
        "present": torch.tensor([[True, True], [False, True]]),
    }
    given = torch.export.load(file).module()(inputs)["probabilities"]
    told = [[row[f"probability_{name}"] for name in ("blue", "green", "red")] for row in run.predict(rows)]
    assert np.allclose(given.numpy(), told, atol=TOLERANCE)


def test_numbers_come_in_the_units_of_the_column(trained: Any, tmp_path: Path) -> None:
    run = trained({"vector": VECTOR}, target={"column": "price", "task": "regression"})
    file = export(run, "torch-export", tmp_path / "model.pt2").file
    inputs = {
        "vector": torch.from_numpy(run.modalities["vector"].load([1, 2, 0, 1]))[None],
        "present": torch.tensor([[True]]),
    }
    given = torch.export.load(file).module()(inputs)["values"]
    assert given.item() == pytest.approx(run.predict({"vector": [1, 2, 0, 1]})[0]["value"], abs=1e-4)


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


def test_components_within_others_are_found() -> None:
    recipe = {
        "modalities": {"video": {"encoder": {"name": "per_step", "encoder": "image_cnn"}}},
        "fusion": {"name": "concat", "inputs": ["video", {"fusion": {"name": "mmreg:borda"}}]},
    }
    assert {("encoder", "image_cnn"), ("fusion", "borda")} <= set(components(recipe))


def test_a_file_that_predicts_otherwise_is_not_kept(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained({"vector": VECTOR})
    right = Program.forward

    def wrong(self: Program, inputs: Any) -> Any:
        outputs = right(self, inputs)
        return {**outputs, "scores": outputs["scores"] + 0.01}

    monkeypatch.setattr(Program, "forward", wrong)
    with pytest.raises(RunError, match=r"was not written: .* 0\.01 off"):
        export(run, "torch-export", tmp_path / "model.pt2")
    assert not list(tmp_path.glob("*model*"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch-export", "onnx"])
@pytest.mark.parametrize("case", ENCODERS)
def test_every_encoder_is_exported(trained: Any, tmp_path: Path, case: str, form: Any) -> None:
    onnx_packages()
    run = trained({"first": ENCODERS[case], "vector": VECTOR}, "concat")
    assert export(run, form, tmp_path / "model").difference <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch-export", "onnx"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_exported_or_refused_by_name(trained: Any, tmp_path: Path, operator: str, form: Any) -> None:
    onnx_packages()
    run = trained({"vector": VECTOR, "second": VECTOR}, operator)
    if form in REFUSED.get(("fusion", operator), {}):
        with pytest.raises(RunError, match=f"fusion {operator}: "):
            export(run, form, tmp_path / "model")
    else:
        assert export(run, form, tmp_path / "model").difference <= TOLERANCE


def test_the_docs_tell_of_each_that_is_refused() -> None:
    page = (Path(mmreg.__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for kind, name in REFUSED:
        assert f"`{name}`" in page, (kind, name)
    for case in ENCODERS:
        assert f"`{case.split()[0]}`" in page
