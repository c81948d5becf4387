"""The third-party plugin of the documentation: built, installed, listed, checked and trained with, in processes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from wheels import several

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "mmreg-motion"

RECIPE = """
table: gestures.csv
split: {validation: 0.2, test: 0.25}
target: {column: gesture}
modalities:
  motion: {column: recording, sample_rate: 20, encoder: {name: motion_tcn, channels: 16, blocks: 2, features: 16}}
  note: {type: text, column: note, encoder: {name: text_rnn, embedding_size: 16, hidden_size: 16, num_layers: 1}}
fusion: {name: geometric, weights: {motion: 2}}
training: {epochs: 10, batch_size: 16, optimizer: {name: Adam, lr: 0.01}, seed: 0}
"""


def run(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with what is installed in a folder; it must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(path or "")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin's wheel installed."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(EXAMPLE))
    (wheel,) = wheels.glob("mmreg_motion-0.2.0-*.whl")
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    return target


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of four gestures: the motion tells two of them from two, a note the others."""
    folder = tmp_path_factory.mktemp("gestures")
    random = np.random.default_rng(0)
    (folder / "recordings").mkdir()
    with (folder / "gestures.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "note", "gesture"])
        for number in range(160):
            slow, left = random.integers(2, size=2)
            time = np.arange(random.integers(20, 60)) / 20
            shaken = 5 * np.sin(2 * np.pi * (0.5 if slow else 3) * time + random.uniform(0, 6))
            readings = np.stack([shaken, random.normal(0, 1, len(time)), 9.81 + 0 * time], 1)
            path = f"recordings/{number}.{'csv' if number % 2 else 'npy'}"
            if number % 2:
                np.savetxt(folder / path, readings, delimiter=",", header="x,y,z", comments="")
            else:
                np.save(folder / path, readings)
            words = [*random.choice(["arm", "hand", "moved", "then"], 3), "left" if left else "right"]
            absent = random.random(2) < 0.05
            gesture = f"{'slow' if slow else 'fast'} {'left' if left else 'right'}"
            writer.writerow(["" if absent[0] else path, "" if absent[1] else " ".join(words), gesture])
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


COMMANDS = {
    "list": ["list", "--format", "json"],
    "train": ["train", "recipe.yaml", "--out", "run", "--quiet"],
    "evaluate": ["evaluate", "run", "--format", "json"],
    "init": ["init", "gestures.csv", "--target", "gesture", "--out", "first.yaml"],
    "check": ["check", "mmreg-motion"],
}


Done = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def done(site: Path, gestures: Path) -> Done:
    """Each command, called where the plugin is installed, in the folder of gestures."""
    done = dict(zip(COMMANDS, several(*COMMANDS.values(), path=site, cwd=gestures), strict=True))
    assert {name: each.stderr for name, each in done.items() if each.returncode and name != "check"} == {}
    return done


def test_its_components_are_listed_with_distribution_and_version(done: Done) -> None:
    rows = json.loads(done["list"].stdout)
    found = {(row["kind"], row["name"], row["level"]) for row in rows if row["distribution"] == "mmreg-motion"}
    assert found == {("modality", "motion", ""), ("encoder", "motion_tcn", ""), ("fusion", "geometric", "model")}
    assert {row["version"] for row in rows if row["distribution"] == "mmreg-motion"} == {"0.2.0"}


def test_a_training_with_it_is_far_better_than_chance(done: Done, gestures: Path) -> None:
    metrics = json.loads(done["evaluate"].stdout)["metrics"]
    assert metrics["accuracy"] > 0.75  # chance is 0.25, and either modality alone can reach 0.5
    assert set(metrics["modalities"]) == {"motion", "note"}
    components = json.loads((gestures / "run" / "components.json").read_text())["components"].values()
    ours = {each["name"] for each in components if (each["distribution"], each["version"]) == ("mmreg-motion", "0.2.0")}
    assert ours == {"motion", "motion_tcn", "geometric"}


def test_init_recognises_its_recordings(done: Done, gestures: Path) -> None:
    written = yaml.safe_load((gestures / "first.yaml").read_text())
    found = {name: given.get("type", name) for name, given in written["modalities"].items()}
    assert sorted(found.values()) == ["motion", "text"]


def test_it_conforms(done: Done) -> None:
    assert done["check"].returncode == 0, done["check"].stdout


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    options = ("-W", "error", "-c", os.devnull, "-p", "no:cacheprovider", "-k", "not conforms")  # that is checked above
    done = run("-m", "pytest", *options, str(EXAMPLE / "tests"), path=site, cwd=tmp_path)
    assert " passed" in done.stdout
