"""Runs on the Hugging Face hub, from a stand-in on this computer: what is fetched, and what is said otherwise."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import hub
import pytest

import mmreg
from mmreg.errors import MissingPackageError, RunError
from mmreg.runs.hub import fetch, is_on_hub

pytest.importorskip("huggingface_hub")

ROWS = [{"size": float(number % 2), "kind": ("small", "large")[number % 2]} for number in range(40)]
SCRIPT = """
import json, sys
import mmreg

results = {}
for address in json.loads(sys.argv[1]):
    try:
        run = mmreg.load(address, "cpu")
        results[address] = [str(run.folder), run.predict([{"size": 1.0}])]
    except mmreg.MmregError as error:
        results[address] = str(error)
print(json.dumps(results))
if sys.argv[2:]:
    from mmreg.cli import main

    sys.argv = ["mmreg", *sys.argv[2:]]
    main()
"""
GOOD, ALSO_GOOD = "hf://someone/kinds", "hf://someone/kinds@v1"
OTHER, GONE, NEVER = "hf://someone/other", "hf://someone/gone", "hf://someone/kinds@v9"


@dataclass(frozen=True)
class Fetched:
    """What loading addresses came to, and which files were asked for."""

    results: dict[str, Any]
    files: list[str]
    trained: mmreg.Run
    environment: dict[str, str]


def load(addresses: list[str], environment: dict[str, str], *command: str) -> dict[str, Any]:
    """Load runs, and run a command, in a process of its own, as the library reads its settings once."""
    done = forked.run(["-c", SCRIPT, json.dumps(addresses), *command], env=environment)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return results


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    place = tmp_path_factory.mktemp("hub")
    recipe = {
        "table": ROWS,
        "target": {"column": "kind"},
        "modalities": {"facts": {"type": "tabular", "columns": ["size"]}},
        "training": {"epochs": 1},
    }
    run = mmreg.train(recipe, place / "run", device="cpu")
    (run.folder / "notes.txt").write_text("what a run does not hold")
    (run.folder / "deeper/predictions").mkdir(parents=True)
    (run.folder / "deeper/predictions/x.parquet").write_text("likewise")
    other = place / "other"
    other.mkdir()
    for name in ("model.safetensors", "recipe.yaml"):
        (other / name).write_text("of another library")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_HOME": str(place / "huggingface"),
        "MMREG_CACHE_DIR": str(place / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    with hub.serving({"someone/kinds": run.folder, "someone/other": other}) as (address, files):
        results = load([GOOD, ALSO_GOOD, OTHER, GONE, NEVER], {**environment, "HF_ENDPOINT": address})
    return Fetched(results, files, run, environment)


def test_a_run_on_the_hub_predicts_as_where_it_was_trained(fetched: Fetched) -> None:
    folder, predictions = fetched.results[GOOD]
    assert predictions == fetched.trained.predict([{"size": 1.0}])
    assert fetched.results[ALSO_GOOD] == [folder, predictions]  # of the same commit
    assert Path(folder).name == hub.COMMIT
    assert not any(path.is_symlink() for path in Path(folder).rglob("*"))


def test_the_files_of_a_run_are_fetched_once_and_nothing_else(fetched: Fetched) -> None:
    own = [file.removeprefix("someone/kinds/") for file in fetched.files if file.startswith("someone/kinds/")]
    assert {"components.json", "recipe.yaml", "model.safetensors", "report.json"} <= set(own)
    assert len(own) == len(set(own))
    assert not any("checkpoints" in file or "notes" in file or "deeper" in file for file in own)
    assert not any("deeper" in str(path) for path in Path(fetched.results[GOOD][0]).rglob("*"))


def test_a_repository_that_holds_no_run_is_told_before_its_weights_are_fetched(fetched: Fetched) -> None:
    assert fetched.results[OTHER].startswith("hf://someone/other is no run: it has no components.json")
    assert "someone/other/model.safetensors" not in fetched.files


def test_what_is_not_there_is_told(fetched: Fetched) -> None:
    assert fetched.results[GONE].startswith("hf://someone/gone is not there")
    assert fetched.results[NEVER] == "hf://someone/kinds has no revision 'v9'"


@pytest.fixture(scope="module")
def offline(fetched: Fetched, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What loading addresses comes to without a network, and what `mmreg predict` writes then."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "rows.csv").write_text("size\n1.0\n")
    unreachable = {**fetched.environment, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    command = ["predict", GOOD, str(folder / "rows.csv"), "--out", str(folder / "out.jsonl"), "--device", "cpu"]
    results = load([GOOD, "hf://someone/new"], unreachable, *command)
    return results, (folder / "out.jsonl").read_text()


def test_without_a_network_what_was_fetched_is_used_and_the_rest_is_told(
    fetched: Fetched, offline: tuple[dict[str, Any], str]
) -> None:
    results, _ = offline
    assert results[GOOD] == fetched.results[GOOD]
    assert results["hf://someone/new"].startswith("hf://someone/new was not downloaded before and cannot be now: ")
    assert "hf download someone/new --local-dir FOLDER" in results["hf://someone/new"]


def test_a_command_takes_a_run_on_the_hub(fetched: Fetched, offline: tuple[dict[str, Any], str]) -> None:
    (line,) = offline[1].splitlines()
    assert json.loads(line) == fetched.results[GOOD][1][0]


@pytest.mark.parametrize("address", ["hf://name", "hf://a/b/c", "hf://a/b@", "hf:///b", "hf://a/b c"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    assert is_on_hub(address)
    with pytest.raises(RunError, match=r"write hf://USER/NAME, or hf://USER/NAME@REVISION"):
        fetch(address)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="pip install huggingface_hub"):
        mmreg.load(Path("hf://someone/kinds"))  # a path that has lost a slash
