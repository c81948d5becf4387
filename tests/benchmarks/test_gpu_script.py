"""The script that measures a GPU runs to its end where there is none, on a few rows."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import gpu
import pytest
import torch


@pytest.mark.parametrize("name", ["seed_model", "digits_product"])
def test_it_compares_trainings_with_the_bare_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.SCENARIOS, name, dataclasses.replace(gpu.SCENARIOS[name], rows=32, batch_size=16))
    (figures,) = gpu.measure(name, torch.device("cpu"), 0.0, ["eager"])
    assert figures["lowest"] <= figures["ratio"] <= figures["highest"]
    assert figures["rows_per_second"] > 0
    assert figures["told"] == []


@pytest.mark.slow
def test_steps_of_one_of_several_processes_are_compared_as_well(tmp_path: Path) -> None:
    """In a process of its own, as torch.distributed stays what it has become."""
    wanted = ["--only", "seed_model", "--modes", "one_rank,sharded", "--rows", "64", "--seconds", "0"]
    script = [sys.executable, gpu.__file__, *wanted, "--out", "figures.json"]
    said = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [each["mode"] for each in figures] == ["one_rank", "sharded"]
    for each in figures:
        assert 0 < each["lowest"] <= each["ratio"] <= each["highest"]
        assert each["told"] == []
