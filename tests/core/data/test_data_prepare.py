"""Loading every value once, what is bad, and the cache."""

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import mmreg.data.decode
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import SEQUENCE, TOKENS, VECTOR, Spec
from mmreg.data.cache import cache_dir, cache_use, clear_cache, entries_dir
from mmreg.data.hashing import field_names
from mmreg.data.prepare import Prepared, prepare, raise_bad
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table, concat_tables, read_table
from mmreg.errors import CacheError, DataError, MmregError, SpecError, TableError, TrainingError, ValueLoadError


class Numbers(Modality):
    """Files of numbers, one a line, times `scale`; `offset` belongs to `transform`."""

    paths = True
    transform_options = frozenset({"offset"})
    stored = spec = Spec(SEQUENCE, (None, 1), "float32")

    def __init__(self, *, scale: float = 1.0, offset: float = 0.0) -> None:
        self.scale, self.offset = scale, offset
        self.loaded: list[Any] = []
        self.fitted = 0

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value)
        text = value.read_text() if isinstance(value, Path) else value.decode()
        if not text:
            raise ValueLoadError("the file holds no numbers")
        return np.array([[float(line)] for line in text.split()], np.float32) * self.scale

    def load_state_key(self) -> Any:
        return self.fitted


class Letters(Modality):
    """The code of a text's first letter."""

    stored = spec = Spec(VECTOR, (1,), "uint8")

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, value: Any) -> NDArray[Any]:
        self.loaded.append(value)
        return np.array([ord(value[0])], np.uint8)


class Sum(Modality):
    """The sum of several columns, of which some may be absent."""

    multiple_columns = True
    stored = spec = Spec("", (), "float64")

    def load(self, value: Any) -> NDArray[Any]:
        return np.array(sum(part or 0 for part in value.values()), np.float64)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    for name, content in [("a", "1 2 3"), ("b", "4"), ("c", "5 6"), ("empty", "")]:
        (tmp_path / f"{name}.txt").write_text(content)
    return read_table({"file": ["a.txt", "b.txt", None, "c.txt", "a.txt"]}, tmp_path)


def get(modality: Modality, table: Table, cache: Path | None = None, **options: Any) -> Prepared:
    return prepare(modality, table, ["file"], name="numbers", cache_dir=cache, **options)


def rows_of(prepared: Prepared) -> list[list[float] | None]:
    values = [
        None if not there else next(prepared.arrays(np.array([row]))) for row, there in enumerate(prepared.present)
    ]
    return [None if value is None else value.reshape(-1).tolist() for value in values]


@pytest.mark.parametrize("cached", [False, True])
def test_every_row_gets_its_value(table: Table, cache: Path, cached: bool) -> None:
    prepared = get(Numbers(), table, cache if cached else None)
    assert rows_of(prepared) == [[1, 2, 3], [4], None, [5, 6], [1, 2, 3]]
    assert prepared.present.tolist() == [True, True, False, True, True]
    assert len(prepared) == 5
    assert prepared.nbytes == 6 * 4
    assert prepared.bad == []
    signal = prepared.gather(np.array([3, 0]))
    assert signal.values[..., 0].tolist() == [[5, 6, 0], [1, 2, 3]]


def test_equal_cells_are_loaded_once(table: Table) -> None:
    modality = Numbers()
    get(modality, table)
    assert sorted(path.name for path in modality.loaded) == ["a.txt", "b.txt", "c.txt"]


