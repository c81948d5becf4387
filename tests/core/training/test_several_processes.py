"""Training by four processes comes to what one comes to, and what some have begun another number goes on with."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from trained_by_several import QUICK, RECIPES, by_processes, recipe_of
from trained_together import SPLIT, STOPPED_AT, figures, stopped_recipe, write_table

import mmreg
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.loop import Trainer

TOLERANCE = 2e-5
"""Of losses and metrics: sums in another order, over some steps; of weights ten times as much."""
TRAINING_ROWS = SPLIT.count("train")


def expect_same(alone: Path, together: Path, times: int = 1) -> None:
    """Equal up to the tolerance, or some times that, for kernels that add up in no fixed order."""
    allowed = times * TOLERANCE
    for one, two in zip(figures(alone), figures(together), strict=True):
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=allowed, abs=allowed, nan_ok=True), key
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, together))
    assert list(one) == list(two)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=10 * allowed, rtol=10 * allowed)
    one, two = (json.loads((folder / "report.json").read_text())["test"] for folder in (alone, together))
    assert one["rows"] == two["rows"] == SPLIT.count("test")


def expect_each_row_once_an_epoch(out: Path, name: str, epochs: int) -> None:
    rows = [json.loads((out / f"{name}, {rank}.json").read_text()) for rank in range(4)]
    assert Counter(row for own in rows for row in own) == dict.fromkeys(range(TRAINING_ROWS), epochs)


def four_and_one(folder: Path, names: list[str]) -> Path:
    write_table(folder)
    by_processes(4, folder, folder / "4", *(["train", name] for name in names))
    for name in names:
        mmreg.train(recipe_of(folder, name), folder / "1" / name, device="cpu")
    return folder


@pytest.mark.slow
def test_four_processes_come_to_what_one_comes_to(tmp_path: Path) -> None:
    four_and_one(tmp_path, [QUICK])
    expect_same(tmp_path / "1" / QUICK, tmp_path / "4" / QUICK)
    expect_each_row_once_an_epoch(tmp_path / "4", QUICK, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return four_and_one(tmp_path_factory.mktemp("four"), [name for name in RECIPES if name != QUICK])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name != QUICK])
def test_so_they_do_of_every_recipe(name: str, trained: Path) -> None:
    expect_same(trained / "1" / name, trained / "4" / name)
    expect_each_row_once_an_epoch(trained / "4", name, 2)


@pytest.mark.slow
def test_metrics_are_of_each_validation_row_once(trained: Path) -> None:
    """Of 11 validation rows in four batches each process predicts one, the last of two rows; in two, two have none."""
    for name in ("a batch of fewer rows than processes", "absent, eleven batches"):
        run = mmreg.load(trained / "4" / name)
        told = run.evaluate(str(trained / "table.csv"), split="validation")
        assert told["rows"] == SPLIT.count("validation")
        best = figures(run.folder)[run.report["best"]["epoch"] - 1]
        measured = {name: value for name, value in told["metrics"].items() if f"validation_{name}" in best}
        assert "accuracy" in measured
        for metric, value in measured.items():
            assert best[f"validation_{metric}"] == pytest.approx(value, rel=1e-6), metric


@pytest.mark.parametrize("shard", ["", "shard"])
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def test_one_of_one_comes_to_what_a_process_comes_to(device: str, shard: str, tmp_path: Path) -> None:
    """By NCCL on a GPU, by gloo on a CPU, as torchrun and --devices 1 start it."""
    name = "batch norms, many absent"
    write_table(tmp_path)
    by_processes(1, tmp_path, tmp_path / "together", ["train", name, device, shard])
    mmreg.train(recipe_of(tmp_path, name), tmp_path / "alone", device=device)
    expect_same(tmp_path / "alone", tmp_path / "together" / name, 1 if device == "cpu" else 100)


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [each for part in parts for each in tensors(part)]


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings with shared out weights that two and four have begun, and other numbers have gone on with."""
    folder = tmp_path_factory.mktemp("gone on")
    write_table(folder)
    out = folder / "out"
    by_processes(2, folder, out, ["begin", "by 2"])
    by_processes(4, folder, out, ["begin", "by 4"], ["go on", "by 2", "2 to 4"])
    by_processes(2, folder, out, ["go on", "by 4", "4 to 2"])
    mmreg.train(stopped_recipe(folder), folder / "whole", device="cpu")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "to"), [("by 2", "2 to 4"), ("by 4", "4 to 2"), ("by 4", "4 to 1")])
def test_another_number_of_processes_reads_all_of_a_checkpoint(
    begun: str, to: str, gone_on: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = gone_on / "out"
    kept = load_checkpoint(out / begun)[0]
    assert kept["progress"]["step"] == STOPPED_AT
    if to.endswith("1"):
        shutil.copytree(out / begun, out / to)
        load = Trainer.load_state

        def loaded(self: Trainer, state: Any) -> None:
            load(self, state)
            torch.save(self.state(), out / f"{to}, as read.pt")

        monkeypatch.setattr(Trainer, "load_state", loaded)
        mmreg.train(stopped_recipe(gone_on), out / to, device="cpu", resume=True)
    read = torch.load(out / f"{to}, as read.pt", weights_only=True)
    for part in ("model", "average", "optimizer"):
        one, two = tensors(kept[part]), tensors(read[part])
        assert len(one) == len(two) > 0
        for before, after in zip(one, two, strict=True):
            np.testing.assert_array_equal(before.numpy(), after.numpy())
    expect_same(gone_on / "whole", out / to)
