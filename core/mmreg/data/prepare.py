"""Every value of a column is loaded once, in parallel, into arrays that are mapped into memory from a cache folder.

Axes: N rows, S distinct cells, V values that could be loaded.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec, Specs, by_name, specs_text
from mmreg.data.cache import entries_dir, new_entry, read_entry, remove_leftovers, write_meta
from mmreg.data.cells import Unreadable, iter_cells
from mmreg.data.decode import Decoded, decode
from mmreg.data.identity import cell_codes
from mmreg.data.key import entry_key
from mmreg.data.prepared import BadCell, OnBad, Prepared, raise_bad
from mmreg.data.table import Table
from mmreg.errors import SpecError, TableError
from mmreg.messages import plural, shortened

__all__ = ["BadCell", "OnBad", "Prepared", "prepare", "raise_bad"]


def prepare(
    modality: Modality,
    table: Table,
    columns: Sequence[str],
    *,
    name: str,
    on_bad: OnBad = "error",
    cache_dir: Path | None = None,
    progress: Callable[[int, int, str], object] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Load a modality's value in every row of a table, or map what an earlier call has loaded.

    Equal cells are loaded once. The cache's entry is found again if these are all the same: the cells' values; of
    files their absolute paths, sizes and times, of folders those of all files below; the modality's class and version;
    its options but those that only `transform` reads; and the part of its state that `load` reads. Cells that cannot
    be loaded are part of the entry; among them are folders that cannot be watched for changes.

    Args:
        modality: after `fit_values`.
        table: the rows.
        columns: the column that it reads, or several.
        name: what messages call it.
        on_bad: what is to be done about cells that cannot be loaded; here they only are recorded (see `raise_bad`).
        cache_dir: the cache folder; None to keep everything in memory.
        progress: called with how many cells are done, how many there are, and the name, while cells are loaded.
        options: the modality's options as JSON data.

    Raises:
        TableError: the table lacks a column.
        SpecError: the modality's `stored` or what `load` gives is wrong, which is an error in the modality's code.
        CacheError: the cache folder cannot be written.
    """
    stored = _checked_stored(modality)
    specs = by_name(stored)
    for column in columns:
        table.column(column)
    if len(columns) != 1 and not modality.multiple_columns:
        raise TableError(f"{name}: the modality {type(modality).__name__} reads one column, found {list(columns)}")
    codes = cell_codes(table, columns, paths=modality.paths)
    first_rows = np.unique(codes, return_index=True)[1].astype(np.int64)

    def load_into(out: Mapping[str, IO[bytes]], refused: Mapping[Path, str] | None = None) -> Decoded:
        report = None if progress is None else lambda done, total: progress(done, total, name)
        cells = iter_cells(modality, table, columns, first_rows)
        return decode(modality, _without(cells, refused) if refused else cells, len(first_rows), out, report)

    if cache_dir is None:
        buffers = {array: io.BytesIO() for array in specs}
        decoded = load_into(buffers)
        raw: dict[str, NDArray[np.uint8]] = {
            array: np.frombuffer(buffer.getbuffer(), np.uint8) for array, buffer in buffers.items()
        }
        offsets, index = decoded.offsets, decoded.position[codes]
        bad = _bad_cells(decoded, codes, table, columns)
    else:
        key, refused = entry_key(modality, table, columns, options or {}, first_rows)
        folder, files = entries_dir(cache_dir) / key, _files(stored)
        remove_leftovers(cache_dir)
        meta = read_entry(cache_dir, key)
        if meta is None:
            with new_entry(cache_dir, key) as new:
                with contextlib.ExitStack() as opened:
                    out = {array: opened.enter_context((new / file).open("wb")) for array, file in files.items()}
                    decoded = load_into(out, refused)
                decoded.position[codes].tofile(new / "index.bin")
                if decoded.offsets is not None:
                    decoded.offsets.tofile(new / "offsets.bin")
                bad = _bad_cells(decoded, codes, table, columns)
                write_meta(new, {"bad": [[cell.row, cell.value, cell.cause] for cell in bad]})
        else:
            bad = [_bad_cell(table, columns, row, value, cause) for row, value, cause in meta["bad"]]
        raw = {array: _mapped(folder / file) for array, file in files.items()}
        ragged = any(spec.ragged_axis is not None for spec in specs.values())
        offsets = np.fromfile(folder / "offsets.bin", np.int64) if ragged else None
        index = np.fromfile(folder / "index.bin", np.int64)
    arrays = {array: _shaped(raw[array], spec, index, offsets) for array, spec in specs.items()}
    values = arrays[""] if isinstance(stored, Spec) else arrays
    return Prepared(name=name, stored=stored, values=values, offsets=offsets, index=index, bad=bad, on_bad=on_bad)


