"""A profiled training says where its time went, to the last bit, and is the same training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import call, make_folder

import mmreg
from mmreg.errors import TrainingError
from mmreg.training.profiling import busy_share, operators, read_profile
from mmreg.training.step import TrainingStep

SHORT = ["training.epochs=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("profiling"))
    mmreg.train(folder / "recipe.yaml", folder / "plain", overrides=SHORT)
    mmreg.train(folder / "recipe.yaml", folder / "profiled", overrides=SHORT, profile=True)
    return folder


def where(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "profiled/profile/where.csv").open(encoding="utf-8", newline="") as file:
        return {row["part"]: row for row in csv.DictReader(file)}


def test_the_weights_and_the_figures_are_those_of_a_training_that_is_not_profiled(folder: Path) -> None:
    plain, profiled = (load_file(folder / name / "model.safetensors") for name in ("plain", "profiled"))
    assert plain.keys() == profiled.keys()
    assert all(torch.equal(plain[name], profiled[name]) for name in plain)
    figures = [(folder / name / "metrics.csv").read_text() for name in ("plain", "profiled")]
    assert figures[0] == figures[1]


def test_the_parts_sum_to_the_whole(folder: Path) -> None:
    rows = where(folder)
    whole = float(rows.pop("whole")["seconds"])
    assert sum(float(row["seconds"]) for row in rows.values()) == pytest.approx(whole, abs=1e-4)
    assert whole > 0


def test_every_component_and_every_stage_has_a_part(folder: Path) -> None:
    inputs = ("image", "title", "audio")
    stages = {"preparing", "waiting for data", "copies", "loss", "backward", "optimizer", "head", "fusion/product"}
    stages |= {"validation", "checkpoint", "evaluation", "callbacks", "traced steps", "rest", "whole"}
    assert set(where(folder)) == {
        *stages,
        *(f"transform/{name}" for name in inputs),
        *(f"encoder/{name}" for name in inputs),
    }


def test_parts_are_counted(folder: Path) -> None:
    rows = where(folder)
    traced = 2  # a quarter of 9 steps
    assert rows["optimizer"]["calls"] == str(9 - traced)
    assert rows["head"]["calls"] == str(3 * (9 - traced))
    assert rows["validation"]["calls"] == rows["checkpoint"]["calls"] == "3"
    assert rows["evaluation"]["calls"] == "1"


def test_the_trace_is_one_that_browsers_show_with_the_parts_in_it(folder: Path) -> None:
    trace = json.loads((folder / "profiled/profile/trace.json").read_text(encoding="utf-8"))
    named = [event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"]
    assert {"encoder/image", "transform/audio", "fusion/product", "backward"} <= set(named)
    assert named.count("backward") == 2


def test_a_training_that_is_not_profiled_leaves_no_profile_and_removes_an_earlier_one(folder: Path) -> None:
    assert not (folder / "plain/profile").exists()
    again = folder / "again"
    mmreg.train(folder / "recipe.yaml", again, overrides=SHORT, profile=True)
    assert (again / "profile/where.csv").is_file()
    mmreg.train(folder / "recipe.yaml", again, overrides=SHORT, overwrite=True)
    assert not (again / "profile").exists()


def test_epochs_of_one_step_are_traced_too(folder: Path) -> None:
    long = ["training.epochs=8", "training.batch_size=64"]
    mmreg.train(folder / "recipe.yaml", folder / "epochs", overrides=long, profile=True)
    trace = json.loads((folder / "epochs/profile/trace.json").read_text(encoding="utf-8"))
    named = [event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"]
    assert named.count("backward") == 1


def test_a_training_of_one_step_has_a_table(folder: Path) -> None:
    mmreg.train(folder / "recipe.yaml", folder / "one", overrides=["training.max_steps=1"], profile=True)
    rows, _, _ = read_profile(folder / "one")
    assert rows[-1]["part"] == "whole"


def test_a_training_that_fails_while_it_is_traced_leaves_nothing_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = TrainingStep.__call__

    def failing(self: TrainingStep, group: Any, number: int, weight: float, parts: Any = None) -> Any:
        if number == 3:
            raise TrainingError("it ends here")
        return call(self, group, number, weight, parts)

    monkeypatch.setattr(TrainingStep, "__call__", failing)
    with pytest.raises(TrainingError, match="it ends here"):
        mmreg.train(folder / "recipe.yaml", folder / "failing", overrides=SHORT, profile=True)
    monkeypatch.undo()
    with torch.profiler.profile(acc_events=True) as profiler:  # a second one would be refused
        torch.ones(2).sum()
    assert profiler.key_averages()


def test_the_command_shows_the_table_and_the_operators(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = str(folder / "recipe.yaml"), "--out", str(folder / "told")
    done = call(monkeypatch, capsys, "train", *paths, "--profile", "--set", SHORT[0], "-q")
    assert done.code == 0, done.err
    table = done.out.partition("Where the time went")[2]
    assert "encoder/audio" in table
    assert "whole" in table
    assert "aten::" in table.partition("took longest")[2]
    assert "trace.json" in done.err
    assert "gpuGetDeviceCount" not in done.err


def test_operators_are_ordered_by_their_own_time_and_regions_are_none() -> None:
    def operator(key: str, cpu: float, gpu: float, is_user_annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            key=key, count=2, self_cpu_time_total=cpu, self_device_time_total=gpu, is_user_annotation=is_user_annotation
        )

    given = [operator("mm", 1e6, 5e6), operator("add", 2e6, 1e6), operator("backward", 9e6, 9e6, True)]
    assert operators(given, gpu=False) == [
        {"operator": "add", "calls": 2, "cpu_seconds": 2.0},
        {"operator": "mm", "calls": 2, "cpu_seconds": 1.0},
    ]
    assert [row["operator"] for row in operators(given, gpu=True)] == ["mm", "add"]
    assert operators(given, gpu=True)[0]["gpu_seconds"] == 5.0


@pytest.mark.parametrize(
    ("kernels", "share"),
    [
        ([(0.0, 4.0)], 1.0),
        ([(6.0, 8.0), (0.0, 2.0)], 0.5),
        ([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (9.0, 10.0)], 0.6),  # they overlap
    ],
)
def test_the_busy_share_is_that_of_the_union(kernels: list[tuple[float, float]], share: float) -> None:
    assert busy_share(kernels) == pytest.approx(share)
