"""Hashes of Arrow values, for the keys of caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def hash_array(array: pa.Array, update: Callable[[Any], object]) -> None:
    """Feed an array's values to a hash's `update`: equal values give equal bytes, wherever they lie in memory.

    Numbers of different widths, and texts and bytes, are told apart.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        hash_array(array.storage, update)
        return
    update(_bytes(array.is_valid().cast(pa.uint8())))
    if is_text(kind) or is_bytes(kind):
        data = array.cast(pa.large_binary())
        update((b"text" if is_text(kind) else b"bytes") + _bytes(pc.fill_null(pc.binary_length(data), 0)))
        update(_joined(data if array.null_count == 0 else pc.fill_null(data, b"")))
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            hash_array(child, update)
    elif is_any_list(kind):
        update(b"list" + _bytes(pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0)))
        hash_array(array.flatten(), update)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        update(str(kind).encode() + _bytes(array if array.null_count == 0 else pc.fill_null(array, 0)))
    else:  # dates, decimals, booleans, maps: rare, and never large
        update(repr(array.to_pylist()).encode())


def _bytes(array: pa.Array) -> bytes:
    return bytes(array.to_numpy(zero_copy_only=False).tobytes())


def _joined(data: pa.LargeBinaryArray) -> memoryview:
    """The bytes of all values, one after the other; none is null."""
    _, offsets, values = data.buffers()
    if values is None or not len(data):
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int64, len(data) + 1, data.offset * 8)
    return memoryview(values)[bounds[0] : bounds[-1]]


def is_text(kind: pa.DataType) -> bool:
    """Whether a type's values are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type's values are bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type's values are lists, each of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def is_any_list(kind: pa.DataType) -> bool:
    """Whether a type's values are lists, of any length or all of one."""
    return is_list(kind) or bool(pa.types.is_fixed_size_list(kind))


def field_names(kind: pa.DataType) -> list[Any]:
    """The names of a type's fields in their order, each with those inside it; nothing where it holds no structs."""
    if isinstance(kind, pa.BaseExtensionType):
        return field_names(kind.storage_type)
    if pa.types.is_struct(kind):
        return [[field.name, field_names(field.type)] for field in kind]
    return field_names(kind.value_type) if is_any_list(kind) else []
