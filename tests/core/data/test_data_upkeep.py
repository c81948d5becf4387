"""What the cache holds, who uses it, and making it smaller."""

from __future__ import annotations

import errno
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
from mmreg.data import holding
from mmreg.data.cache import entries_dir, locked
from mmreg.data.holding import TRIES, hold
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import read_table
from mmreg.data.upkeep import damage, inventory, parse_age, parse_size, prune, removed_unheld
from mmreg.errors import OptionError
from mmreg.files import fcntl

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


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that is none of the cache's."""
    path = tmp_path / "outside"
    path.write_text("theirs")
    return path


def in_the_way(path: Path, what: str, outside: Path) -> None:
    """Put something where the cache has a file."""
    path.unlink(missing_ok=True)
    if what == "FIFO":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(outside if what == "link" else outside.with_name("nowhere"))


IN_THE_WAY = pytest.mark.parametrize("what", ["FIFO", "folder", "link", "link to nothing"])


@needs_locks
@IN_THE_WAY
def test_what_is_in_a_locks_place_and_no_file_is_removed_and_neither_opened_nor_followed(
    cache: Path, three: list[Path], outside: Path, what: str
) -> None:
    folder = unfinished(cache)
    in_the_way(folder.with_suffix(".lock"), what, outside)
    in_the_way(entries_dir(cache) / f"{'cd' * 20}-01234567.lock", what, outside)
    assert [entry.in_use for entry in inventory(cache)] == [False] * 4
    get(cache, "d")
    gc.collect()
    assert [entry.path for entry in prune(cache)] == [folder]
    assert len(list(entries_dir(cache).iterdir())) == 4
    assert outside.read_text() == "theirs"
    assert not outside.with_name("nowhere").exists()


@needs_locks
@IN_THE_WAY
def test_what_is_in_the_place_of_an_entrys_file_is_damage(
    cache: Path, three: list[Path], outside: Path, what: str
) -> None:
    in_the_way(three[0] / "meta.json", what, outside)
    in_the_way(three[1] / "values.bin", what, outside)
    states = {entry.path: entry.state for entry in inventory(cache)}
    assert states == {three[0]: "meta.json is no file", three[1]: "values.bin is no file", three[2]: "whole"}
    assert len(get(cache, "a")) == 1
    assert {entry.path for entry in prune(cache)} == {three[1]}
    assert outside.read_text() == "theirs"


@needs_locks
def test_prune_removes_what_is_nobodys(cache: Path, three: list[Path], outside: Path) -> None:
    folder = unfinished(cache)
    in_the_way(folder / "journal.txt", "FIFO", outside)
    link = entries_dir(cache) / f"{'cd' * 20}-01234567.tmp"
    theirs = outside.with_name("folder")
    theirs.mkdir()
    (theirs / "journal.txt").write_text("theirs")
    link.symlink_to(theirs)
    (entries_dir(cache) / f"{'ef' * 20}-01234567.lock").touch()
    (entries_dir(cache) / "notes.lock").touch()
    with locked(entries_dir(cache) / f"{'12' * 20}-01234567.lock") as held:
        assert {entry.path for entry in prune(cache, dry_run=True)} == {folder, link}
        assert link.is_symlink()
        assert {entry.path for entry in prune(cache)} == {folder, link}
        left = {Path(held.name), entries_dir(cache) / "notes.lock", *three}
        assert set(entries_dir(cache).iterdir()) == left
    assert (theirs / "journal.txt").read_text() == "theirs"


@needs_locks
def test_who_only_looks_does_not_count_as_a_user(
    cache: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(cache)
    with locked(folder.with_suffix(".lock")):
        pass
    other = folder.with_suffix(".lock").open("rb")
    fcntl.flock(other, fcntl.LOCK_SH)  # as another listing does
    assert not any(entry.in_use for entry in inventory(cache))
    other.close()
    for tries, used in ((1, False), (TRIES, True)):
        with (three[0] / "meta.json").open("rb") as looking:
            fcntl.flock(looking, fcntl.LOCK_EX)
            waits: list[float] = []

            def wait(seconds: float, waits: list[float] = waits, tries: int = tries, looking: Any = looking) -> None:
                waits.append(seconds)
                if len(waits) == tries:
                    fcntl.flock(looking, fcntl.LOCK_UN)

            monkeypatch.setattr(holding.time, "sleep", wait)
            assert [entry.in_use for entry in inventory(cache) if entry.path == three[0]] == [used]


@pytest.fixture
def _readonly(three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that can only be read, also by those whom no permission stops."""
    before = os.open

    def opened(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path, flags, *arguments, **named)

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)


@pytest.mark.usefixtures("_readonly")
@needs_locks
def test_a_cache_that_can_only_be_read_is_listed(cache: Path, three: list[Path]) -> None:
    held = hold(three[1])
    found = {entry.path: (entry.state, entry.in_use) for entry in inventory(cache)}
    assert found == {path: ("whole", path == three[1]) for path in three}
    del held
    assert prune(cache, max_bytes=0) == []
    assert all(path.is_dir() for path in three)


def test_an_entry_that_cannot_be_looked_at_is_listed(
    cache: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.open

    def opened(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if Path(path) == three[0] / "meta.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    assert [entry.state for entry in inventory(cache)] == ["whole", "whole", "it cannot be read: Permission denied"]
    lstat = Path.lstat

    def stated(path: Path) -> Any:
        if entries_dir(cache) in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", stated)
    found = inventory(cache)
    assert [entry.state for entry in found] == ["it cannot be looked at: Permission denied"] * 3
    assert {damage(cache, entry) for entry in found} == {"it cannot be read: Permission denied"}