def test_equal_names_in_joined_tables_of_two_folders_are_two_files(table: Table, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("9")
    joined = concat_tables([table, read_table({"file": ["a.txt"]}, tmp_path / "other")])
    assert rows_of(get(Numbers(), joined, cache))[-1] == [9]


def test_a_column_may_hold_bytes_or_files_of_the_datasets_library(tmp_path: Path, table: Table) -> None:
    assert rows_of(get(Numbers(), read_table({"file": [b"7 8", b"9"]}))) == [[7, 8], [9]]
    structs = [{"bytes": b"7", "path": None}, {"bytes": None, "path": "b.txt"}]
    assert rows_of(get(Numbers(), read_table({"file": structs}, tmp_path))) == [[7], [4]]


def test_several_columns_are_read_together(cache: Path) -> None:
    table = read_table({"a": [1, None, None], "b": [2.5, 4.0, None]})
    for folder in (None, cache, cache):
        prepared = prepare(Sum(), table, ["a", "b"], name="sum", cache_dir=folder)
        assert prepared.present.tolist() == [True, True, False]
        assert prepared.gather(np.array([1, 0])).values.tolist() == [4.0, 3.5]


@pytest.mark.parametrize("cached", [False, True])
def test_a_column_in_which_everything_is_absent(cache: Path, cached: bool) -> None:
    table = read_table({"file": ["", None]})
    for modality in (Numbers(), Letters()):
        for _ in range(2):
            prepared = get(modality, table, cache if cached else None)
            assert not prepared.present.any()
            assert prepared.nbytes == 0


def test_many_values_stay_in_order_whatever_thread_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmreg.data.decode, "MAX_CHUNK", 3)
    monkeypatch.setattr(mmreg.data.decode, "num_workers", lambda: 4)
    texts = [f"{chr(40 + n % 80)}{n}" for n in range(1000)]
    seen: list[tuple[int, int, str]] = []
    prepared = get(Letters(), read_table({"file": texts}), progress=lambda *progress: seen.append(progress))
    assert [row and row[0] for row in rows_of(prepared)] == [ord(text[0]) for text in texts]
    assert seen[-1] == (1000, 1000, "numbers")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_no_worker_has_a_large_part_while_the_others_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmreg.data.decode, "num_workers", lambda: 2)
    sizes: list[int] = []
    load_all = mmreg.data.decode.CellLoader.load_all
    monkeypatch.setattr(
        mmreg.data.decode.CellLoader,
        "load_all",
        lambda self, values: sizes.append(len(values)) or load_all(self, values),  # type: ignore[func-returns-value]
    )
    get(Sum(), read_table({"file": list(range(400))}))
    assert sum(sizes) == 400
    assert max(sizes) == 100  # a quarter of what is left
    assert sorted(sizes)[:4] == [7, 8, 8, 8]


def test_bad_cells_are_recorded_with_their_place_and_cause(table: Table, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "words.txt").write_text("no number")
    files = ["a.txt", "gone.txt", "empty.txt", "words.txt", "folder", "gone.txt", "x" * 300, "nul\0"]
    bad_table = read_table({"file": files}, tmp_path)
    expected = [
        (1, "gone.txt", f"there is no file {tmp_path / 'gone.txt'}"),
        (2, "empty.txt", "the file holds no numbers"),
        (3, "words.txt", "ValueError: could not convert string to float: 'no'"),
        (4, "folder", f"{tmp_path / 'folder'} is a folder, not a file"),
        (5, "gone.txt", f"there is no file {tmp_path / 'gone.txt'}"),
    ]
    for folder in (None, cache, cache):
        modality = Numbers()
        prepared = get(modality, bad_table, folder)
        assert [(cell.row, cell.value, cell.cause) for cell in prepared.bad[:5]] == expected
        assert [cell.row for cell in prepared.bad[5:]] == [6, 7]
        assert len(prepared.bad[5].value) < 100
        assert prepared.bad[0].where == "<table>, row 2"
        assert prepared.bad[0].column == "file"
        assert prepared.present.tolist() == [True] + [False] * 7
        assert prepared.bad_rows.tolist() == [False] + [True] * 7
    assert not modality.loaded  # the second time from the cache


def test_a_cell_that_cannot_become_an_array_is_bad_and_an_empty_list_is_absent() -> None:
    class Lists(Modality):
        stored = spec = Spec(TOKENS, (None,), "int64")

        def load(self, value: Any) -> NDArray[Any]:
            return np.asarray(value, np.int64).reshape(-1)

    prepared = get(Lists(), read_table({"file": [[[1], [2, 3]], [], [[4]]]}))
    assert [(cell.row, cell.cause) for cell in prepared.bad] == [(0, "a nested list whose parts differ in length")]
    assert prepared.bad[0].value == "a list of 2"
    assert prepared.present.tolist() == [False, False, True]


