"""Damaged entries of the cache: nothing of them is ever used, and they are loaded anew."""

from __future__ import annotations

import os
import stat
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from numpy.typing import NDArray
from torch import Tensor

import mmreg.data.batches
import mmreg.data.checksums
import mmreg.data.entry
import mmreg.data.mapped
from mmreg.contract.callback import Callback, Step
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import SEQUENCE, VECTOR, Spec, Specs
from mmreg.data.batches import Batches
from mmreg.data.cache import clear_cache, entries_dir
from mmreg.data.checksums import Checksums, ChecksumWriter
from mmreg.data.entry import count_unusable
from mmreg.data.mapped import MappedArray
from mmreg.data.prepare import prepare
from mmreg.data.prepared import Prepared
from mmreg.data.table import Table, read_table
from mmreg.errors import CacheError

ROWS = 12


class Image(Modality):
    """Files of bytes as images of one size."""

    paths = True
    stored = spec = Spec("HWC", (4, 5, 1), "uint8")

    def __init__(self) -> None:
        self.loaded: list[Path] = []

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value)
        return np.frombuffer(value.read_bytes()[:20], np.uint8).reshape(4, 5, 1)


class Sound(Image):
    """Files of bytes as sounds of any length, with marks and a loudness."""

    @property
    def stored(self) -> Specs:  # type: ignore[override]
        marks, loudness = Spec("T", (None,), "int64", 256), Spec(VECTOR, (1,), "float32")
        return {"wave": Spec(SEQUENCE, (None, 1), "float32"), "marks": marks, "loudness": loudness}

    spec = stored  # type: ignore[assignment]

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:  # type: ignore[override]
        self.loaded.append(value)
        wave = np.frombuffer(value.read_bytes(), np.uint8)
        return {
            "wave": wave[:, None].astype(np.float32),
            "marks": wave.astype(np.int64),
            "loudness": wave.mean(keepdims=True).astype(np.float32),
        }


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Twelve files, one of them twice, one cell that is absent and one that cannot be loaded."""
    generator = np.random.default_rng(3)
    for row in range(ROWS):
        (tmp_path / f"{row}.bin").write_bytes(generator.integers(0, 256, 20 + row, np.uint8).tobytes())
    names = [f"{row}.bin" for row in range(ROWS)]
    return read_table({"file": [*names, None, "3.bin", "gone.bin"]}, tmp_path)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few values, of which some lie in two."""
    monkeypatch.setattr(mmreg.data.checksums, "BLOCK_BYTES", 50)
    monkeypatch.setattr(mmreg.data.mapped, "BLOCK_BYTES", 50)


def get(modality: Modality, table: Table, cache: Path | None) -> Prepared:
    return prepare(modality, table, ["file"], name="it", on_bad="absent", cache_dir=cache)


def everything(prepared: Prepared) -> list[Any]:
    """All that training could learn of it, as what can be compared."""
    signal = prepared.gather(np.flatnonzero(prepared.present))
    values: Mapping[str, Tensor] = signal.values if isinstance(signal.values, dict) else {"": signal.values}
    lengths = None if signal.lengths is None else signal.lengths.tolist()
    bad = [(cell.row, cell.value, cell.cause) for cell in prepared.bad]
    return [prepared.index.tolist(), lengths, bad, {name: tensor.tolist() for name, tensor in values.items()}]


def entry(cache: Path) -> Path:
    (found,) = entries_dir(cache).iterdir()
    return found


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file round, whoever has it open or mapped."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk, which takes most of the time of a test that makes many entries."""
    monkeypatch.setattr(mmreg.data.entry, "sync", lambda path: None)


@pytest.mark.parametrize("modality", [Image, Sound])
@pytest.mark.parametrize("when", ["before it is opened", "before it is used"])
def test_no_bit_can_turn_without_being_noticed(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, modality: type[Modality], when: str
) -> None:
    no_sync(monkeypatch)
    expected = everything(get(modality(), table, None))
    assert everything(get(modality(), table, cache)) == expected
    generator = np.random.default_rng(4)
    for _ in range(75):
        files = sorted(entry(cache).iterdir())
        ends = np.cumsum([file.stat().st_size * 8 for file in files])
        bit = int(generator.integers(ends[-1]))
        file = int(np.searchsorted(ends, bit, side="right"))
        opened = get(modality(), table, cache)
        flip(files[file], bit - int(ends[file - 1] if file else 0))
        prepared = opened if when == "before it is used" else get(modality(), table, cache)
        assert everything(prepared) == expected, (files[file].name, bit)
        assert everything(get(modality(), table, cache)) == expected


