"""A training among broken plugins: it takes what it needs from those that work and says where that came from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from faulty_plugins import BROKEN, WRONG_HOOKS
from wheels import several

RECIPE = """
table: lines://{table}
split: split
target: {{column: label, task: classification}}
modalities:
  first: {{type: text, column: first, encoder: {{name: 'mmreg_two:tiny', width: 6}}}}
  second: {{type: text, column: second, encoder: neighbour}}
training: {{epochs: 2, batch_size: 8, seed: 0}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    splits = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
    rows = [f"word{number % 5},some{number % 3},{'ab'[number % 2]},{split}" for number, split in enumerate(splits)]
    (folder / "table.txt").write_text("\n".join(["first,second,label,split", *rows]) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(table=folder / "table.txt"))
    return folder


@pytest.fixture(scope="module")
def ended(everything: Path, folder: Path) -> list[CompletedProcess[str]]:
    """A training, and a look at a recipe that names a component of two distributions."""
    validate = ["validate", "recipe.yaml", "--set", "modalities.first.encoder=tiny"]
    return several(["train", "recipe.yaml", "--out", "run"], validate, path=everything, cwd=folder)


@pytest.fixture(scope="module")
def training(ended: list[CompletedProcess[str]]) -> CompletedProcess[str]:
    return ended[0]


def lines(process: CompletedProcess[str], distribution: str) -> list[str]:
    return [line for line in process.stderr.splitlines() if f"({distribution} " in line]


def test_it_succeeds_and_says_each_broken_plugin_once(training: CompletedProcess[str]) -> None:
    assert training.returncode == 0, training.stderr
    for name in BROKEN:
        assert len(lines(training, f"mmreg-{name}")) == 1, name
    assert "NOISE" not in training.stdout


def test_the_run_records_whose_components_it_used(training: CompletedProcess[str], folder: Path) -> None:
    components = json.loads((folder / "run/components.json").read_text())["components"]
    first = {"name": "tiny", "distribution": "mmreg-two", "version": "2.5", "component_version": 1}
    second = {"name": "neighbour", "distribution": "mmreg-partial", "version": "1.0", "component_version": 1}
    found = [components[role] for role in ("encoder/first", "encoder/second")]
    assert [len(each.pop("code")) for each in found] == [32, 32]
    assert found == [first, second]
    assert "mmreg-two:tiny" in (folder / "run/recipe.yaml").read_text()


def test_the_table_of_a_plugin_is_called_by_its_name(training: CompletedProcess[str], folder: Path) -> None:
    table = json.loads((folder / "run/components.json").read_text())["table"]
    assert (table["name"], table["rows"]) == (
        f"lines://{folder}/table.txt",
        {"train": 16, "validation": 4, "test": 4},
    )


def test_callbacks_get_every_event_and_cannot_change_what_the_run_writes(
    training: CompletedProcess[str], folder: Path
) -> None:
    assert json.loads((folder / "run/events.json").read_text()) == [
        ["start", 16],
        ["epoch", 1],
        ["epoch", 2],
        ["evaluation", "validation", 4],
        ["evaluation", "test", 4],
        ["end", 2, True],
    ]
    assert (folder / "run/metrics.csv").read_text().startswith("epoch,step,learning_rate,train_loss,")
    assert json.loads((folder / "run/report.json").read_text())["test"]["rows"] == 4


def test_a_failing_callback_is_reported_once_and_left_out(training: CompletedProcess[str]) -> None:
    assert lines(training, "mmreg-callbacks") == [
        f"mmreg: plugin callbacks (mmreg-callbacks 1.0) is left out of this training: {what}"
        for what in ("Exiting.on_start raised SystemExit: 4", "Failing.on_epoch_end raised ValueError: one error")
    ]


@pytest.mark.parametrize("name", [name for name in WRONG_HOOKS if name.startswith(("callbacks", "sources"))])
def test_a_wrong_hook_is_reported_and_stops_nothing(name: str, training: CompletedProcess[str]) -> None:
    said = lines(training, f"mmreg-{name}")
    assert re.search(WRONG_HOOKS[name][2], said[0])
    assert len(set(said)) == 1


def test_the_report_names_the_plugins(training: CompletedProcess[str], folder: Path) -> None:
    text = (folder / "run/report.md").read_text()
    assert "| encoder/first | tiny | mmreg-two | 2.5 |" in text


def test_a_bare_name_of_two_distributions_is_an_error_in_a_recipe(ended: list[CompletedProcess[str]]) -> None:
    assert ended[1].returncode == 2
    assert "say which one: 'mmreg-one:tiny' or 'mmreg-two:tiny'" in ended[1].stderr
