"""Cells that name folders: the files inside belong to the cache's key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmreg.data.key
from mmreg import registry
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import VECTOR, Spec
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import Table, read_table
from mmreg.errors import ValueLoadError
from mmreg.recipe.suggestions import suggest


class Frames(Modality):
    """The sum of the numbers in a folder's files."""

    paths = True
    extensions = frozenset({".frames"})
    default_encoder = "linear"
    stored = spec = Spec(VECTOR, (1,))

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value.name)
        files = [file for file in value.rglob("*") if file.is_file()]
        if not files:
            raise ValueLoadError("the folder holds no frames")
        return np.array([sum(float(file.read_text()) for file in files)], np.float32)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    for number, name in enumerate(("one/a.txt", "one/inner/b.txt", "two/a.txt")):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number + 1))
    return read_table({"clip": ["clips/one", "clips/two", "clips/one"]}, tmp_path)


def get(table: Table, cache: Path | None, modality: Modality | None = None) -> Prepared:
    return prepare(modality or Frames(), table, ["clip"], name="clip", cache_dir=cache, on_bad="absent")


def values(prepared: Prepared) -> list[float]:
    return [float(array[0]) for array in prepared.arrays(np.arange(len(prepared)))]


def rewrite(path: Path) -> None:
    """Other content of the same size, at another time."""
    path.write_text("9")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, tuple[Callable[[Path], object], list[float]]] = {
    "nothing": (lambda one: None, []),
    "a file's content": (lambda one: rewrite(one / "a.txt"), [11, 3, 11]),
    "a file's content further down": (lambda one: rewrite(one / "inner/b.txt"), [10, 3, 10]),
    "another file": (lambda one: (one / "c.txt").write_text("5"), [8, 3, 8]),
    "a file less": (lambda one: (one / "inner/b.txt").unlink(), [1, 3, 1]),
    "a file's name": (lambda one: (one / "a.txt").rename(one / "z.txt"), [3, 3, 3]),
    "a file of another folder": (lambda one: rewrite(one.parent / "two/a.txt"), [3, 9, 3]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_below_a_folder_is_noticed(table: Table, tmp_path: Path, cache: Path, change: str) -> None:
    assert values(get(table, cache)) == [3, 3, 3]
    apply, expected = CHANGES[change]
    apply(tmp_path / "clips/one")
    modality = Frames()
    assert values(get(table, cache, modality)) == (expected or [3, 3, 3])
    assert bool(modality.loaded) == bool(expected)


def test_files_and_folders_that_are_links_are_followed(table: Table, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/x.txt").write_text("4")
    (tmp_path / "clips/two/linked").symlink_to(tmp_path / "far")
    (tmp_path / "clips/two/nowhere").symlink_to(tmp_path / "gone")
    get(table, cache)
    rewrite(tmp_path / "far/x.txt")
    modality = Frames()
    get(table, cache, modality)
    assert modality.loaded


@pytest.mark.parametrize("above", ["clips/one", "clips/one/inner"])
def test_a_folder_that_holds_itself_is_refused(table: Table, tmp_path: Path, cache: Path, above: str) -> None:
    (tmp_path / "clips/one/inner/up").symlink_to(tmp_path / above)
    modality = Frames()
    for _ in range(2):
        prepared = get(table, cache, modality)
        assert prepared.present.tolist() == [False, True, False]
        assert [str(cell) for cell in prepared.bad] == [
            f"<table>, row {row}, column clip: clips/one: in {tmp_path}/clips/one, inner/up is a link to a folder "
            "that it is in; remove it"
            for row in (1, 3)
        ]
    assert modality.loaded == ["two"]
    (tmp_path / "clips/one/inner/up").unlink()
    assert values(get(table, cache)) == [3, 3, 3]


def test_a_folder_of_too_many_files_is_refused(
    table: Table, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmreg.data.key, "MOST_FILES", 2)
    prepared = get(table, cache)
    assert prepared.present.tolist() == [False, True, False]
    assert "clips/one holds more than 2 files, too many to watch for changes; name a smaller" in prepared.bad[0].cause
    assert get(table, None).present.all()  # nothing is kept that would have to be watched


def test_folders_among_several_columns_are_watched_too(tmp_path: Path, cache: Path) -> None:
    class Pair(Frames):
        multiple_columns = True

        def load(self, value: Any) -> NDArray[Any]:
            return sum((super(Pair, self).load(part) for part in value.values()), np.zeros(1, np.float32))

    (tmp_path / "x").mkdir()
    (tmp_path / "x/loop").symlink_to(tmp_path / "x")
    table = read_table({"p": ["x", None], "q": ["x", "gone"]}, tmp_path)
    prepared = prepare(Pair(), table, ["p", "q"], name="pair", cache_dir=cache, on_bad="absent")
    assert prepared.bad[0].cause.endswith("loop is a link to a folder that it is in; remove it")


def test_what_a_modality_says_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    prepared = get(read_table({"clip": ["empty"]}, tmp_path), None)
    assert [cell.cause for cell in prepared.bad] == ["the folder holds no frames"]


def test_init_knows_folders_that_are_there(table: Table, tmp_path: Path) -> None:
    registry.register("modality", "frames", Frames)
    (tmp_path / "clips/one").rename(tmp_path / "clips/one.frames")
    found = suggest(read_table({"clip": ["clips/one.frames"] * 4}, tmp_path), ["clip"])
    assert [(each.modality, each.columns, each.missing) for each in found] == [("frames", ("clip",), "")]
