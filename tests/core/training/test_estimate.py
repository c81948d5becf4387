"""How long a training is expected to take: from steps of which a clock of our own says how long they took."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import make_folder

from mmreg.data.decode import num_workers
from mmreg.errors import DataError
from mmreg.training import estimate
from mmreg.training.estimate import expected_seconds


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """One of 36 training, 12 validation and 12 test rows, for 2 epochs in batches of 16."""
    return make_folder(tmp_path) / "recipe.yaml"


@pytest.mark.parametrize(
    ("tick", "step"),
    [(0.125, 0.125), (0.5, 1.0)],
    ids=["steps of 16 rows are tried", "those of 8 already take long, so that twice the time is expected"],
)
def test_the_time_of_a_step_goes_for_all_epochs(
    tick: float, step: float, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, tick)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    decoding = 60 * tick / estimate.SAMPLE / num_workers()
    learning = 2 * 36 * step / 16
    validating = 2 * 12 * step / 16 / estimate.BACKWARD
    assert expected_seconds(recipe) == pytest.approx(decoding + learning + validating)


def test_the_fastest_step_counts_and_the_first_does_not(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.accumulate([0.0, 0.0, 9.0, 0.25, 0.5] * 2)  # decoding takes none, and then there are three steps
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert expected_seconds(recipe) == pytest.approx(2 * (36 + 12 / estimate.BACKWARD) * 0.25 / 16)


def test_what_is_encoded_once_counts_once_and_steps_do_without(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recipe.read_text()
    for name in ("image_cnn", "text_rnn", "audio_cnn"):
        text = text.replace(f"name: {name},", f"name: {name}, freeze: true,")
    recipe.write_text(text)
    # Decoding takes 0, encoding 14 s for 16 rows after a look at 8 and 4, and a step 0.25 s; no more is tried then.
    now = itertools.accumulate([0.0, 0.0, 0.0, 14.0, 9.0, 0.5, 0.5])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    encoding, learning = 60 * 14 / (16 + 8 + 4), 2 * (36 + 12 / estimate.BACKWARD) * 1.0 / 16
    assert expected_seconds(recipe) == pytest.approx(encoding + learning)


def test_no_file_and_no_random_state_changes(recipe: Path) -> None:
    before = sorted(recipe.parent.rglob("*"))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert expected_seconds(recipe) > 0
    assert torch.equal(torch.rand(2), expected)
    assert sorted(recipe.parent.rglob("*")) == before


def test_rows_that_cannot_be_decoded_are_an_error(recipe: Path) -> None:
    for picture in recipe.parent.glob("images/*"):
        picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be loaded"):
        expected_seconds(recipe)