class Panic(BaseException):
    """What a library in Rust raises: it is no `Exception`."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Panic("index out of bounds"), "Panic: index out of bounds"),
        (SystemExit(3), "SystemExit: 3"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            "there is not enough memory to load it (MemoryError: Unable",
        ),
        (RecursionError("too deep"), "RecursionError: too deep"),
    ],
)
def test_whatever_a_decoder_raises_is_that_cells_fault(table: Table, error: BaseException, cause: str) -> None:
    class Fragile(Numbers):
        def load(self, value: Any) -> NDArray[Any]:
            if value.name == "b.txt":
                raise error
            return super().load(value)

    prepared = get(Fragile(), table)
    assert [(cell.row, cell.value) for cell in prepared.bad] == [(1, "b.txt")]
    assert prepared.bad[0].cause.startswith(cause)
    assert rows_of(prepared) == [[1, 2, 3], None, None, [5, 6], [1, 2, 3]]


def test_ctrl_c_in_a_decoder_is_no_cells_fault(table: Table, cache: Path) -> None:
    class Interrupted(Numbers):
        def load(self, value: Any) -> NDArray[Any]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(Interrupted(), table, cache)
    assert list(entries_dir(cache).iterdir()) == []


@pytest.mark.parametrize("error", [Panic("oh"), SystemExit("oh"), MemoryError("oh"), KeyError("oh")])
def test_whatever_learning_from_arrays_raises_names_the_modality(table: Table, error: BaseException) -> None:
    class Fragile(Numbers):
        def fit_arrays(self, arrays: Iterator[Any]) -> None:
            raise error

    with pytest.raises(TrainingError, match=f"modality 'numbers' cannot learn .*: {type(error).__name__}: '?oh"):
        fit_arrays({"numbers": get(Fragile(), table)}, {"numbers": Fragile()}, np.arange(5))


def bad_numbers(tmp_path: Path, count: int, **options: Any) -> Prepared:
    return get(Numbers(), read_table({"file": [f"gone/{n}.txt" for n in range(count)]}, tmp_path), **options)


def test_the_error_shows_ten_bad_cells_and_counts_the_rest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        raise_bad([bad_numbers(tmp_path, 1200), bad_numbers(tmp_path, 3)])
    lines = str(error.value).splitlines()
    assert lines[0] == "1,203 cells cannot be loaded (numbers: 1,200 of 1,200 rows, numbers: 3 of 3 rows):"
    place = f"  <table>, row 1, column file: gone/0.txt: there is no file {tmp_path / 'gone' / '0.txt'}"
    assert lines[1] == lines[2] == place
    assert lines[11] == "  and 1,193 more"
    assert "on_bad: absent" in lines[12]
    assert "on_bad: skip" in lines[12]


@pytest.mark.parametrize("policy", ["absent", "skip"])
def test_other_policies_raise_nothing(tmp_path: Path, policy: str) -> None:
    prepared = bad_numbers(tmp_path, 2, on_bad=policy)
    assert prepared.on_bad == policy
    raise_bad([prepared])
    assert not prepared.present.any()


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 1), np.float64), r"an array \(2, 1\) of float64"),
        (np.zeros((2, 2), np.float32), r"an array \(2, 2\) of float32"),
        (np.zeros(2, np.float32), r"an array \(2,\) of float32"),
        ([[1.0]], "a list"),
    ],
)
def test_a_load_that_breaks_its_promise_is_the_authors_error(table: Table, array: Any, found: str) -> None:
    class Wrong(Numbers):
        def load(self, value: Any) -> NDArray[Any]:
            return array  # type: ignore[no-any-return]

    with pytest.raises(
        SpecError, match=f"Wrong promises TC .* but its `load` gave {found}; this is an error in the mod"
    ):
        get(Wrong(), table)


@pytest.mark.parametrize("spec", [Spec("CT", (2, None)), Spec(VECTOR, (2,), "bfloat16")])
def test_a_stored_spec_that_cannot_be_is_the_authors_error(table: Table, spec: Spec) -> None:
    class Wrong(Numbers):
        stored = spec

    with pytest.raises(SpecError, match="Wrong stores"):
        get(Wrong(), table)


def test_columns_are_checked(table: Table) -> None:
    with pytest.raises(TableError, match="no column 'fil'; did you mean 'file'"):
        prepare(Numbers(), table, ["fil"], name="numbers")
    with pytest.raises(TableError, match="numbers: the modality Numbers reads one column"):
        prepare(Numbers(), table, ["file", "file"], name="numbers")


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def grow(path: Path) -> None:
    before = path.stat().st_mtime_ns
    path.write_text("44")
    os.utime(path, ns=(before, before))


CHANGES: dict[str, tuple[Callable[[Path], dict[str, Any]], bool]] = {
    "nothing": (lambda folder: {}, True),
    "a transform option": (lambda folder: {"options": {"scale": 1.0, "offset": 3.0}}, True),
    "a load option": (lambda folder: {"options": {"scale": 2.0, "offset": 0.0}}, False),
    "a file's time": (lambda folder: touch(folder / "a.txt") or {}, False),
    "a file's size": (lambda folder: grow(folder / "b.txt") or {}, False),
    "a file removed": (lambda folder: (folder / "b.txt").unlink() or {}, False),
    "another file's time": (lambda folder: touch(folder / "empty.txt") or {}, True),
    "the fitted state": (lambda folder: {"fitted": 1}, False),
    "the cells": (lambda folder: {"files": ["a.txt", "b.txt", None, "c.txt", "b.txt"]}, False),
    "the policy": (lambda folder: {"on_bad": "skip"}, True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_notices_what_load_depends_on_and_nothing_else(
    table: Table, tmp_path: Path, cache: Path, change: str
) -> None:
    options = {"scale": 1.0, "offset": 0.0}
    get(Numbers(), table, cache, options=options)
    apply, hit = CHANGES[change]
    changed = apply(tmp_path)
    modality = Numbers(**changed.get("options", {}))
    modality.fitted = changed.get("fitted", 0)
    if "files" in changed:
        table = read_table({"file": changed["files"]}, tmp_path)
    get(modality, table, cache, options=changed.get("options", options), on_bad=changed.get("on_bad", "error"))
    assert (not modality.loaded) == hit


def test_the_cache_notices_another_version_and_another_class(table: Table, cache: Path) -> None:
    class Newer(Numbers):
        version = 2

    get(Numbers(), table, cache)
    for modality in (Newer(), type("Other", (Numbers,), {})()):
        get(modality, table, cache)
        assert modality.loaded
    Newer.version = 3
    modality = Newer()
    get(modality, table, cache)
    assert modality.loaded


def test_the_same_values_from_a_file_and_from_memory_share_an_entry(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "t.csv").write_text("file,n\nx,1\ny,2\n")
    get(Letters(), read_table(tmp_path / "t.csv"), cache)
    modality = Letters()
    get(modality, read_table([{"file": "x"}, {"file": "y"}]), cache)
    assert not modality.loaded


def entry(cache: Path) -> Path:
    (found,) = entries_dir(cache).iterdir()
    return found


@pytest.mark.parametrize("name", ["values.bin", "index.bin", "offsets.bin", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_entry_is_made_again(table: Table, cache: Path, name: str, damage: str) -> None:
    get(Numbers(), table, cache)
    file = entry(cache) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    modality = Numbers()
    assert rows_of(get(modality, table, cache)) == [[1, 2, 3], [4], None, [5, 6], [1, 2, 3]]
    assert modality.loaded
    again = Numbers()
    get(again, table, cache)
    assert not again.loaded


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing_but_what_the_next_call_uses(
    table: Table, cache: Path, error: type[BaseException]
) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        raise error

    with pytest.raises(error):
        get(Numbers(), table, cache, progress=interrupt)
    left = sorted(path.suffix for path in entries_dir(cache).iterdir())
    assert left == ([".lock", ".tmp"] if error is KeyboardInterrupt else [])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmreg-load")]
    again = Numbers()
    assert rows_of(get(again, table, cache))[1] == [4]
    assert len(again.loaded) == (0 if error is KeyboardInterrupt else 3)
    assert [path.suffix for path in entries_dir(cache).iterdir()] == [""]


DIES_IN_THE_MIDDLE = """
import os, sys, pathlib
import numpy as np
from mmreg.data.prepare import prepare
from mmreg.data.table import read_table
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec

