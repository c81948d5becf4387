"""From cells to what a modality's `load` takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import VECTOR, Spec
from mmreg.data.cells import iter_cells, iter_present
from mmreg.data.located import Unreadable
from mmreg.data.table import Table, concat_tables, read_table
from mmreg.errors import TableError


class Toy(Modality):
    """Takes anything; only its class attributes matter here."""

    stored = spec = Spec(VECTOR, (1,))

    def load(self, value: Any) -> NDArray[Any]:
        return np.zeros(1, np.float32)


class Files(Toy):
    paths = True


class Several(Toy):
    multiple_columns = True


class SeveralFiles(Files):
    multiple_columns = True


def cells(values: Any, modality: Modality | None = None, folder: Path | None = None) -> list[Any]:
    data = pa.table({"c": values}) if isinstance(values, pa.Array) else {"c": values}
    return list(iter_cells(modality or Toy(), read_table(data, folder), ["c"]))


def test_null_empty_text_and_nan_are_absent() -> None:
    assert cells(["x", "", None, " "]) == ["x", None, None, " "]
    assert cells(pa.array([1.5, float("nan"), None])) == [1.5, None, None]
    assert cells([0, None]) == [0, None]
    assert cells([b"", None]) == [b"", None]


def test_texts_are_paths_for_a_modality_of_files(tmp_path: Path) -> None:
    found = cells(["a/b.png", "/abs/c.png", "", None], Files(), tmp_path)
    assert found == [tmp_path / "a" / "b.png", Path("/abs/c.png"), None, None]
    assert cells(["~/x"], Files()) == [Path("~/x")]
    assert cells(["a/b.png"], Toy(), tmp_path) == ["a/b.png"]


def test_each_joined_table_has_its_own_folder(tmp_path: Path) -> None:
    parts = [Table(pa.table({"c": ["x"]}), folder=tmp_path / name) for name in ("one", "two")]
    assert list(iter_cells(Files(), concat_tables(parts), ["c"])) == [tmp_path / "one" / "x", tmp_path / "two" / "x"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.int16())),
        pa.array([[1, 2, 3], [4, 5, 6]], pa.large_list(pa.int16())),
        pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.int16(), 3)),
    ],
)
def test_lists_are_arrays_of_their_type(array: pa.Array) -> None:
    first, second = cells(array)
    assert first.dtype == np.int16
    assert first.tolist() == [1, 2, 3]
    assert second.tolist() == [4, 5, 6]
    first[0] = 9  # of its own, so that it may be changed


def test_nested_lists_are_arrays_of_several_axes() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    nested = pa.array([images[0].tolist(), None, images[1].tolist()], pa.list_(pa.list_(pa.uint8())))
    first, absent, second = cells(nested)
    assert absent is None
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, images[0])
    np.testing.assert_array_equal(second, images[1])
    fixed = pa.array([images[0].tolist()], pa.list_(pa.list_(pa.uint8(), 4), 3))
    np.testing.assert_array_equal(cells(fixed)[0], images[0])


def test_a_nested_list_that_is_no_rectangle_is_unreadable() -> None:
    assert cells([[[1, 2], [3]], [[1]]])[0] == Unreadable("a nested list whose parts differ in length")


def test_lists_of_texts_are_arrays_and_empty_lists_are_absent() -> None:
    texts, empty = cells([["a", "bc"], []])
    assert texts.tolist() == ["a", "bc"]
    assert empty is None
    assert cells([[], [1.0]])[0] is None


def test_tensors_keep_their_shape() -> None:
    tensors = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(tensors)
    for cell, tensor in zip(cells(array), tensors, strict=True):
        np.testing.assert_array_equal(cell, tensor)
    null = pa.ExtensionArray.from_storage(array.type, pa.array([[1, 2, 3, 4], None], array.type.storage_type))
    found = cells(null)
    assert found[0].tolist() == [[1, 2], [3, 4]]
    assert found[1] is None


def test_a_struct_of_bytes_and_path_is_its_bytes_or_else_its_path(tmp_path: Path) -> None:
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = [
        {"bytes": b"x", "path": "a"},
        {"bytes": None, "path": "b"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"", "path": None},
    ]
    array = pa.array(values, struct)
    assert cells(array, Files(), tmp_path) == [b"x", tmp_path / "b", None, None, b""]
    assert cells(array.slice(1, 1), Files(), tmp_path) == [tmp_path / "b"]


def test_another_struct_is_a_dict_with_arrays() -> None:
    value, absent = cells([{"array": [0.5, 1.0], "sampling_rate": 8000}, None])
    assert absent is None
    assert value["sampling_rate"] == 8000
    assert value["array"].tolist() == [0.5, 1.0]


def test_objects_become_arrays() -> None:
    found = cells([np.ones((2, 2)), None])
    assert found[0].shape == (2, 2)
    assert found[1] is None
    assert cells([torch.ones(2, 2)])[0].sum() == 4


def test_images_become_upright_arrays_of_brightness() -> None:
    red = Image.new("P", (1, 1))
    red.putpalette([255, 0, 0] * 256)
    turned = Image.new("L", (2, 1))
    turned.putpixel((0, 0), 7)
    turned.getexif()[0x0112] = 6  # to be turned by a quarter
    found = cells([red, Image.new("RGB", (2, 3)), Image.new("1", (1, 1), 1), turned])
    assert found[0].tolist() == [[[255, 0, 0]]]
    assert found[1].shape == (3, 2, 3)
    assert found[2].tolist() == [[255]]
    assert found[3].tolist() == [[7], [0]]


def test_several_columns_are_a_dict_and_absent_if_all_are(tmp_path: Path) -> None:
    table = read_table({"a": ["x", None, ""], "b": [1, 2, None], "c": [[[1], [2, 3]], None, None]}, tmp_path)
    assert list(iter_cells(Several(), table, ["a", "b"])) == [{"a": "x", "b": 1}, {"a": None, "b": 2}, None]
    assert next(iter_cells(SeveralFiles(), table, ["a"])) == {"a": tmp_path / "x"}
    assert isinstance(next(iter_cells(Several(), table, ["a", "c"])), Unreadable)
    assert list(iter_present(Several(), table, ["a", "b"], np.array([2, 1]))) == [{"a": None, "b": 2}]


def test_values_to_fit_on_leave_out_what_is_absent_or_unreadable() -> None:
    table = read_table({"c": [[[1], [2, 3]], None, [[1], [2]]]})
    assert [value.tolist() for value in iter_present(Toy(), table, ["c"])] == [[[1], [2]]]


def test_one_column_where_several_are_given_is_an_error() -> None:
    table = read_table({"a": [1], "b": [2]})
    with pytest.raises(TableError, match="Toy takes one column, found a, b"):
        list(iter_cells(Toy(), table, ["a", "b"]))
