"""Arrow columns as the rest of mmreg takes them: encodings undone, and what Python cannot hold told apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreg.data.hashing import is_any_list, is_bytes, is_text
from mmreg.messages import one_line


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values without dictionaries, runs, views and extension types (but tensors).

    Raises:
        pa.ArrowException: Arrow knows no way.
    """
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return column
    if isinstance(kind, pa.BaseExtensionType):
        return plain_column(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        try:
            return plain_column(column.cast(kind.value_type))
        except pa.ArrowNotImplementedError:  # of structs and lists
            chunks = [chunk.dictionary.take(chunk.indices) for chunk in column.chunks]
            return plain_column(pa.chunked_array(chunks, kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        return plain_column(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return plain_column(pa.chunked_array(map(_as_lists, column.chunks), pa.large_list(kind.value_field)))
    without_views = _without_views(kind)
    return column if without_views == kind else column.cast(without_views)


def why_unreadable(column: pa.ChunkedArray) -> str:
    """Why a plain column's values cannot become Python's, or cannot be selected; empty if they can."""
    kind = column.type
    if is_text(kind) or is_bytes(kind) or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)):
        return ""
    try:
        for chunk in column.chunks or [pa.array([], kind)]:
            chunk.take(pa.array([], pa.int64()))
            for leaf in leaves(chunk):
                if pa.types.is_interval(leaf.type) or pa.types.is_union(leaf.type):
                    return str(kind)
                if pa.types.is_temporal(leaf.type):
                    _telling(leaf).to_pylist()
            chunk.slice(0, 1).to_pylist()
    # A date past the year 9999; or a zone that is none, which is a KeyError where pytz is installed.
    except (pa.ArrowException, ValueError, OverflowError, KeyError) as error:
        return f"{kind}: {one_line(error)}"
    return ""


def leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays within an array of lists, structs and maps, at any depth; itself, if it is of none."""
    kind = array.type
    if pa.types.is_struct(kind):
        parts = array.flatten()
    elif pa.types.is_map(kind):
        parts = [array.keys, array.items]
    elif is_any_list(kind):
        parts = [array.flatten()]
    else:
        yield array
        return
    for part in parts:
        yield from leaves(part)


def _telling(times: pa.Array) -> pa.Array:
    """Of an array of times the values that Python is least likely to hold: the extremes, and one with nanoseconds."""
    numbers = times.drop_null().view(pa.int64() if times.type.bit_width == 64 else pa.int32())
    values = numbers.to_numpy()
    if not len(values):
        return times.slice(0, 0)
    chosen = [values.argmin(), values.argmax(), (values % 1000 != 0).argmax()]
    return times.drop_null().take(pa.array(chosen))


def _as_lists(array: pa.Array) -> pa.Array:
    """List views as lists, which Arrow's own cast gets wrong."""
    lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    kind = pa.large_list(array.type.value_field)
    return pa.LargeListArray.from_arrays(offsets, array.flatten(), type=kind, mask=array.is_null())


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without_views(kind.key_type), _without_views(kind.item_type))
    return kind
