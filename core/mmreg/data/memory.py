"""Tables that Python holds: data frames and datasets through Arrow, lists of dicts, dicts of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from mmreg.errors import TableError
from mmreg.messages import is_unicode, listed


def is_tabular(source: Any) -> bool:
    """Whether `read_memory` takes it, going by its type alone."""
    return (
        hasattr(source, "__arrow_c_stream__")
        or hasattr(source, "__arrow_c_array__")
        or hasattr(source, "with_format")  # a Hugging Face dataset
        or isinstance(source, Mapping | list | tuple)
    )


def read_memory(source: Any) -> tuple[pa.Table, dict[str, Sequence[Any]]]:
    """The columns as Arrow has them, and those of Python objects that it cannot hold, by name.

    Raises:
        TableError: the rows are no dicts, the columns differ in length, or a column mixes types.
    """
    if isinstance(source, list | tuple):
        return _from_columns(_columns_of_rows(source))
    if isinstance(source, Mapping):
        return _from_columns({str(name): _as_list(name, values) for name, values in source.items()})
    if not hasattr(source, "__arrow_c_stream__") and hasattr(source, "with_format"):
        return source.with_format("arrow")[:], {}
    try:
        table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if not hasattr(source, "to_dict"):
            raise TableError(f"the {type(source).__name__} cannot be read as a table: {error}") from error
        return _from_columns(source.to_dict("list"))  # a pandas frame with a column of images or arrays
    index = [name for name in table.column_names if name.startswith("__index_level_")]  # pandas adds its own
    return table.drop_columns(index), {}


def _columns_of_rows(rows: Sequence[Any]) -> dict[str, list[Any]]:
    names: dict[str, None] = {}
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TableError(f"row {at + 1} of the list is a {type(row).__name__}, where a dict is needed")
        names.update(dict.fromkeys(row))
    return {str(name): [row.get(name) for row in rows] for name in names}


def _as_list(name: Any, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise TableError(f"column {name!r} is a {type(values).__name__}, where a list of values is needed")
    return list(values)


def _from_columns(columns: Mapping[str, list[Any]]) -> tuple[pa.Table, dict[str, Sequence[Any]]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = listed(f"{name!r} has {length}" for name, length in lengths.items())
        raise TableError(f"the columns differ in length: {found} values")
    objects: dict[str, Sequence[Any]] = {}
    arrays = {name: _from_values(name, values, objects) for name, values in columns.items()}
    return pa.table(arrays), objects


def _from_values(name: str, values: list[Any], objects: dict[str, Sequence[Any]]) -> pa.Array:
    if any(map(_holds_objects, values)):
        there = [_is_object(value) or isinstance(value, list | tuple) for value in values]
        strange = next((v for v, each in zip(values, there, strict=True) if not (each or v is None or v != v)), None)
        if strange is not None:
            raise TableError(f"column {name!r} mixes arrays or images with {type(strange).__name__}")
        objects[name] = values
        return pa.array([at if each else None for at, each in enumerate(there)], pa.int64())
    values = [_without_paths(value) for value in values]
    try:
        return pa.array(values, from_pandas=True)
    except UnicodeEncodeError as error:
        place = next(number for number, each in enumerate(values, 1) if isinstance(each, str) and not is_unicode(each))
        raise TableError(
            f"column {name!r} holds a text that is not UTF-8 in row {place}, {values[place - 1]!r}; mend it, or rename "
            "the file that it names"
        ) from error
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        what = f"mixes {', '.join(kinds)}" if len(kinds) > 1 else f"holds {kinds[0]} values that do not go together"
        raise TableError(f"column {name!r} {what}; give it values of one type ({error})") from error


def _holds_objects(value: Any) -> bool:
    """Whether it is an object, or a list of such that are not just rows of numbers, which Arrow holds well."""
    if isinstance(value, list | tuple):
        return any(_is_object(each) and getattr(each, "ndim", 0) != 1 for each in value)
    return _is_object(value)


def _without_paths(value: Any) -> Any:
    """A path, or each in a list, as text."""
    if isinstance(value, list | tuple) and any(isinstance(each, PurePath) for each in value):
        return [_without_paths(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def _is_object(value: Any) -> bool:
    """Whether it is an array, a tensor or an image, which Arrow holds badly or not at all."""
    if isinstance(value, np.ndarray | np.generic):
        return value.ndim > 0
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """An object of a column of arrays, tensors or images as an array; an image is turned upright first."""
    if type(value).__module__.partition(".")[0] == "PIL":
        from PIL import ImageOps  # whoever has such an image has it

        value = ImageOps.exif_transpose(value)
        if value.mode in ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):  # whose numbers are not brightnesses
            alpha = value.mode == "PA" or "transparency" in value.info
            value = value.convert("L" if value.mode == "1" else "RGBA" if alpha else "RGB")
    if hasattr(value, "detach"):  # a tensor, perhaps on a device
        value = value.detach().cpu().numpy()
    return np.asarray(value)
