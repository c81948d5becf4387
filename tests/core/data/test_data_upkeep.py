"""What the cache holds, who uses it, and making it smaller."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import VECTOR, Spec
from mmreg.data.cache import entries_dir, locked
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import read_table
from mmreg.data.upkeep import damage, inventory, parse_age, parse_size, prune, removed_unheld
from mmreg.errors import OptionError

DAY = 24 * 3600.0
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="there are no locks")


class Bytes(Modality):
    """A text as its first bytes."""

    stored = spec = Spec(VECTOR, (1000,), "uint8")

    def load(self, value: Any) -> NDArray[Any]:
        return np.resize(np.frombuffer(value.encode(), np.uint8), 1000)


def get(cache: Path, *words: str, name: str = "it") -> Prepared:
    return prepare(Bytes(), read_table({"word": list(words)}), ["word"], name=name, cache_dir=cache)


@pytest.fixture
def three(cache: Path) -> list[Path]:
    """Three entries that nobody uses, of one, two and three values; the first was last used longest ago."""
    folders: list[Path] = []
    for count in (1, 2, 3):
        get(cache, *"abc"[:count], name="abc"[count - 1])
        (folder,) = set(entries_dir(cache).iterdir()) - set(folders)
        used = time.time() - (4 - count) * 10 * DAY
        os.utime(folder / "meta.json", (used, used))
        folders.append(folder)
    gc.collect()
    return folders


def names(cache: Path) -> list[str]:
    return [entry.input for entry in inventory(cache)]


def unfinished(cache: Path, values: int = 1) -> Path:
    """What a process that was killed leaves."""
    folder = entries_dir(cache) / f"{'ab' * 20}-01234567.tmp"
    folder.mkdir(parents=True)
    (folder / "values.bin").write_bytes(b"x" * 1000 * values)
    (folder / "journal.txt").write_text("something")
    return folder


def test_an_entry_tells_what_it_holds(cache: Path, three: list[Path]) -> None:
    found = inventory(cache)
    assert [(entry.path, entry.input, entry.values) for entry in found] == [
        (three[2], "c", 3),
        (three[1], "b", 2),
        (three[0], "a", 1),
    ]
    assert {(entry.modality, entry.store, entry.state, entry.in_use) for entry in found} == {
        ("Bytes", "decoded", "whole", False)
    }
    for entry in found:
        assert entry.bytes == sum(path.stat().st_size for path in entry.path.iterdir()) > 1000


@needs_locks
def test_an_entry_is_in_use_as_long_as_its_values_are(cache: Path, three: list[Path]) -> None:
    prepared = get(cache, "a")
    again = get(cache, "a")
    assert [entry.in_use for entry in inventory(cache)] == [True, False, False]
    del prepared
    gc.collect()
    assert inventory(cache)[0].in_use
    del again
    gc.collect()
    assert not any(entry.in_use for entry in inventory(cache))


def test_opening_an_entry_is_using_it(cache: Path, three: list[Path]) -> None:
    assert names(cache) == ["c", "b", "a"]
    get(cache, "a")
    assert names(cache) == ["a", "c", "b"]
    assert time.time() - inventory(cache)[0].last_used < DAY


def test_the_least_recently_used_go_first_until_the_cache_is_small_enough(cache: Path, three: list[Path]) -> None:
    sizes = [entry.bytes for entry in inventory(cache)]
    assert prune(cache, max_bytes=sum(sizes)) == []
    assert [entry.input for entry in prune(cache, max_bytes=sum(sizes) - 1)] == ["a"]
    assert [entry.input for entry in prune(cache, max_bytes=sizes[0])] == ["b"]
    assert names(cache) == ["c"]
    assert [entry.input for entry in prune(cache, max_bytes=0)] == ["c"]
    assert list(entries_dir(cache).iterdir()) == []


def test_what_was_not_used_for_long_goes(cache: Path, three: list[Path]) -> None:
    assert [entry.input for entry in prune(cache, older_than=15 * DAY)] == ["a", "b"]
    assert names(cache) == ["c"]


def test_a_dry_run_says_the_same_and_removes_nothing(cache: Path, three: list[Path]) -> None:
    unfinished(cache)
    before = sorted(path for path in cache.rglob("*") if path.suffix != ".lock")
    told = prune(cache, older_than=15 * DAY, dry_run=True)
    assert sorted(path for path in cache.rglob("*") if path.suffix != ".lock") == before
    assert prune(cache, older_than=15 * DAY) == told


@needs_locks
def test_what_a_running_job_uses_stays_and_the_next_one_goes_instead(cache: Path, three: list[Path]) -> None:
    prepared = get(cache, "a")
    os.utime(three[0] / "meta.json", (0, 0))
    assert [entry.input for entry in prune(cache, max_bytes=inventory(cache)[0].bytes)] == ["b", "c"]
    assert [entry.input for entry in prune(cache, max_bytes=0, older_than=0.0)] == []
    assert not removed_unheld(cache, three[0])
    assert prepared.gather(np.array([0])).values.shape == (1, 1000)
    assert names(cache) == ["a"]


@needs_locks
def test_what_was_opened_after_it_was_found_stays(cache: Path, three: list[Path]) -> None:
    found = inventory(cache)
    prepared = get(cache, "a")
    assert [removed_unheld(cache, entry.path) for entry in found] == [True, True, False]
    assert len(prepared) == 1


def test_an_unfinished_entry_goes_unless_somebody_writes_it(cache: Path, three: list[Path]) -> None:
    folder = unfinished(cache)
    assert [entry.state for entry in inventory(cache)] == ["unfinished", "whole", "whole", "whole"]
    if sys.platform != "win32":
        with locked(folder.with_suffix(".lock")):
            assert inventory(cache)[0].in_use
            assert prune(cache) == []
            assert folder.is_dir()
    old = time.time() - 2 * DAY
    for path in (folder / "journal.txt", folder):
        os.utime(path, (old, old))
    assert [entry.path for entry in prune(cache)] == [folder]
    assert sorted(entries_dir(cache).iterdir()) == sorted(three)


def test_an_entry_that_is_damaged_or_of_an_earlier_release_goes(cache: Path, three: list[Path]) -> None:
    os.truncate(three[2] / "values.bin", 10)
    early = entries_dir(cache) / ("a1" * 20)
    early.mkdir()
    (early / "meta.json").write_text('{"bad": [], "files": {}}')
    assert {entry.path for entry in prune(cache)} == {three[2], early}
    assert names(cache) == ["b", "a"]


def test_every_byte_is_compared(cache: Path, three: list[Path]) -> None:
    (entry,) = (each for each in inventory(cache) if each.path == three[2])
    assert damage(cache, entry) == ""
    generator = np.random.default_rng(0)
    for path in sorted(three[2].iterdir()):
        data = path.read_bytes()
        for bit in generator.integers(0, 8 * len(data), 10).tolist():
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            assert path.name in damage(cache, entry), bit
        path.write_bytes(data)
    assert damage(cache, entry) == ""
    (three[2] / "values.bin").unlink()
    assert damage(cache, entry) == "values.bin is missing"


@pytest.fixture
def _limit(three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMREG_CACHE_MAX_SIZE", "5kB")


@needs_locks
@pytest.mark.usefixtures("_limit")
def test_a_preparation_makes_room_for_itself_below_the_limit(cache: Path, three: list[Path]) -> None:
    get(cache, "d", name="d")
    assert names(cache) == ["d", "c"]
    kept = [get(cache, letter, name=letter) for letter in "ef"]
    gc.collect()
    assert sorted(names(cache)) == ["d", "e", "f"]
    kept.append(get(cache, *"ghij", name="ghij"))
    assert sorted(names(cache)) == ["e", "f", "ghij"]  # too large, but all of them are in use


@pytest.mark.usefixtures("_limit")
def test_finding_an_entry_removes_nothing(cache: Path, three: list[Path]) -> None:
    get(cache, "a")
    assert names(cache) == ["a", "c", "b"]


def test_a_limit_that_is_no_size_is_an_error_before_anything_is_loaded(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMREG_CACHE_MAX_SIZE", "much")
    with pytest.raises(OptionError, match=r"MMREG_CACHE_MAX_SIZE must be a number and one of B, kB, .* found 'much'"):
        get(cache, "a")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("1.5 mb", 1_500_000), ("0B", 0), (" 7 kB ", 7000), ("2TB", 2 * 10**12)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY), ("12h", DAY / 2), ("2W", 14 * DAY)])
def test_ages_are_read(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "GB", "10 XB", "-1GB", "1e3GB", "1.GB", "10GB GB", "nan GB", "9" * 400 + "B"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="must be a number and one of"):
        parse_size(text)
