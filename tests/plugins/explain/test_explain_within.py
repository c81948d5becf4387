"""What counts within a modality: planted words, columns, numbers and regions are found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from needs import needs
from planted import recipe_of, rows_of, trained

import mmreg
from mmreg import Run, Signal, Spec
from mmreg.errors import OptionError
from mmreg_explain import captum_methods, explain_within
from mmreg_explain.parts import columns, regions, words

needs("captum")

ROWS = 120
BASE: dict[str, Any] = {
    "target": {"column": "label", "task": "classification"},
    "split": {"validation": 0.2, "test": 0.0},
    "training": {"epochs": 25, "batch_size": 16, "optimizer": {"name": "AdamW", "lr": 0.02}},
}


def train(folder: Path, rows: list[dict[str, Any]], modality: dict[str, Any]) -> Run:
    folder.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return mmreg.train(
        {**BASE, "table": str(folder.with_suffix(".jsonl")), "modalities": {"only": modality}}, folder, device="cpu"
    )


@pytest.fixture(scope="module")
def numbers_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    label = lambda third: np.where(third["m0"] > 0, "yes", "no")  # noqa: E731
    return trained(tmp_path_factory.mktemp("within") / "numbers", label, epochs=15)


def numbers_rows(count: int) -> list[dict[str, Any]]:
    return rows_of(lambda third: third["m0"] > 0, rows=count, seed=5)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_the_number_that_tells_the_label_is_found(numbers_run: Run, method: Any) -> None:
    found = explain_within(numbers_run, numbers_rows(12), "m0", method=method, of="yes")
    sizes = np.mean([np.abs(each.shares) for each in found], 0)
    assert found[0].names == ["number 1", "number 2", "number 3", "number 4"]
    assert sizes.argmax() == 2
    assert sizes[2] > 3 * np.delete(sizes, 2).max()
    assert [each.key for each in found] == list(range(1, 13))


def test_rows_without_the_modality_are_counted(numbers_run: Run, caplog: pytest.LogCaptureFixture) -> None:
    rows = numbers_rows(5)
    found = explain_within(numbers_run, [{**rows[0], "m0": None}, *rows[1:]], "m0")
    assert [each.key for each in found] == [2, 3, 4, 5]
    assert "1 of 5 rows lack m0" in caplog.text


@pytest.mark.parametrize("fusion", ["product", "mean"])
def test_gradients_go_through_decisions_that_are_fused(tmp_path: Path, fusion: str) -> None:
    table = tmp_path / "rows.jsonl"
    rows = rows_of(lambda third: np.where(third["m0"] > 0, "yes", "no"), rows=60)
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = mmreg.train({**recipe_of(table, ["m0", "m1"], epochs=1), "fusion": fusion}, tmp_path / "run", device="cpu")
    (found,) = explain_within(run, numbers_rows(1), "m0", method="integrated_gradients", of="yes")
    assert float(np.abs(found.shares).sum()) > 0
    assert found.key_name == "row"


def test_integrated_gradients_add_up_and_occlusion_is_what_prediction_changes(numbers_run: Run) -> None:
    rows = numbers_rows(4)
    for each in explain_within(numbers_run, rows, "m0"):
        assert each.shares.sum() == pytest.approx(each.value - each.base, abs=0.02)
        assert each.array is not None
        np.testing.assert_allclose(each.array, each.shares)
    modality = numbers_run.modalities["m0"]
    zero = modality.transform(Signal(torch.zeros(1, 4)), training=False).values[0, 2]
    unit = modality.transform(Signal(torch.ones(1, 4)), training=False).values[0, 2] - zero
    mean = float(-zero / unit)  # the value that becomes zero: the training rows' mean
    changed = [{**row, "m0": [*row["m0"][:2], mean, row["m0"][3]]} for row in rows]
    found = explain_within(numbers_run, rows, "m0", method="occlusion", of="yes")
    ask = lambda given: np.array([row["probability_yes"] for row in numbers_run.predict(given)])  # noqa: E731
    np.testing.assert_allclose([each.shares[2] for each in found], ask(rows) - ask(changed), atol=1e-5)


def test_numbers_are_told_in_the_targets_units(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", lambda third: 1000 * third["m0"] + 5, task="regression", epochs=10)
    for each in explain_within(run, numbers_rows(3), "m0"):
        assert each.shares.sum() == pytest.approx(each.value - each.base, abs=0.02 * abs(each.value - each.base) + 5)


def test_the_word_that_tells_the_label_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    filler = ["some", "words", "that", "say", "nothing"]
    rows = []
    for number in range(ROWS):
        label = ("good", "bad")[number % 2]
        text = [*random.permutation(filler)[:3].tolist(), label]
        rows.append({"label": label, "text": " ".join(random.permutation(text).tolist())})
    encoder = {"name": "text_bag", "features": 8, "dropout": 0.0}
    run = train(tmp_path / "run", rows, {"type": "text", "column": "text", "encoder": encoder})
    found = explain_within(run, rows[:10], "only")
    assert all(each.kind == "words" and each.method == "occlusion" for each in found)
    for row, each in zip(rows, found, strict=False):
        assert each.names == row["text"].split()
        assert each.names[int(each.shares.argmax())] == row["label"]
        without = run.predict({"text": " ".join(word for word in row["text"].split() if word != row["label"])})[0]
        share = each.value - without[f"probability_{each.output}"]
        assert each.shares.max() == pytest.approx(share, abs=1e-6)
    (single,) = explain_within(run, [{"text": "good"}], "only")
    assert single.shares.tolist() == pytest.approx([single.value - single.base])
    with pytest.raises(OptionError, match="words of 'only' are there or not"):
        explain_within(run, rows[:1], "only", method="integrated_gradients")
    assert explain_within(run, [{"text": ""}, {"text": "bad"}], "only")[0].key == 2


def test_the_column_that_tells_the_label_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        {
            "size": float(random.normal()),
            "colour": str(random.choice(["red", "blue"])),
            "kind": str(random.choice(["a", "b"])),
        }
        for _ in range(ROWS)
    ]
    rows = [{**row, "label": "hot" if row["colour"] == "red" else "cold"} for row in rows]
    run = train(
        tmp_path / "run", rows, {"type": "tabular", "columns": ["size", "colour", "kind"], "encoder": "tabular_mlp"}
    )
    found = explain_within(run, [*rows[:5], {**rows[5], "size": None}], "only")
    for each in found:
        assert each.names[int(np.abs(each.shares).argmax())] == "colour"
    assert [len(each.names) for each in found] == [3, 3, 3, 3, 3, 2]


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_the_region_that_tells_the_label_is_found(tmp_path: Path, method: Any) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        pixels = random.integers(90, 110, (16, 16, 3), dtype=np.uint8)
        label = number % 2
        pixels[4:6, 8:10] = 255 if label else 0
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append({"label": label, "image": str(tmp_path / f"{number}.png")})
    encoder = {"name": "image_cnn", "channels": [8], "features": 8}
    image = {"column": "image", "type": "image", "size": 16, "augment": "none", "encoder": encoder}
    run = train(tmp_path / "run", rows, image)
    found = explain_within(run, rows[:4], "only", method=method)
    for each in found:
        assert each.names[int(each.shares.argmax())] == "rows 5-6, columns 9-10"
        assert each.array is not None
        assert each.array.shape == (3, 16, 16)
        assert len(each.names) == 64


def test_sound_is_told_in_bands_and_frames_as_long_as_it_is() -> None:
    spec = Spec("CHW", (1, 20, None))
    divided = regions(spec, Signal(torch.zeros(1, 1, 20, 11), torch.tensor([9])))
    assert divided.names[0] == "bands 1-3, frames 1-2"
    assert divided.names[-1] == "bands 19-20, frames 9-9"
    mask = divided.mask[0, 0]
    assert int(mask[0, 1]) == 0
    assert int(mask[19, 8]) == int(mask[19, 10]) == len(divided.names) - 1
    assert len(mask.unique()) == len(divided.names) == 64
    steps = regions(Spec("TC", (None, 2)), Signal(torch.zeros(1, 5, 2), torch.tensor([5])))
    assert steps.names == [f"steps {n}-{n}" for n in range(1, 6)]


def test_texts_and_rows_are_taken_apart_a_part_at_a_time() -> None:
    assert words(" a  b\nc") == [("a", "b\nc"), ("b", "a  c"), ("c", "a  b")]
    assert columns({"a": 1, "b": None, "c": 2}) == [
        ("a", {"a": None, "b": None, "c": 2}),
        ("c", {"a": 1, "b": None, "c": None}),
    ]


def test_what_cannot_be_looked_into_is_told(numbers_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = numbers_rows(2)
    with pytest.raises(OptionError, match="no modality 'm7'; it has m0, m1"):
        explain_within(numbers_run, rows, "m7")
    with pytest.raises(OptionError, match="there is no 'magic'"):
        explain_within(numbers_run, rows, "m0", method="magic")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(captum_methods.MissingPackageError, match=r"pip install 'mmreg\[explain\]'"):
        explain_within(numbers_run, rows, "m0")
