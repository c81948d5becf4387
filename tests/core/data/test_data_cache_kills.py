"""A process that is killed while it writes to the cache: the next one finds the cache in order and gets the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmreg.data.cache import cache_use, entries_dir, remove_leftovers

KEY = "0123456789" * 4

SCRIPT = """
import json, os, pathlib, shutil, sys
import numpy as np
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec
from mmreg.data import checksums, decode, journal, mapped
from mmreg.data.cache import entries_dir, remainders
from mmreg.data.prepare import prepare
from mmreg.data.table import read_table

root = pathlib.Path(sys.argv[1])
os.fsync = lambda descriptor: None  # it counts as a step, but takes long, and a kill loses nothing that was written
decode.FIRST_CHUNK = decode.MAX_CHUNK = 2  # values at a time
checksums.BLOCK_BYTES = mapped.BLOCK_BYTES = 20
table = read_table({"text": ["abc", None, "", "defg", "bad", "h", "ij", "k"]})
loaded = []

class Letters(Modality):
    stored = spec = Spec("T", (None,), "int64", 200)
    def load(self, value):
        loaded.append(value)
        if value == "bad":
            raise ValueError("oh")
        return np.array([ord(letter) for letter in value], np.int64)

def use():
    prepared = prepare(Letters(), table, ["text"], name="text", cache_dir=root)
    rows = np.flatnonzero(prepared.present)
    bad = [(cell.row, cell.cause) for cell in prepared.bad]
    return rows.tolist(), prepared.gather(rows).values.tolist(), bad

def contents():
    (entry,) = entries_dir(root).iterdir()
    return {path.name: path.read_bytes() for path in entry.iterdir()}

def begin(action):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = action()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    os._exit(code)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(step):
    left = step
    def dying(call):
        def counted(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*arguments, **options)
        return counted
    for name in ("fsync", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
    checksums.ChecksumWriter.write = dying(checksums.ChecksumWriter.write)
    journal._line = dying(journal._line)  # by now the values are in their files
    journal.Work.add = dying(journal.Work.add)  # by now the journal says so
    journal._cut = dying(journal._cut)
    use()
    return 0

def is_right():
    found = use()
    assert found == expected, found
    return 0

def is_in_order():
    is_right()
    found = contents()
    found.pop("journal.txt", None)  # it was killed when nothing else was to be done
    assert found == whole, found
    return 0

def done_before():
    # how many values were loaded by the process that was killed, of those that the journal tells of
    if any(len(path.name) == 40 for path in entries_dir(root).glob("*")):
        return len(distinct)
    sizes = []
    for folder in remainders(root):
        for line in (folder / "journal.txt").read_bytes().splitlines(True)[1:]:
            try:
                sizes += journal._facts(line)["sizes"]
            except ValueError:
                pass
    return sum(size != journal.ABSENT for size in sizes)

def goes_on():
    before = done_before()
    del loaded[:]
    is_in_order()
    assert len(loaded) == len(distinct) - before, (loaded, before)
    return 20 + before

def start_from(state):
    shutil.rmtree(root, ignore_errors=True)
    if state == "damaged":
        use()
        (entry,) = entries_dir(root).iterdir()
        (entry / "values.bin").write_bytes((entry / "values.bin").read_bytes()[:-1] + b"x")

def kill_at_every_step(state):
    code, step = 9, 0
    while code == 9:
        start_from(state)
        code = ended(begin(lambda: killed_at(step)))
        step += 1
        after = ended(begin(goes_on if state == "empty" else is_in_order))
        if after not in (0, *range(20, 99)):
            sys.exit(f"after a kill before step {step}: {sorted(map(str, root.rglob('*')))}")
        went_on.append(after - 20)
    return step, code

def killed_again_and_again(steps):
    start_from("empty")
    for count in range(100):
        if ended(begin(lambda: killed_at(steps))) == 0:
            break
    ended(begin(is_in_order)) == 0 or sys.exit("not in order")
    return count

def several_at_once(state):
    start_from(state)
    reading, writing = os.pipe()
    children = [begin(lambda: os.read(reading, 1) and is_right()) for _ in range(4)]
    os.write(writing, b"goes")
    return [*map(ended, children), ended(begin(is_in_order))]

start_from("empty")
expected, distinct = use(), list(loaded)
whole = contents()
went_on = []
print(json.dumps({
    "killed": {state: kill_at_every_step(state) for state in ("empty", "damaged")},
    "went on": went_on,
    "again and again": killed_again_and_again(16),
    "together": {state: several_at_once(state) for state in ("empty", "damaged")},
}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script, which takes seconds to start, says of processes that it starts, kills and lets collide."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder = tmp_path_factory.mktemp("kills") / "cache"
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("state", ["empty", "damaged"])
def test_a_kill_at_any_step_of_writing_is_made_good_by_the_next_process(told: dict[str, Any], state: str) -> None:
    steps, code = told["killed"][state]
    assert steps > 12
    assert code == 0


def test_what_was_loaded_before_a_kill_is_not_loaded_again(told: dict[str, Any]) -> None:
    """Each next process asserts that itself; and they found anything between nothing and all six values."""
    found = told["went on"][: told["killed"]["empty"][0]]
    assert found == sorted(found)
    assert set(found) == {0, 1, 2, 4, 6}  # by twos, of which two are absent


def test_a_process_that_is_killed_again_and_again_comes_to_the_end(told: dict[str, Any]) -> None:
    assert told["again and again"] == 3


@pytest.mark.parametrize("state", ["empty", "damaged"])
def test_processes_that_prepare_the_same_at_once_get_the_same(told: dict[str, Any], state: str) -> None:
    assert told["together"][state] == [0] * 5


@pytest.mark.skipif(sys.platform == "win32", reason="there leftovers are told by their age")
def test_leftovers_go_and_names_that_are_not_ours_stay(tmp_path: Path) -> None:
    folder = entries_dir(tmp_path)
    for name in (f"{KEY}-00000000.tmp", "theirs.tmp", f"{KEY}-mine.tmp"):
        (folder / name).mkdir(parents=True)
        (folder / name / "values.bin").write_text("x")
    for name in (f"{KEY}-00000000.lock", f"{KEY}-11111111.lock", "theirs.lock", "notes.txt"):
        (folder / name).write_text("")
    (folder / f"{KEY}-22222222.tmp").symlink_to(folder / "theirs.tmp")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{KEY}-mine.tmp",
        "notes.txt",
        "theirs.lock",
        "theirs.tmp",
    ]
    assert (folder / "theirs.tmp" / "values.bin").exists()
    assert cache_use(tmp_path).entries == 0
