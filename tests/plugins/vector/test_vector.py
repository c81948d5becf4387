"""Vectors from lists, arrays, texts and files: read, normalised and encoded.

Axes: B batch, T time, C numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import MmregError, OptionError, SpecError, ValueLoadError
from mmreg_vector.mlp import VectorMLP
from mmreg_vector.modality import Vector
from mmreg_vector.reading import read_array

RANDOM = np.random.default_rng(0)


def fitted(values: list[Any], **options: Any) -> Vector:
    modality = Vector(**options)
    modality.fit_values(iter(values))
    modality.fit_arrays(iter([modality.load(value) for value in values]))
    return modality


def test_all_forms_of_a_vector_are_read_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([0.5, 1.0, -2.0]))
    forms = [
        np.array([0.5, 1, -2], np.float64),
        [0.5, 1, -2],
        "[0.5, 1, -2]",
        tmp_path / "[0.5, 1, -2]",
        tmp_path / "v.npy",
        (tmp_path / "v.npy").read_bytes(),
    ]
    for form in forms:
        found = read_array(form)
        assert found.dtype == np.float32
        assert found.tolist() == [0.5, 1.0, -2.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "a list of different lengths"),
        (["a", "b"], "values of the kind"),
        ([1, float("nan")], r"it holds nan at \[1\], which is no finite number"),
        ([1e300], r"it holds 1e\+300 at \[0\]"),
        ([], r"it has the shape \(0,\)"),
        (3.5, r"it has the shape \(\)"),
        (np.zeros((1, 2, 3)), r"it has the shape \(1, 2, 3\)"),
        ("far away", "is neither the path of a .npy file nor a list"),
        (Path("[1, 2"), "is neither the path of a .npy file nor a list"),
        (Path("nowhere.npy"), "there is no such file"),
        (b"\x93NUMPY\x01\x00", "is no .npy file of numbers"),
        ({"a": 1}, "a dict, where a vector of numbers is needed"),
    ],
)
def test_what_is_no_vector_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueLoadError, match=message):
        read_array(value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", a=np.ones(2))
    with pytest.raises(ValueLoadError, match="file of numbers"):
        read_array(tmp_path / "evil.npy")
    with pytest.raises(ValueLoadError, match="holds several arrays"):
        read_array(tmp_path / "many.npz")
    with pytest.raises(ValueLoadError, match=r"a folder, where a \.npy file is needed"):
        read_array(tmp_path)


def test_the_training_rows_say_what_a_vector_is() -> None:
    vector, sequence = fitted([[1, 2, 3], [4, 5, 7]]), fitted([np.ones((4, 2)), np.zeros((1, 2))])
    assert vector.spec == Spec("C", (3,))
    assert sequence.spec == Spec("TC", (None, 2))
    with pytest.raises(ValueLoadError, match=r"it has the shape \(2,\), where a vector of 3 is needed"):
        vector.load([1, 2])
    with pytest.raises(ValueLoadError, match=r"where a sequence of vectors of 2 is needed"):
        sequence.load([1, 2])
    told = r"several sizes: 2 numbers \(1 row\), sequences of 3 numbers \(1 row\); give size"
    with pytest.raises(OptionError, match=told):
        Vector().fit_values(iter([[1, 2], [[1, 2, 3]]]))
    with pytest.raises(OptionError, match="no training row holds a vector"):
        Vector().fit_values(iter([]))
    chosen = Vector(size=2, sequence=False)
    chosen.fit_values(iter([[1, 2, 3]]))
    assert chosen.spec == Spec("C", (2,))
    with pytest.raises(MmregError, match="call fit_values or load_state first, or give it"):
        _ = Vector().spec


def test_numbers_are_normalised_over_the_training_rows() -> None:
    rows = RANDOM.normal(1e4, [1, 5, 0], (50, 3))
    modality = fitted(list(rows))
    found = modality.transform(Signal(torch.tensor(rows, dtype=torch.float32)), training=False).values.numpy()
    expected = (rows[:, :2] - rows[:, :2].mean(0)) / rows[:, :2].std(0)
    np.testing.assert_allclose(found[:, :2], expected, atol=2e-3)  # float32 of numbers about 10,000
    assert abs(found[:, 2]).max() < 1e-2
    steps = fitted([rows[:7], rows[7:]])
    np.testing.assert_allclose(steps.state()["mean"], rows.mean(0), rtol=1e-6)


def test_vectors_may_be_of_unit_length_or_as_they_are() -> None:
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    unit = fitted([[3, 4]], normalize="unit").transform(Signal(values), training=False).values
    assert unit.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert torch.equal(fitted([[3, 4]], normalize="none").transform(Signal(values), training=False).values, values)


def test_the_perceptron_is_its_formula() -> None:
    encoder = VectorMLP(Spec("C", (3,)), features=4, hidden=(5,)).eval()
    values = torch.randn(6, 3)
    first, last = encoder.mlp[0], encoder.mlp[-1]
    expected = (values @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias
    torch.testing.assert_close(encoder(Signal(values)).pooled, expected)
    with pytest.raises(SpecError, match="sequences of them go to rnn"):
        VectorMLP(Spec("TC", (None, 3)))


@pytest.mark.parametrize(
    "encoder",
    [
        "mlp",
        {"name": "text_rnn", "hidden_size": 8, "num_layers": 1},
        {"name": "transformer", "hidden_size": 16, "num_layers": 1},
    ],
)
def test_vectors_and_sequences_train_from_files_and_lists(tmp_path: Path, encoder: Any) -> None:
    rows = []
    for number in range(80):
        label = number % 2
        array = RANDOM.normal(label * 2 - 1, 1, 6 if encoder == "mlp" else (1 + number % 5, 6))
        np.save(tmp_path / f"{number}.npy", array)
        cell = f"{number}.npy" if number % 3 else str(tmp_path / f"{number}.npy")
        rows.append(f"{cell},{'ab'[label]},{['train', 'train', 'validation', 'test'][number // 2 % 4]}")
    (tmp_path / "t.csv").write_text("\n".join(["vector,label,split", *rows]) + "\n")
    recipe = {
        "table": str(tmp_path / "t.csv"),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"vector": {"encoder": encoder}},
        "training": {"epochs": 8, "batch_size": 8, "optimizer": {"name": "AdamW", "lr": 0.01}},
    }
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run/report.json").read_text())["test"]["metrics"]["accuracy"] > 0.8
    new = [{"vector": np.ones(6) if encoder == "mlp" else np.ones((3, 6))}]
    assert mmreg.load(tmp_path / "run").predict(new) == run.predict(new)


def test_init_proposes_it_for_vectors_of_one_size(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones(4))
    assert Vector.suggest([np.ones(4), np.zeros(4)]) == {}
    assert Vector.suggest([tmp_path / "v.npy"] * 3) == {}
    assert Vector.suggest([np.ones(4), np.zeros(5)]) is None
    assert Vector.suggest([np.ones((2, 4))] * 2) is None
    assert Vector.suggest(["a", "b"]) is None
