"""A number that is a few digits too long: a message, and neither a crash, nor a wait, nor a machine without memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmreg
from mmreg.errors import RunError

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
EARLIER = Path(__file__).resolve().parents[1] / "core" / "runs" / "of_0_1"
KINDS = ("modality", "encoder", "fusion", "task", "optimizer", "schedule", "balance", "metric")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[str, str, str, Any, str]]:
    """What came of every bundled component's every number, with 8 GB of memory: kind, name, option, value, outcome."""
    done = subprocess.run(
        [sys.executable, HELPERS / "huge_options.py"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(each) for each in json.loads(done.stdout)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_bundled_component_may_be_far_too_large(kind: str, outcomes: list[Any]) -> None:
    tried = [each for each in outcomes if each[0] == kind]
    assert tried
    assert not [each for each in tried if not each[-1].startswith(("built", "refused: "))]


@pytest.mark.parametrize("kind", ["encoder", "fusion"])
def test_no_size_of_weights_may_be_far_too_large(kind: str, outcomes: list[Any]) -> None:
    built = [each for each in outcomes if each[0] == kind and isinstance(each[3], int) and each[-1] == "built"]
    assert not built


def test_the_message_names_the_component_and_the_sizes(outcomes: list[Any]) -> None:
    told = next(each[-1] for each in outcomes if each[1:4] == ("text_rnn", "features", 10**12))
    assert "modalities.a.encoder: encoder text_rnn asks for 800.0 TB of memory" in told
    assert "a tensor of 1,000,000,000,000 x 200 numbers" in told


@pytest.mark.parametrize(
    ("file", "old", "new", "role"),
    [
        ("recipe.yaml", "      hidden_size: 4\n", "      hidden_size: 4000000000\n", "encoder/words"),
        ("components.json", '"vocabulary_size": 10\n', '"vocabulary_size": 900000000000\n', "encoder/words"),
    ],
)
def test_a_run_that_asks_for_terabytes_is_refused(tmp_path: Path, file: str, old: str, new: str, role: str) -> None:
    folder = shutil.copytree(EARLIER / "whole", tmp_path / "run")
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(RunError, match=f"{role} of the run .* asks for .* [GT]B of memory"):
        mmreg.load(folder, "cpu")