def _checked_stored(modality: Modality) -> Specs:
    stored = modality.stored
    what = f"the modality {type(modality).__name__} stores"
    if isinstance(stored, Mapping) and not (stored and all(isinstance(name, str) and name for name in stored)):
        raise SpecError(f"{what} arrays named {list(stored)}, where one name at least is needed, and each is a text")
    for spec in by_name(stored).values():
        try:
            np.dtype(spec.dtype)
        except TypeError:
            raise SpecError(f"{what} {specs_text(stored)}, but {spec.dtype!r} is no dtype of NumPy") from None
        if spec.ragged_axis not in (None, 0):
            raise SpecError(f"{what} {specs_text(stored)}, but only the first axis may vary")
    return stored


def _files(stored: Specs) -> dict[str, str]:
    """The file of each array in an entry; numbers stand for names, which may be no names of files."""
    if isinstance(stored, Spec):
        return {"": "values.bin"}
    return {name: f"values.{number}.bin" for number, name in enumerate(sorted(stored))}


def _shaped(
    raw: NDArray[np.uint8], spec: Spec, index: NDArray[np.int64], offsets: NDArray[np.int64] | None
) -> NDArray[Any]:
    """One array's bytes as its values (V, ...); ragged ones as (sum of T, ...)."""
    if offsets is None or spec.ragged_axis is None:
        count, rest = int(index.max(initial=-1)) + 1, spec.shape
    else:
        count, rest = int(offsets[-1]), spec.shape[1:]
    return raw.view(spec.dtype).reshape(count, *(size or 0 for size in rest))


def _mapped(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)  # an empty file cannot be mapped
    # Copy on write: torch warns of arrays that are read-only, and nothing that is written ever reaches the file.
    return np.asarray(np.memmap(path, np.uint8, mode="c"))


def _without(cells: Iterator[Any], refused: Mapping[Path, str]) -> Iterator[Any]:
    """Cells with those that name a folder which cannot be watched taken for unreadable."""
    for cell in cells:
        named = cell.values() if isinstance(cell, dict) else (cell,)
        cause = next((refused[path] for path in named if isinstance(path, Path) and path in refused), None)
        yield cell if cause is None else Unreadable(cause)


def _bad_cells(decoded: Decoded, codes: NDArray[np.int64], table: Table, columns: Sequence[str]) -> list[BadCell]:
    if not decoded.causes:
        return []
    rows = np.flatnonzero(np.isin(codes, list(decoded.causes)))
    return [_bad_cell(table, columns, row, None, decoded.causes[codes[row]]) for row in rows.tolist()]


def _bad_cell(table: Table, columns: Sequence[str], row: int, value: str | None, cause: str) -> BadCell:
    if value is None:
        value = ", ".join(_in_short(next(table.iter_values(column, np.array([row])))) for column in columns)
    return BadCell(row, ", ".join(columns), value, cause, table.where(row))


def _in_short(value: Any) -> str:
    """A cell in a few words."""
    if isinstance(value, bytes):
        return plural(len(value), "byte")
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return _in_short(value.get("path") or value["bytes"])
    if hasattr(value, "shape"):
        return f"an array {tuple(value.shape)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return shortened(str(value))