class Dying(Modality):
    stored = spec = Spec("C", (1,), "uint8")
    def load(self, value):
        if value == "die":
            os._exit(9)
        return np.zeros(1, np.uint8)

prepare(Dying(), read_table({"c": ["x"] * 999 + ["die"]}), ["c"], name="c", cache_dir=pathlib.Path(sys.argv[1]))
"""


def test_a_killed_process_leaves_no_entry_and_the_next_one_cleans_up(table: Table, cache: Path) -> None:
    assert forked.run(["-c", DIES_IN_THE_MIDDLE, cache]).returncode == 9
    assert sorted(path.suffix for path in entries_dir(cache).iterdir()) == [".lock", ".tmp"]
    get(Numbers(), table, cache)
    assert [path.suffix for path in entries_dir(cache).iterdir()] == [""]


def test_two_at_once_do_not_disturb_each_other(table: Table, cache: Path) -> None:
    both_loading = threading.Barrier(2)

    class Slow(Numbers):
        def load(self, value: Any) -> NDArray[Any]:
            if value.name == "a.txt":
                both_loading.wait(timeout=30)
            return super().load(value)

    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(rows_of(get(Slow(), table, cache)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[[1, 2, 3], [4], None, [5, 6], [1, 2, 3]]] * 2
    assert [path.suffix for path in entries_dir(cache).iterdir()] == [""]


def test_a_cache_that_cannot_be_written_is_a_clear_error(table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"the cache in .* cannot be written: .*MMREG_CACHE_DIR") as error:
        get(Numbers(), table, tmp_path / "file")
    assert isinstance(error.value, MmregError)
    assert error.value.exit_code == 1


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmreg.data.entry.sync", full)
    with pytest.raises(CacheError, match="cannot be written: No space left on device; free some space there"):
        get(Numbers(), table, cache)
    assert list(entries_dir(cache).iterdir()) == []


def test_what_is_gathered_may_be_changed_without_touching_the_cache(table: Table, cache: Path) -> None:
    prepared = get(Numbers(), table, cache)
    next(prepared.arrays(np.array([0])))[:] = -1
    prepared.gather(np.array([0])).values.zero_()
    assert rows_of(prepared)[0] == [1, 2, 3]
    assert rows_of(get(Numbers(), table, cache))[0] == [1, 2, 3]


def test_the_cache_folder_is_the_environments_or_the_users(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == cache
    monkeypatch.delenv("MMREG_CACHE_DIR")
    assert cache_dir().name == "mmreg"
    assert cache_dir().is_absolute()


def test_the_cache_can_be_measured_and_cleared(table: Table, cache: Path) -> None:
    assert cache_use(cache).entries == 0
    get(Numbers(), table, cache)
    use = cache_use(cache)
    assert use.entries == 1
    assert use.bytes == sum(file.stat().st_size for file in entry(cache).iterdir())
    assert clear_cache(cache) == use
    assert cache_use(cache).entries == 0
    assert clear_cache(cache).bytes == 0


def test_clearing_spares_what_is_being_written(table: Table, cache: Path) -> None:
    get(Numbers(), table, cache, progress=lambda done, total, name: clear_cache(cache) and None)
    modality = Numbers()
    get(modality, table, cache)
    assert not modality.loaded


def test_an_entry_says_what_is_in_it(table: Table, cache: Path) -> None:
    get(Numbers(), table, cache)
    meta = json.loads((entry(cache) / "meta.json").read_text())
    assert meta["files"]["values.bin"] == 24
    assert meta["checksums"]["values.bin"] == [zlib.crc32((entry(cache) / "values.bin").read_bytes())]
    assert meta["bad"] == []


class Pair(Modality):
    """A struct of two numbers, or a list of such, as the numbers in the order of their names."""

    stored = spec = Spec(VECTOR, (2,), "float32")

    def load(self, value: Any) -> NDArray[Any]:
        parts = value[0] if isinstance(value, np.ndarray) else value
        return np.array([parts[name] for name in sorted(parts)], np.float32)


@pytest.mark.parametrize("listed", [False, True])
def test_structs_of_equal_values_and_other_names_do_not_share_an_entry(cache: Path, listed: bool) -> None:
    def rows(**cell: float) -> Table:
        return read_table([{"cell": [cell] if listed else cell}])

    for cell in ({"a": 1.0, "b": 2.0}, {"b": 1.0, "a": 2.0}, {"x": 1.0, "c": 2.0}):
        prepared = prepare(Pair(), rows(**cell), ["cell"], name="pair", cache_dir=cache)
        assert rows_of(prepared) == [[cell[name] for name in sorted(cell)]]
    assert cache_use(cache).entries == 3


def test_field_names_are_of_structs_alone() -> None:
    assert field_names(pa.list_(pa.large_list(pa.float32()))) == []
    assert field_names(pa.fixed_shape_tensor(pa.float32(), (2, 3))) == []
    inner = pa.struct({"b": pa.string()})
    assert field_names(pa.struct({"a": pa.list_(inner), "c": pa.int8()})) == [["a", [["b", []]]], ["c", []]]
    assert field_names(pa.list_(inner, 2)) == [["b", []]]