@pytest.mark.parametrize("modality", [Image, Sound])
def test_a_bit_that_turns_in_the_midst_is_noticed_at_the_first_use_and_mended(
    table: Table, cache: Path, modality: type[Image], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = get(modality(), table, cache)
    expected = [everything(get(modality(), table, None)), list(map(str, prepared.arrays(np.arange(ROWS))))]
    prepared = get(modality(), table, cache)
    first = prepared.gather(np.array([0]))
    for file in entry(cache).glob("values*.bin"):
        flip(file, file.stat().st_size * 8 - 1)
    assert str(prepared.gather(np.array([0])).values) == str(first.values)
    assert not caplog.records
    assert [everything(prepared), list(map(str, prepared.arrays(np.arange(ROWS))))] == expected
    (told,) = caplog.records  # all arrays at once
    assert told.getMessage().startswith(f"mmreg: the values of it in the cache ({entry(cache)}) are damaged (values.")
    assert "is not as it was written, somewhere after byte " in told.getMessage()
    assert told.getMessage().endswith("and loaded anew")
    again = modality()
    assert everything(get(again, table, cache)) == expected[0]
    assert not again.loaded


def test_values_given_one_at_a_time_are_looked_at_as_well(table: Table, cache: Path) -> None:
    expected = [array.tolist() for array in get(Image(), table, cache).arrays(np.arange(ROWS))]
    flip(entry(cache) / "values.bin", 1000)
    assert [array.tolist() for array in get(Image(), table, cache).arrays(np.arange(ROWS))] == expected


def test_damage_that_the_background_thread_meets_is_mended_there(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mmreg.data.batches, "WORTH_A_THREAD", 0)
    image, sound = get(Image(), table, cache), get(Sound(), table, cache)
    for folder in entries_dir(cache).iterdir():
        for file in folder.glob("values*.bin"):
            flip(file, file.stat().st_size * 4)
    rows = np.arange(ROWS)
    batches = list(Batches({"image": image, "sound": sound}, rows, batch_size=5, prefetch=True))
    expected = list(
        Batches({"image": get(Image(), table, None), "sound": get(Sound(), table, None)}, rows, None, None, 5)
    )
    for batch, other in zip(batches, expected, strict=True):
        assert batch.signals["image"].values.tolist() == other.signals["image"].values.tolist()
        assert batch.signals["sound"].values["wave"].tolist() == other.signals["sound"].values["wave"].tolist()
    assert {record.threadName[: len("mmreg-batches")] for record in caplog.records} == {"mmreg-batches"}
    assert len(caplog.records) == 2


def test_threads_that_meet_the_same_damage_mend_it_once(
    table: Table, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = everything(get(Sound(), table, cache))
    flip(entry(cache) / "values.2.bin", 77)
    modality = Sound()
    prepared = get(modality, table, cache)
    together = threading.Barrier(4)
    found: list[Any] = []

    def use() -> None:
        together.wait(timeout=30)
        found.append(everything(prepared))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
    assert len(modality.loaded) == ROWS + 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", [0, 100])
def test_a_file_that_was_cut_under_its_map_is_not_touched(table: Table, cache: Path, size: int) -> None:
    expected = everything(get(Image(), table, cache))
    for used_before in (False, True):
        prepared = get(Image(), table, cache)
        if used_before:
            everything(prepared)
        os.truncate(entry(cache) / "values.bin", size)
        assert everything(prepared) == expected


def test_a_cleared_cache_does_not_disturb_whoever_uses_it(table: Table, cache: Path) -> None:
    expected = everything(get(Image(), table, cache))
    modality = Image()
    prepared = get(modality, table, cache)
    clear_cache(cache)
    assert everything(prepared) == expected
    assert not modality.loaded


def test_damage_is_an_error_where_the_source_is_gone(table: Table, tmp_path: Path, cache: Path) -> None:
    prepared = get(Image(), table, cache)
    folder = entry(cache)
    flip(folder / "values.bin", 700)
    (tmp_path / "5.bin").rename(tmp_path / "moved.bin")
    with pytest.raises(CacheError, match=r"values of it in the cache .* are damaged .* changed or are gone since"):
        everything(prepared)
    assert entry(cache) == folder
    (tmp_path / "moved.bin").rename(tmp_path / "5.bin")
    assert everything(prepared) == everything(get(Image(), table, None))


def test_damage_is_an_error_where_the_source_gives_something_else(table: Table, tmp_path: Path, cache: Path) -> None:
    prepared = get(Image(), table, cache)
    flip(entry(cache) / "values.bin", 700)
    times = (tmp_path / "5.bin").stat()
    (tmp_path / "5.bin").write_bytes(b"x" * times.st_size)  # which its size and time do not show
    os.utime(tmp_path / "5.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CacheError, match="what was loaded in their place is something else"):
        everything(prepared)


def test_what_a_modality_learns_after_loading_does_not_keep_its_values_from_being_mended(
    table: Table, cache: Path
) -> None:
    class Learning(Image):
        mean = 0.0

        def state(self) -> dict[str, Any]:
            return {"mean": self.mean}

    modality = Learning()
    expected = everything(get(modality, table, cache))
    prepared = get(modality, table, cache)
    flip(entry(cache) / "values.bin", 700)
    modality.mean = 3.0
    assert everything(prepared) == expected


def test_a_disk_that_damages_all_it_gets_is_an_error(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Checksums.add

    def faulty(self: Checksums, data: memoryview) -> None:
        add(self, data)
        self._checksum ^= 1

    monkeypatch.setattr(Checksums, "add", faulty)
    with pytest.raises(CacheError, match="vanish or are damaged as soon as they are written"):
        get(Image(), table, cache)


def test_a_value_that_is_damaged_again_at_once_is_an_error(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = get(Image(), table, cache)
    monkeypatch.setattr(MappedArray, "damage", lambda *_: "a byte is wrong")
    with pytest.raises(CacheError, match=r"are damaged again \(a byte is wrong\) .* the disk or the memory is faulty"):
        everything(prepared)


def test_a_training_in_which_a_bit_turns_ends_as_one_in_which_none_does(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Flipping(Callback):
        def on_step(self, step: Step) -> None:
            if step.step == 3:  # by then the training rows were used, and no others
                for folder in entries_dir(cache).iterdir():
                    flip(folder / "values.bin", (folder / "values.bin").stat().st_size * 8 - 1)

    toys.register()
    sound = toys.train(tmp_path / "sound")
    assert not caplog.records
    damaged = toys.train(tmp_path / "damaged", callback=Flipping())
    assert [record.getMessage().partition(" in the cache")[0] for record in caplog.records] == [
        "mmreg: the values of a",
        "mmreg: the values of b",
    ]
    for name, tensor in sound.model.state_dict().items():
        assert torch.equal(tensor, damaged.model.state_dict()[name]), name
    assert damaged.report == sound.report


INTRUDERS: dict[str, Callable[[Path, Path], object]] = {
    "a link to a folder": lambda path, other: path.symlink_to(other),
    "a link to nothing": lambda path, other: path.symlink_to(other / "nothing"),
    "a FIFO": lambda path, other: os.mkfifo(path),
    "a file": lambda path, other: path.write_text("x"),
    "a folder": lambda path, other: path.mkdir(),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("place", ["", "values.bin", "index.bin", "meta.json"])
@pytest.mark.parametrize("intruder", INTRUDERS)
def test_what_is_in_the_place_of_an_entry_or_its_files_goes_and_nothing_else(
    table: Table, tmp_path: Path, cache: Path, intruder: str, place: str
) -> None:
    expected = everything(get(Image(), table, cache))
    other = tmp_path / "other"
    other.mkdir()
    for file in entry(cache).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    before = sorted(other.iterdir())
    path = entry(cache) / place
    path.rename(tmp_path / "was there")
    INTRUDERS[intruder](path, other)
    assert everything(get(Image(), table, cache)) == expected
    assert stat.S_ISDIR(entry(cache).lstat().st_mode)
    assert all(stat.S_ISREG(file.lstat().st_mode) for file in entry(cache).iterdir())
    assert sorted(other.iterdir()) == before


def test_a_link_among_the_entries_is_cleared_and_not_followed(table: Table, tmp_path: Path, cache: Path) -> None:
    get(Image(), table, cache)
    folder = entry(cache).rename(tmp_path / entry(cache).name)
    (entries_dir(cache) / folder.name).symlink_to(folder)
    clear_cache(cache)
    assert list(entries_dir(cache).iterdir()) == []
    assert len(list(folder.iterdir())) == 3


def test_an_entry_of_an_earlier_release_is_counted_and_can_be_cleared(table: Table, cache: Path) -> None:
    get(Image(), table, cache)
    assert count_unusable(cache) == 0
    early = entries_dir(cache) / ("a1" * 20)
    early.mkdir()
    (early / "meta.json").write_text('{"bad": [], "files": {}}')
    assert count_unusable(cache) == 1
    assert clear_cache(cache).entries == 2
    assert list(entries_dir(cache).iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 137])
def test_checksums_are_those_of_the_blocks_however_they_are_written(tmp_path: Path, count: int) -> None:
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8).tobytes()
    expected = [zlib.crc32(data[at : at + 50]) for at in range(0, count, 50)]
    for step in (1, 7, 50, 1000):
        with (tmp_path / "file").open("wb") as file:
            writer = ChecksumWriter(file)
            for at in range(0, count, step):
                writer.write(memoryview(data)[at : at + step])
        assert (tmp_path / "file").read_bytes() == data
        assert writer.checksums() == expected
