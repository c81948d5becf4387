"""Whether the disk has room is told before anything is prepared, with what would fit instead."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import SEQUENCE, Spec, Specs
from mmreg.data.cache import entries_dir
from mmreg.data.decode import CellLoader
from mmreg.data.disk import least_bytes
from mmreg.data.encoded import EncodedLoader
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import Table, read_table
from mmreg.errors import CacheError

COUNT = 640


class Sound(Modality):
    """Each byte as a thousand numbers."""

    paths = takes_bytes = True
    stored: Specs = Spec(SEQUENCE, (None, 1000), "float32")
    spec = stored

    def __init__(self) -> None:
        self.loaded: list[Any] = []

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value)
        data = value.read_bytes() if isinstance(value, Path) else value
        return np.zeros((len(data), 1000), np.float32)


class Picture(Sound):
    """Pictures of 6,000 bytes."""

    takes_bytes = False
    stored: Specs = Spec("CHW", (3, 40, 50), "uint8")
    spec = stored

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value)
        return np.zeros((3, 40, 50), np.uint8)


@pytest.fixture
def table() -> Table:
    """Cells of their own bytes: 4 to 6 each, 5 on average."""
    return read_table({"file": [f"{row:03}".encode() + b"x" * (1 + row % 3) for row in range(COUNT)]})


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def get(modality: Modality, table: Table, cache: Path, **options: Any) -> Prepared:
    return prepare(modality, table, ["file"], name="sound", cache_dir=cache, **options)


def test_what_does_not_fit_is_refused_before_it_is_loaded(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 5_000_000)
    modality = Sound()
    with pytest.raises(CacheError) as raised:
        get(modality, table, cache)
    text = str(raised.value)
    assert text.startswith("640 values of sound take about 11.")  # 12.8 MB, less what chance may have added
    assert f" MB in the cache, and 5.0 MB are free on the disk of {cache}; free some space (mmreg cache prune)" in text
    assert "MMREG_CACHE_DIR" in text
    assert "store: encoded keeps the files as they are, which takes about 3." in text  # kB
    assert len(modality.loaded) <= 64
    assert list(entries_dir(cache).iterdir()) == []
    get(Sound(), table, cache, store="encoded")


def test_encoded_is_offered_only_where_it_fits_and_can_be(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 1000)
    for modality, store in ((Sound(), "decoded"), (Sound(), "encoded"), (Picture(), "decoded")):
        with pytest.raises(CacheError, match="values of sound take about") as raised:
            get(modality, table, cache, store=store)
        assert "store:" not in str(raised.value)


def test_what_fits_is_prepared(table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, COUNT * 6000)
    get(Picture(), table, cache)
    with_free(monkeypatch, COUNT * 6000 - 1)
    with pytest.raises(CacheError, match=r"640 values of sound take about 3\.8 MB"):
        get(Picture(), read_table({"file": [f"{row}".encode() for row in range(COUNT)]}), cache)


@pytest.mark.parametrize("count", [1, 31])
def test_few_ragged_values_are_not_loaded_twice(cache: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 0)
    modality = Sound()
    get(modality, read_table({"file": [f"{row}".encode() for row in range(count)]}), cache)
    assert len(modality.loaded) == count


def test_where_there_is_plenty_of_room_hardly_anything_is_loaded_twice(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 16 * COUNT * 6 * 4000)
    modality = Sound()
    get(modality, table, cache)
    assert len(modality.loaded) == COUNT + 8
    with_free(monkeypatch, 4 * COUNT * 6 * 4000)
    modality = Sound()
    get(modality, read_table({"file": [f"{row}".encode() for row in range(COUNT)]}), cache)
    assert len(modality.loaded) == COUNT + 8 + 32


def test_cells_that_cannot_be_loaded_do_not_tell_that_there_is_plenty_of_room(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(Sound):
        def load(self, value: Any) -> NDArray[Any]:
            if int(value) in np.linspace(0, COUNT - 1, 8).astype(int):
                raise ValueError
            return super().load(value)

    with_free(monkeypatch, 1_000_000)
    with pytest.raises(CacheError, match="640 values of sound take about"):
        get(Picky(), read_table({"file": [f"{row:05}".encode() for row in range(COUNT)]}), cache)


def test_the_estimate_is_near_the_truth_and_rarely_above_it() -> None:
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(50):
        sizes = generator.lognormal(3, 0.5, 1000).astype(int) + 1
        cells = lambda sample: (b"x" * sizes[number] for number in sample)  # noqa: B023, E731
        for loader, each in ((CellLoader(Sound()), 4000.0), (EncodedLoader(Sound()), 1.0)):
            shares.append(least_bytes(loader, cells, 1000) / (sizes.sum() * each))
    assert np.mean(np.array(shares) > 1) < 0.08
    assert 0.7 < np.mean(shares) < 1
