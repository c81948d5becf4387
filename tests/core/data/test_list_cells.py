"""Cells of any number of values: taken apart whatever holds them, prepared as single ones, and put together again."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import toys
from PIL import Image

from mmreg.data.batches import Batches
from mmreg.data.leaks import leaks
from mmreg.data.lengths import ragged_bytes
from mmreg.data.list_cells import list_cells
from mmreg.data.lost import lost_cells
from mmreg.data.prepare import prepare
from mmreg.data.prepared import Prepared, raise_bad
from mmreg.data.resident import ResidentRows, ResidentValues
from mmreg.data.segments import Segments, greatest, ranges
from mmreg.data.table import Table, concat_tables, read_table
from mmreg.errors import DataError, TableError
from mmreg_image.modality import Image as ImageModality
from mmreg_text.modality import Text

PATHS = [["a.png", "b.png"], [], ["c.png"], None, ["a.png", None, "d.png"]]


def taken(table: Table, column: str = "photos", **options: Any) -> list[list[Any]]:
    """The values of each row."""
    cells = list_cells(table, column, **options)
    values = [value or None for value in cells.values.iter_values(column)]
    return [values[first:end] for first, end in pairwise(cells.bounds)]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_view(pa.string_view())],
    ids=str,
)
def test_a_list_holds_its_elements(kind: pa.DataType) -> None:
    table = Table(pa.table({"photos": pa.chunked_array([pa.array(PATHS[:2], kind), pa.array(PATHS[2:], kind)])}))
    assert taken(table) == [["a.png", "b.png"], [], ["c.png"], [], ["a.png", None, "d.png"]]


def test_a_slice_of_lists_of_one_size_holds_its_own() -> None:
    array = pa.array([["a", "b"], None, ["c", "d"], ["e", "f"]], pa.list_(pa.string(), 2)).slice(1, 2)
    assert taken(Table(pa.table({"photos": array}))) == [[], ["c", "d"]]


def test_a_text_is_parted_by_the_separator() -> None:
    table = read_table({"photos": ["a.png|b.png", "", None, " c.png | ", "[1].png", "||"]})
    expected = [["a.png", "b.png"], [None], [], ["c.png", None], ["[1].png"], [None, None, None]]
    assert taken(table, separator="|") == expected


def test_a_text_that_is_a_list_in_json_holds_its_elements_and_any_other_is_one_value() -> None:
    texts = ['["a.png", "b.png"]', "c.png", None, "[]", " [null]", "[1].png", '["a.png"', "[" * 100_000, ""]
    assert taken(read_table({"photos": texts}))[:7] == [
        ["a.png", "b.png"],
        ["c.png"],
        [None],
        [],
        [None],
        ["[1].png"],
        ['["a.png"'],
    ]


def test_beside_a_separator_a_list_in_json_holds_its_elements_all_the_same() -> None:
    texts = ['["a|b.png", "c.png"]', " d.png| e.png", None, "", "[]", '["f.png"|g.png']
    expected = [["a|b.png", "c.png"], ["d.png", "e.png"], [], [None], [], ['["f.png"', "g.png"]]
    assert taken(read_table({"photos": texts}), separator="|") == expected
    vectors = ["[1, 2]|[3, 4]", "[[1, 2], [3, 4]]", "[5, 6]"]
    assert taken(read_table({"photos": vectors}), separator="|") == [["[1, 2]", "[3, 4]"]] * 2 + [["[5, 6]"]]


def test_lists_of_numbers_in_json_are_values_of_numbers() -> None:
    assert taken(read_table({"v": ["[[1, 2.5], [3, 4]]", "[[]]"]}), "v") == [["[1, 2.5]", "[3, 4]"], ["[]"]]


def test_texts_that_mark_absent_cells_do_so_within_cells() -> None:
    assert taken(read_table({"photos": ["a.png;NA", "NA;NA"]}), separator=";", missing=["NA"]) == [
        ["a.png", None],
        [None, None],
    ]


def test_single_values_stay_single() -> None:
    assert taken(read_table({"photos": [b"one", None, b"two"]})) == [[b"one"], [None], [b"two"]]
    files = [{"bytes": b"x", "path": None}, None]
    assert taken(Table(pa.table({"photos": files}))) == [[files[0]], [None]]
    assert taken(Table(pa.table({"photos": pa.nulls(2)})), separator="|") == [[None], [None]]


def test_values_are_called_as_the_rows_that_they_came_from(tmp_path: Path) -> None:
    tables = [
        Table(pa.table({"photos": [["a"], ["b", "c"]]}), name=f"{name}.parquet", folder=tmp_path / name)
        for name in ("one", "two")
    ]
    values = list_cells(concat_tables(tables), "photos").values
    assert [values.where(row) for row in range(6)] == [
        "one.parquet, row 1",
        *["one.parquet, row 2"] * 2,
        "two.parquet, row 1",
        *["two.parquet, row 2"] * 2,
    ]
    assert values.folders(np.array([2, 3])) == [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize(
    ("column", "separator", "told"),
    [
        ([[1, 2], [3]], None, "holds list<item: int64>, whose numbers are together one value: leave many out"),
        ([[True]], None, "list<item: bool>"),
        ([[["a"], ["b"]]], None, "lists within lists, where many reads one list a cell; flatten the inner ones"),
        ([["a.png"], ["b.png"]], "|", "there are no texts to part by separator: '|'; leave separator out"),
        ([np.zeros((2, 2)), None], "|", "holds Python objects, so there are no texts to part"),
    ],
)
def test_lists_that_hold_no_values_are_refused(column: Any, separator: str | None, told: str) -> None:
    with pytest.raises(TableError, match="column 'photos'") as caught:
        list_cells(read_table({"photos": column}), "photos", separator)
    assert told in str(caught.value)


def test_a_separator_is_of_no_use_but_does_no_harm_to_lists_that_are_given_in_use() -> None:
    assert taken(read_table({"photos": [["a|b"]]}), separator="|", strict=False) == [["a|b"]]


def image() -> ImageModality:
    return ImageModality(size=4, channels=3)


def pictures(folder: Path, names: str = "abcd") -> None:
    for number, name in enumerate(names):
        Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8)).save(folder / f"{name}.png")


def prepared(table: Table, modality: Any, column: str = "photos", **options: Any) -> Prepared:
    cells = list_cells(table, column, options.pop("separator", None))
    return cells.grouped(prepare(modality, cells.values, [column], name=column, **options))


@pytest.mark.parametrize("cached", [False, True], ids=["in memory", "cached"])
@pytest.mark.parametrize("store", ["decoded", "encoded"])
def test_rows_have_the_values_of_their_cells(tmp_path: Path, cached: bool, store: Any) -> None:
    pictures(tmp_path)
    table = Table(pa.table({"photos": PATHS}), folder=tmp_path)
    for _ in range(2):  # the second time from the cache
        values = prepared(table, image(), cache_dir=tmp_path / "cache" if cached else None, store=store)
        assert values.present.tolist() == [True, False, True, False, True]
        assert len(values) == 5
        rows = np.array([4, 0, 2])
        assert values.gather(rows).values[:, 0, 0, 0].tolist() == [0, 30, 0, 10, 20]
        segments = values.segments(rows)
        assert segments is not None
        assert (segments.rows.tolist(), segments.counts.tolist(), segments.longest) == ([0, 0, 1, 1, 2], [2, 2, 1], 2)
        assert segments.places.tolist() == [0, 1, 0, 1, 0]
        assert [array[0, 0, 0] for array in values.arrays(np.array([1, 4, 2]))] == [0, 30, 20]
    with pytest.raises(IndexError, match="rows 1 have no value"):
        values.gather(np.array([0, 1]))


def test_equal_values_are_loaded_once() -> None:
    loads: list[str] = []

    class Counted(Text):
        def load(self, value: Any) -> Any:
            loads.append(value)
            return super().load(value)

    modality = Counted()
    modality.fit_values(iter(["one", "two"]))
    values = prepared(read_table({"t": ["one|two|one", "two", None]}), modality, "t", separator="|")
    assert sorted(loads) == ["one", "two"]
    assert values.index.tolist() == [0, 1, 0, 1]
    assert values.nbytes == 2 * 4


def test_a_table_of_empty_lists_has_no_values(tmp_path: Path) -> None:
    table = Table(pa.table({"photos": pa.array([[], None], pa.list_(pa.string()))}))
    for cache in (None, tmp_path):
        values = prepared(table, image(), cache_dir=cache)
        assert values.present.tolist() == [False, False]
        assert [len(batch.signals) for batch in Batches({"photos": values}, np.arange(2))] == [0]
        ResidentValues(values, torch.device("cpu"))


def test_one_value_that_cannot_be_loaded_makes_its_cell_a_bad_one(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    cells = [["a.png", "broken.png", "gone.png"], ["b.png"], [None, "gone.png"]]
    table = Table(pa.table({"photos": cells}), name="t.parquet", folder=tmp_path)
    values = prepared(table, image(), on_bad="absent")
    assert values.present.tolist() == [False, True, False]
    assert values.bad_rows.tolist() == [True, False, True]
    first, second = map(str, values.bad)
    assert first.startswith("t.parquet, row 1, column photos: value 2 of 3, broken.png: ")
    gone = f"there is no file {tmp_path / 'gone.png'}"
    assert second == f"t.parquet, row 3, column photos: value 2 of 2, gone.png: {gone}"
    assert values.gather(np.array([1])).values[0, 0, 0, 0] == 10
    with pytest.raises(DataError, match=r"2 cells cannot be loaded \(photos: 2 of 3 rows\)"):
        raise_bad([prepared(table, image())])


def test_what_is_no_text_in_a_json_list_is_told() -> None:
    texts = ['["one two", 5]', '["x", {"a": 1}]', '[["a"]]', '["x", true]', '["fine", null]']
    modality = Text()
    modality.fit_values(iter(["one two"]))
    values = prepared(read_table({"t": texts}), modality, "t")
    assert [str(cell).partition("column ")[2] for cell in values.bad] == [
        "t: value 2 of 2: 5 is a number, where a text is needed",
        't: value 2 of 2: {"a": 1} is a mapping, where a text is needed',
        't: value 1 of 1: ["a"] is a list within the list, where a text is needed',
        "t: value 2 of 2: true is a truth value, where a text is needed",
    ]
    assert values.present.tolist() == [False] * 4 + [True]


def test_lists_of_images_and_arrays_are_read_from_python() -> None:
    grey = [np.full((4, 4, 3), level, np.uint8) for level in (10, 20, 30)]
    column = [[Image.fromarray(grey[0]), grey[1]], [], None, (grey[2],), [None], grey[0]]
    values = prepared(read_table([{"photos": cell} for cell in column]), image())
    assert values.present.tolist() == [True, False, False, True, False, True]
    assert values.gather(np.array([0, 3, 5])).values[:, 0, 0, 0].tolist() == [10, 20, 30, 10]
    mixed = prepared(read_table([{"photos": [grey[0], "a.png"]}]), image(), on_bad="absent")
    assert str(mixed.bad[0]).endswith("value 2 of 2: it is a str in a list of arrays or images")


def test_paths_in_lists_from_python_are_texts(tmp_path: Path) -> None:
    pictures(tmp_path)
    values = prepared(read_table({"photos": [[tmp_path / "b.png", tmp_path / "c.png"]]}), image())
    assert values.gather(np.array([0])).values[:, 0, 0, 0].tolist() == [10, 20]


@pytest.mark.parametrize(
    "cell",
    [["a.png", "b.png", "c.png"], [{"bytes": b"x", "path": None}] * 3, [np.zeros((4, 4, 3), np.uint8)] * 3],
    ids=["paths", "files", "arrays"],
)
def test_without_many_a_cell_of_several_values_says_what_to_set(cell: list[Any]) -> None:
    table = read_table({"photos": [cell, cell[:1]]})
    values = prepare(image(), table, ["photos"], name="photos", on_bad="absent")
    told = "this cell holds 3 values; set many: mean (or max, attention, tokens) to read a list"
    assert [cell.cause for cell in values.bad] == [told, told.replace("3 values", "1 value")]


@pytest.mark.parametrize("text", ["a.png|b.png", '["a.png", "b.png"]'])
def test_without_many_a_text_of_several_paths_says_what_to_set(tmp_path: Path, text: str) -> None:
    table = Table(pa.table({"photos": [text, "c.png"]}), folder=tmp_path)
    values = prepare(image(), table, ["photos"], name="photos", on_bad="absent")
    told = f"there is no file {tmp_path}/{text}; to read several of a cell, set many and separator"
    assert [cell.cause for cell in values.bad] == [told, f"there is no file {tmp_path / 'c.png'}"]


def numbers(seed: int = 0, count: int = 40) -> tuple[list[list[list[float]]], Prepared]:
    """Cells of 0 to 4 vectors, and their prepared values."""
    random = np.random.default_rng(seed)
    cells = [random.normal(size=(random.integers(0, 5), 4)).tolist() for _ in range(count)]
    table = Table(pa.table({"a": pa.array(cells, pa.list_(pa.list_(pa.float64())))}))
    return cells, prepared(table, toys.Numbers(), "a")


def test_values_on_a_device_are_those_that_are_gathered() -> None:
    cells, values = numbers()
    texts = Text()
    texts.fit_values(iter(["a b c"]))
    words = prepared(read_table({"t": ["a|b c|a b c", "", "b a"] * 13 + [None]}), texts, "t", separator="|")
    both, rows, cpu = {"a": values, "t": words}, np.arange(40)[::-1].copy(), torch.device("cpu")
    targets, weights = np.zeros(40), np.ones(40, np.float32)
    order = np.array_split(np.random.default_rng(1).permutation(40), 6)
    drop = {"a": np.random.default_rng(2).random(40) < 0.3}
    batches = Batches(both, rows, targets, weights, order=order, drop=drop)
    resident = {name: ResidentValues(part, cpu) for name, part in both.items()}
    own = ResidentRows(resident, rows, targets, weights, cpu)
    for batch in batches:
        found = own.batch(batch.index, batches.present[batch.index]).to(cpu)
        assert found.signals.keys() == batch.signals.keys() == found.segments.keys()
        for name, signal in batch.signals.items():
            size = 1 if signal.lengths is None else signal.values.shape[1]
            assert torch.equal(found.signals[name].values[:, :size], signal.values[:, :size])
            for key in ("rows", "counts"):
                assert torch.equal(getattr(found.segments[name], key), getattr(batch.segments[name], key))
            assert found.segments[name].longest == batch.segments[name].longest
        present = batches.present[batch.index, 0]
        kept = [cells[row] for row, there in zip(rows[batch.index], present, strict=True) if there]
        expected = np.concatenate([np.reshape(cell, (-1, 4)) for cell in kept])
        np.testing.assert_allclose(batch.signals["a"].values.numpy(), expected, rtol=1e-6)


def test_of_several_lengths_a_row_has_that_of_its_longest_value() -> None:
    modality = Text()
    modality.fit_values(iter(["a b c d"]))
    values = prepared(read_table({"t": ["a|b c|d", None, "a b c d", "|"]}), modality, "t", separator="|")
    found = ragged_bytes({"t": values}, np.array([3, 2, 1, 0]))
    assert found is not None
    assert found.tolist() == [0, 16, 0, 8]


def test_a_picture_of_one_split_within_a_list_of_another_is_found() -> None:
    table = read_table({"photos": [["a", "b"], ["c"], ["d", "b", "a"], ["e"], []]})
    cells = {"photos": list_cells(table, "photos")}
    splits = {"train": np.array([0, 1]), "test": np.array([2, 3, 4])}
    (leak,) = leaks(table, splits, ["photos"], lists=cells)
    assert str(leak) == "1 of 3 test rows hold 2 values of train"


def test_rows_whose_lists_hold_nothing_are_not_made_to_lack_more() -> None:
    table = read_table({"photos": ["a|b", "|", "", "c"] * 50, "text": ["x"] * 200})
    columns, seeds = {"photos": ["photos"], "text": ["text"]}, {"photos": 1, "text": 2}
    lists = {"photos": list_cells(table, "photos", "|")}
    lost = lost_cells(table, columns, 0.9, seeds, lists)
    empty = np.tile([False, True, True, False], 50)
    assert not lost["photos"][empty].any()
    assert not lost["text"][empty].any()  # it is all that they have
    assert lost["photos"][~empty].any()


def test_a_long_column_of_json_is_read(tmp_path: Path) -> None:
    texts = [json.dumps([f"{row}.{place}" for place in range(row % 4)]) for row in range(5000)]
    cells = list_cells(read_table({"t": texts}), "t")
    assert np.diff(cells.bounds).tolist() == [row % 4 for row in range(5000)]


def test_ranges_and_the_greatest_in_them() -> None:
    random = np.random.default_rng(0)
    bounds = np.concatenate([[0], np.cumsum(random.integers(0, 4, 30))])
    values, rows = random.integers(0, 99, bounds[-1]), random.permutation(30)[:20]
    expected = [place for row in rows for place in range(bounds[row], bounds[row + 1])]
    assert ranges(bounds, rows).tolist() == expected
    highest = [max(values[first:end], default=0) for first, end in pairwise(bounds)]
    assert greatest(values, bounds).tolist() == highest
    assert ranges(bounds, rows[:0]).tolist() == []
    assert Segments.of(np.zeros(0, np.int64)).longest == 0
