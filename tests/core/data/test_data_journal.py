"""What a killed preparation leaves: the next one goes on with as much of it as is sound, and with nothing else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmreg.data.checksums
import mmreg.data.decode
import mmreg.data.entry
import mmreg.data.journal
import mmreg.data.mapped
import mmreg.data.prepare
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import SEQUENCE, Spec, Specs
from mmreg.data.cache import KEPT_SECONDS, abandoned, clear_cache, entries_dir, remainders, remove_leftovers
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import Table, read_table
from mmreg.errors import CacheError

WORDS = ["abc", None, "de", "bad", "fghij", "klm", "n", "opq", "rs"]


class Words(Modality):
    """The letters of a word, and their number; slow enough to be interrupted."""

    def __init__(self, stop: str = "") -> None:
        self.stop = stop
        self.loaded: list[str] = []

    @property
    def stored(self) -> Specs:  # type: ignore[override]
        return {"letters": Spec(SEQUENCE, (None, 1), "int32"), "number": Spec("", (), "int64")}

    spec = stored  # type: ignore[assignment]

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:  # type: ignore[override]
        if value == self.stop:
            raise KeyboardInterrupt
        self.loaded.append(value)
        if value == "bad":
            raise ValueError("no word")
        letters = np.array([[ord(letter)] for letter in value], np.int32)
        return {"letters": letters, "number": np.array(len(value), np.int64)}


@pytest.fixture
def table() -> Table:
    return read_table({"word": WORDS})


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value a chunk, one thread, and blocks that begin and end within values."""
    monkeypatch.setattr(mmreg.data.decode, "FIRST_CHUNK", 1)
    monkeypatch.setattr(mmreg.data.decode, "MAX_CHUNK", 1)
    monkeypatch.setattr(mmreg.data.decode, "num_workers", lambda: 1)
    monkeypatch.setattr(mmreg.data.checksums, "BLOCK_BYTES", 10)
    monkeypatch.setattr(mmreg.data.mapped, "BLOCK_BYTES", 10)
    monkeypatch.setattr(mmreg.data.entry, "sync", lambda path: None)


def get(modality: Modality, table: Table, cache: Path) -> Prepared:
    return prepare(modality, table, ["word"], name="it", on_bad="absent", cache_dir=cache)


def contents(cache: Path) -> dict[str, bytes]:
    """All files of the only entry there is, and nothing beside it."""
    (entry,) = entries_dir(cache).iterdir()
    return {path.name: path.read_bytes() for path in entry.iterdir()}


@pytest.fixture
def whole(table: Table, tmp_path: Path) -> dict[str, bytes]:
    """The entry that a preparation makes which nobody stops."""
    get(Words(), table, tmp_path / "whole")
    return contents(tmp_path / "whole")


def interrupted(table: Table, cache: Path) -> Path:
    """What a preparation leaves that is stopped when it comes to the seventh word."""
    with pytest.raises(KeyboardInterrupt):
        get(Words("n"), table, cache)
    (folder,) = remainders(cache)
    return folder


def test_ctrl_c_loses_no_value_that_was_written(table: Table, cache: Path, whole: dict[str, bytes]) -> None:
    interrupted(table, cache)
    modality = Words()
    get(modality, table, cache)
    assert contents(cache) == whole
    assert modality.loaded[-3:] == ["n", "opq", "rs"]
    assert len(modality.loaded) <= 6  # those that were in hand when it was stopped are loaded again


def test_progress_goes_on_where_it_was(table: Table, cache: Path) -> None:
    interrupted(table, cache)
    told: list[tuple[int, int]] = []
    prepare(
        Words(),
        table,
        ["word"],
        name="it",
        on_bad="absent",
        cache_dir=cache,
        progress=lambda done, total, _: told.append((done, total)),
    )
    assert told[0][0] > 2
    assert told[-1] == (9, 9)


