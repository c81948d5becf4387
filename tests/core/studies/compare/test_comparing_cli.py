"""`mmreg compare` as a process, with bundled components, and how its options are read."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmreg.cli.app import build_app
from mmreg.cli.compare import _encoder
from mmreg.cli.grids import read_choices, read_seeds
from mmreg.errors import OptionError, RecipeError

RECIPE = """
table: table.csv
split: split
key: id
target: {column: label}
modalities:
  title: {type: text, encoder: {name: text_rnn, embedding_size: 4, hidden_size: 4, num_layers: 1, features: 4}}
  body: {type: text, encoder: {name: text_rnn, embedding_size: 4, hidden_size: 4, num_layers: 1, features: 4}}
fusion: concat
training: {epochs: 2, batch_size: 16}
"""


def write(folder: Path) -> None:
    """Two texts that each tell one half of the label, with validation rows that lack both."""
    draw = random.Random(0)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "body", "label", "split"])
        for number in range(60):
            a, b = draw.randrange(2), draw.randrange(2)
            split = "train" if number < 38 else "validation" if number < 40 else "test"
            texts = ["", ""] if split == "validation" else [["red", "blue"][a], ["cat sat", "dog ran"][b]]
            writer.writerow([f"r{number}", *texts, f"{a}{b}", split])
    (folder / "recipe.yaml").write_text(RECIPE)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmreg", "compare", "recipe.yaml", "--seeds", "0", "--device", "cpu", *arguments]
    environment = {**os.environ, "MMREG_DISABLE_PLUGINS": "report"}  # to draw curves takes longer than to train
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_grid_runs_side_by_side_and_reports_the_one_that_fails(tmp_path: Path) -> None:
    write(tmp_path)
    done = run(
        tmp_path, "--fusion", "concat,{name: product}", "--fusion", "stacking", "--no-singles", "--jobs", "2",
        "--out", "out", "--resamples", "200", "--format", "json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    data = json.loads(done.stdout)
    assert {variant["name"] for variant in data["variants"]} == {"concat", "product"}
    (failed,) = data["failed"]
    assert failed["variant"] == "stacking"
    assert failed["reason"].startswith("Stacking is fitted on held-out rows")
    assert (data["rows"], data["split"], data["metric"]) == (20, "test", "accuracy")
    assert all(variant["memory_bytes"] > 2**20 for variant in data["variants"])
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == data
    assert "[3/3]" in done.stderr
    assert "stacking, seed 0: failed: Stacking" in done.stderr
    options = ["--fusion", "concat,product", "--no-singles", "--seeds", "0", "--resamples", "200"]
    arguments = ["compare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), *options]
    again = CliRunner().invoke(build_app(), [*arguments, "--device", "cpu"])
    assert again.exit_code == 0, again.output
    assert "[" not in again.stderr.partition("written:")[0]  # nothing was trained
    lines = again.stdout.splitlines()
    assert lines[0].split()[:3] == ["variant", "accuracy", "f1"]
    assert max(map(len, lines[:3])) <= 100
    assert "on 20 test rows" in lines[-1]


def test_wrong_variants_end_it_with_every_problem(tmp_path: Path) -> None:
    write(tmp_path)
    options = ["--fusion", "konkat,concat", "--encoder", "title=text_rnn,texd_rnn", "--balance", "none,own_loses"]
    options += ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(build_app(), ["compare", str(tmp_path / "recipe.yaml"), *options])
    assert isinstance(result.exception, RecipeError)
    text = str(result.exception)
    assert "3 problems" in text
    assert "did you mean 'concat'" in text
    assert "did you mean 'text_rnn'" in text
    assert "did you mean 'own_losses'" in text
    assert not (tmp_path / "out").exists()


def test_seeds_are_numbers_and_ranges() -> None:
    assert read_seeds("0..4") == [0, 1, 2, 3, 4]
    assert read_seeds("3") == [3]
    assert read_seeds("0, 2..3,9") == [0, 2, 3, 9]
    for text in ("", "a", "3..1", "1,", "-1", "0..", "1.5"):
        with pytest.raises(OptionError, match="--seeds needs"):
            read_seeds(text)


def test_choices_are_names_and_mappings() -> None:
    assert read_choices("concat, low_rank", "--fusion") == ["concat", "low_rank"]
    mapping = {"name": "low_rank", "rank": 8}
    assert read_choices("{name: low_rank, rank: 8}", "--fusion") == [mapping]
    assert read_choices("mmreg:concat,{name: low_rank, rank: 8}", "--fusion") == ["mmreg:concat", mapping]
    assert _encoder("image={name: low_rank, rank: 8},vit") == ("image", [mapping, "vit"])
    for text in ("3", "{rank: 8}", "", "[a]"):
        with pytest.raises(OptionError, match="--fusion"):
            read_choices(text, "--fusion")
    with pytest.raises(OptionError, match="MODALITY=NAME"):
        _encoder("image_cnn")
