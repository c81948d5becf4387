"""`mmreg cache`: listing, verifying and pruning, for people and for programs."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from small import Caller

from mmreg.data import upkeep
from mmreg.data.cache import entries_dir
from mmreg.data.entry import new_entry

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of two entries, the first of which was last used forty days ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MMREG_CACHE_DIR", str(folder))
    for name, days in (("image", 40), ("sound", 1)):
        with new_entry(folder, ("a" if name == "image" else "b") * 40) as entry:
            entry.write_array("index.bin", np.arange(1000))
            entry.complete({"input": name, "modality": name.title(), "store": "decoded", "values": 1000, "bad": []})
        used = time.time() - days * DAY
        os.utime(entries_dir(folder) / entry_name(name) / "meta.json", (used, used))
    return folder


def entry_name(name: str) -> str:
    return ("a" if name == "image" else "b") * 40


def left(cache: Path) -> list[str]:
    return sorted(path.name[0] for path in entries_dir(cache).iterdir())


def test_list_shows_each_entry_and_the_total(cli: Caller, cache: Path) -> None:
    done = cli("cache", "list")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == [
        "entry",
        "input",
        "modality",
        "store",
        "values",
        "size",
        "last",
        "used",
        "in",
        "use",
        "state",
    ]
    assert lines[1].split()[:7] == ["bbbbbbbbbbbb", "sound", "Sound", "decoded", "1,000", "8.2", "kB"]
    assert lines[2].split()[:2] == ["aaaaaaaaaaaa", "image"]
    assert lines[-1] == f"2 entries, 16.4 kB in {cache}"


def test_list_for_programs(cli: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMREG_CACHE_MAX_SIZE", "1MB")
    told = json.loads(cli("cache", "list", "--format", "json").out)
    assert told["folder"] == str(cache)
    assert told["max_bytes"] == 10**6
    assert told["bytes"] == sum(path.stat().st_size for path in entries_dir(cache).rglob("*.*"))
    assert [entry["input"] for entry in told["entries"]] == ["sound", "image"]
    assert told["entries"][0]["in_use"] is False
    assert told["entries"][0]["last_used"].endswith("+00:00")


def test_an_empty_cache_is_no_error(cli: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(cache / "none"))
    for command in ("list", "verify", "prune"):
        done = cli("cache", command)
        assert done.code == 0
        assert done.out.startswith("0 entries")


def test_verify_discards_what_is_damaged_and_says_so(cli: Caller, cache: Path) -> None:
    assert cli("cache", "verify").code == 0
    path = entries_dir(cache) / entry_name("image") / "index.bin"
    data = bytearray(path.read_bytes())
    data[4321] ^= 8
    path.write_bytes(data)
    done = cli("cache", "verify")
    assert done.code == 1
    assert "index.bin is not as it was written" in done.out
    assert done.out.splitlines()[1].endswith("discarded")
    assert done.out.splitlines()[-1].startswith("2 entries read (16.4 kB), 1 damaged")
    assert left(cache) == ["b"]
    assert cli("cache", "verify").code == 0


def test_verify_for_programs(cli: Caller, cache: Path) -> None:
    os.truncate(entries_dir(cache) / entry_name("image") / "index.bin", 7)
    done = cli("cache", "verify", "--format", "json")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["verified"] == 2
    assert told["damaged"] == [
        {
            "entry": entry_name("image"),
            "input": "",  # what is not as it was written is not believed
            "damage": "index.bin has 7 bytes instead of 8,000",
            "done": "discarded",
        }
    ]


def test_prune_by_age_and_by_size(cli: Caller, cache: Path) -> None:
    dry = cli("cache", "prune", "--older-than", "30d", "--dry-run")
    assert dry.out.splitlines()[-1] == f"1 entry (8.2 kB) would be removed from {cache}; 8.2 kB would stay"
    assert left(cache) == ["a", "b"]
    assert cli("cache", "prune", "--older-than", "30d").code == 0
    assert left(cache) == ["b"]
    told = json.loads(cli("cache", "prune", "--max-size", "1kB", "--format", "json").out)
    assert [entry["input"] for entry in told["removed"]] == ["sound"]
    assert left(cache) == []


def test_prune_alone_removes_no_more_than_what_nobody_can_use(cli: Caller, cache: Path) -> None:
    folder = entries_dir(cache) / f"{entry_name('image')}-01234567.tmp"
    folder.mkdir()
    (folder / "journal.txt").write_text("x")
    old = time.time() - 2 * DAY
    for path in (folder / "journal.txt", folder):
        os.utime(path, (old, old))
    assert "1 entry (1 B) removed" in cli("cache", "prune").out
    assert left(cache) == ["a", "b"]


@pytest.mark.parametrize("option", ["--max-size", "--older-than"])
def test_what_is_no_size_or_age_is_a_mistake(cli: Caller, cache: Path, option: str) -> None:
    done = cli("cache", "prune", option, "much")
    assert done.code == 2
    assert done.err.startswith(f"mmreg: {option} must be a number and one of")
    assert left(cache) == ["a", "b"]


@pytest.mark.parametrize("seconds", [2.0**40, 2.0**63, -(2.0**40), 253402300799.0])
def test_a_time_that_no_calendar_has_is_unknown(
    cli: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    # Not every file system has such times: it is what a file's status tells of them.
    real = upkeep.last_used
    monkeypatch.setattr(upkeep, "last_used", lambda folder: seconds if folder.name[0] == "a" else real(folder))
    done = cli("cache", "list")
    assert done.code == 0
    assert [line.startswith("a") for line in done.out.splitlines() if "unknown" in line] == [True]
    told = json.loads(cli("cache", "list", "--format", "json").out)
    assert {entry["input"]: entry["last_used"] is None for entry in told["entries"]} == {"image": True, "sound": False}
    assert cli("cache", "prune", "--older-than", "1d", "--dry-run").code == 0


def test_verify_leaves_what_it_cannot_remove(cli: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entries_dir(cache) / entry_name("image") / "index.bin").write_bytes(b"x" * 8000)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    done = cli("cache", "verify")
    assert done.code == 1
    assert "left, as it cannot be removed" in done.out
    assert "2 entries read" in done.out
    assert left(cache) == ["a", "b"]


def test_a_cache_whose_folder_cannot_be_read_is_told(cli: Caller, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    for command in ("list", "verify", "prune"):
        done = cli("cache", command)
        assert done.code in (1, 2)
        assert "cannot be read: Permission denied" in done.err