def test_no_bit_of_a_remainder_can_turn_without_being_noticed(
    table: Table, cache: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    folder = interrupted(table, cache)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    generator = np.random.default_rng(0)
    for _ in range(60):
        shutil.rmtree(entries_dir(cache))
        shutil.copytree(kept, folder)
        path = folder / str(generator.choice(sorted(each.name for each in kept.iterdir())))
        data = bytearray(path.read_bytes())
        bit = int(generator.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        get(Words(), table, cache)
        assert contents(cache) == whole, (path.name, bit)


@pytest.mark.parametrize("name", ["values.0.bin", "values.1.bin", "journal.txt"])
def test_a_remainder_that_was_cut_or_grew_is_used_as_far_as_it_goes(
    table: Table, cache: Path, tmp_path: Path, whole: dict[str, bytes], name: str
) -> None:
    folder = interrupted(table, cache)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    size = (kept / name).stat().st_size
    loaded = []
    for length in (*range(1, size, 7), size, size + 5):
        shutil.rmtree(entries_dir(cache))
        shutil.copytree(kept, folder)
        os.truncate(folder / name, length)
        modality = Words()
        get(modality, table, cache)
        assert contents(cache) == whole, length
        loaded.append(len(modality.loaded))
    assert loaded == sorted(loaded, reverse=True)
    assert loaded[0] == 8
    assert loaded[-1] < 6


@pytest.mark.parametrize("missing", ["values.0.bin", "journal.txt"])
def test_a_remainder_without_a_file_is_begun_anew(
    table: Table, cache: Path, whole: dict[str, bytes], missing: str
) -> None:
    (interrupted(table, cache) / missing).unlink()
    modality = Words()
    get(modality, table, cache)
    assert contents(cache) == whole
    assert len(modality.loaded) == 8


INTRUDERS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, other: path.symlink_to(other),
    "a folder": lambda path, other: path.mkdir(),
    "a FIFO": lambda path, other: os.mkfifo(path),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("name", ["values.0.bin", "index.bin"])
def test_nothing_in_the_place_of_a_file_is_opened_or_followed(
    table: Table, cache: Path, tmp_path: Path, whole: dict[str, bytes], intruder: str, name: str
) -> None:
    folder = interrupted(table, cache)
    (tmp_path / "other").write_text("theirs")
    (folder / name).unlink(missing_ok=True)
    INTRUDERS[intruder](folder / name, tmp_path / "other")
    get(Words(), table, cache)
    assert contents(cache) == whole
    assert (tmp_path / "other").read_text() == "theirs"


def test_what_other_code_has_loaded_is_not_used(
    table: Table, cache: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(table, cache)
    monkeypatch.setattr(mmreg.data.prepare, "code_facts", lambda modality: "another release")
    modality = Words()
    get(modality, table, cache)
    assert contents(cache) == whole
    assert len(modality.loaded) == 8


def test_code_is_the_module_and_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("class Theirs: pass")
    (tmp_path / "helper.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    from theirs import Theirs  # type: ignore[import-not-found]

    before = mmreg.data.prepare.code_facts(Theirs())
    assert before == mmreg.data.prepare.code_facts(Theirs())
    (tmp_path / "helper.py").write_text("x = 1")
    assert before != mmreg.data.prepare.code_facts(Theirs())
    monkeypatch.delitem(sys.modules, "theirs")
    assert len({before, mmreg.data.prepare.code_facts(Theirs())}) == 2  # of a class whose module is no file


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks")
def test_only_one_process_goes_on_with_a_remainder(table: Table, cache: Path, whole: dict[str, bytes]) -> None:
    folder = interrupted(table, cache)
    lock = abandoned(folder)
    assert lock is not None
    with lock:  # as the process that goes on with it
        assert abandoned(folder) is None
        modality = Words()
        get(modality, table, cache)
        assert len(modality.loaded) == 8
        remove_leftovers(cache, 0)
        assert folder.is_dir()
    remove_leftovers(cache)  # somebody else has finished the entry
    assert contents(cache) == whole


def test_remainders_that_nobody_goes_on_with_are_removed(table: Table, cache: Path) -> None:
    folder = interrupted(table, cache)
    remove_leftovers(cache)
    assert folder.is_dir()
    old = time.time() - KEPT_SECONDS - 60
    for path in (folder / "journal.txt", folder):
        os.utime(path, (old, old))
    remove_leftovers(cache)
    assert list(entries_dir(cache).iterdir()) == []
    interrupted(table, cache)
    clear_cache(cache)
    assert list(entries_dir(cache).iterdir()) == []


def test_a_remainder_survives_preparations_of_something_else(table: Table, cache: Path) -> None:
    interrupted(table, cache)
    get(Words(), read_table({"word": ["x"]}), cache)
    modality = Words()
    get(modality, table, cache)
    assert len(modality.loaded) < 8


def test_a_full_disk_leaves_no_remainder(table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = mmreg.data.journal.Journal.add, []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        add(*arguments)

    monkeypatch.setattr(mmreg.data.journal.Journal, "add", full)
    with pytest.raises(CacheError, match="No space left on device"):
        get(Words(), table, cache)
    assert list(entries_dir(cache).iterdir()) == []
