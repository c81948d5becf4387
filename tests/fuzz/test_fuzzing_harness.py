"""The harness sees whatever a case may do, and goes on with the next one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
import yaml
from fuzzing.cases import CANARY, Case, planned
from fuzzing.formats import HARMFUL_PICKLE
from fuzzing.kinds import KINDS
from fuzzing.mutators import damaged
from fuzzing.report import keep, kept
from fuzzing.texts import HARMFUL
from fuzzing.trees import damaged_tree

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform != "linux", reason="cases run in forked processes"
)

TOYS = """
import json, os, sys
from pathlib import Path
from fuzzing import workers
from fuzzing.cases import CANARY, Case, Failed, Kind, Refused
from fuzzing.ground import Ground
from mmreg.errors import TableError

def refuse():
    raise TableError("no table")

def crash():
    os.abort()

def wait():
    os.mkfifo("fifo")
    open("fifo")

def loop():
    while True:
        pass

ACTS = {
    "result": lambda: None,
    "refuse": refuse,
    "crash": crash,
    "same": lambda: "right",
    "wait": wait,
    "changed": lambda: "wrong",
    "loop": loop,
    "hungry": lambda: bytearray(3 << 30),
    "traceback": lambda: os.write(2, b"Traceback (most recent call last):"),
    "harmful": lambda: Path(CANARY).touch(),
    "leave": lambda: os._exit(0),
    "raise": lambda: 1 / 0,
    "end": lambda: None,
}

class Toys(Kind):
    name, share = "toys", 1

    def cases(self, numbers, seed):
        for number in numbers:
            yield Case("toys", number, "original", list(ACTS)[number].encode(), exact=True)

    def act(self, case, folder):
        result = ACTS[case.data.decode()]()
        return result if isinstance(result, str) else None

workers.SECONDS, workers.PATIENCE = 0.1, 4
folder = Path(sys.argv[1]) / "ground"
folder.mkdir()
running = workers.Workers({"toys": Toys()}, Ground(folder, {"toys/original": "right"}), 0, 2)
batches = workers.batches({"toys": len(ACTS)})
print(json.dumps({list(ACTS)[case.number]: verdict._asdict() for case, verdict in running.run(batches)}))
"""


def test_every_way_to_fail_is_seen_and_the_cases_behind_it_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", TOYS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    outcomes = {name: verdict["outcome"] for name, verdict in verdicts.items()}
    good = {"result": "accepted", "refuse": "refused", "same": "accepted", "end": "accepted"}
    assert outcomes == {**dict.fromkeys(outcomes, "failed"), **good}
    assert len(outcomes) == 13
    assert verdicts["same"]["compared"]
    for name, words in EXPECTED.items():
        assert words in verdicts[name]["detail"], name
    assert not list((tmp_path).glob("worker-*"))


EXPECTED = {
    "crash": "SIGABRT",
    "wait": "not done",
    "changed": "changes the result",
    "loop": "processor time",
    "hungry": "MemoryError",
    "traceback": "Traceback",
    "harmful": "a command in the input was run",
    "leave": "ended itself with 0",
    "raise": "ZeroDivisionError",
}


def test_the_same_seed_gives_the_same_damage() -> None:
    data, tree = bytes(range(256)) * 4, {"a": [1, {"b": "text"}], "c": None}
    first, second = ([damaged(Random(f"{seed}"), data) for seed in range(200)] for _ in range(2))
    assert first == second
    assert len({*first}) > 150
    first_trees, second_trees = ([repr(damaged_tree(Random(f"{seed}"), tree)) for seed in range(200)] for _ in range(2))
    assert first_trees == second_trees
    assert len({*first_trees}) > 100
    assert tree == {"a": [1, {"b": "text"}], "c": None}


def test_the_harmful_texts_do_harm_where_they_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run, text in ((pickle.loads, HARMFUL_PICKLE), (yaml.unsafe_load, HARMFUL)):
        run(text)
        Path(CANARY).unlink()


def test_every_kind_has_cases_however_few_there_are() -> None:
    for total in (100, 10_000):
        counts: Mapping[str, int] = planned(KINDS, total)
        assert all(counts.values())
        assert total <= sum(counts.values()) <= total + len(KINDS)


def test_an_input_that_failed_is_kept_and_read_again(tmp_path: Path) -> None:
    case = Case("table-csv", 3, "plain.csv", b"\xff\0")
    keep(tmp_path, case, "what was said", 0)
    assert kept(tmp_path / "table-csv-3.json") == case
