"""Every value of a column is loaded once, in parallel, into arrays that are mapped into memory from a cache folder.

Axes: N rows, S distinct cells, V values that could be loaded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.engine import Engine
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec, by_name, specs_text
from mmreg.data.cached import CachedValues, files_of
from mmreg.data.cells import iter_cells
from mmreg.data.decode import CellLoader, decode
from mmreg.data.disk import check_disk
from mmreg.data.encoded import EncodedLoader, EncodedValues, Store
from mmreg.data.entry import NewEntry
from mmreg.data.identity import cell_codes
from mmreg.data.journal import Journal, Work
from mmreg.data.key import code_facts, entry_key, load_facts
from mmreg.data.located import Unreadable
from mmreg.data.mapped import shaped
from mmreg.data.prepared import BadCell, OnBad, Prepared, raise_bad
from mmreg.data.table import Table
from mmreg.errors import SpecError, TableError
from mmreg.messages import plural, shortened, shown_address

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
    store: Store = "decoded",
    engine: Engine | None = None,
) -> Prepared:
    """Load a modality's value in every row of a table, or map what an earlier call has loaded.

    Equal cells are loaded once. The cache's entry is found again if these are all the same: the cells' values; of
    files their absolute paths, sizes and times, of folders those of all files below; the modality's class and version;
    its options but those that only `transform` reads; and the part of its state that `load` reads. Cells that cannot
    be loaded are part of the entry; among them are folders that cannot be watched for changes.

    Nothing of a damaged entry is used: it is made anew, with a warning, when it is opened or when its values are first
    used, which may be in any thread; `load` is called again then. What a killed process had loaded of an entry is used.

    Args:
        modality: after `fit_values`.
        table: the rows.
        columns: the column that it reads, or several.
        name: what messages call it.
        on_bad: what is to be done about cells that cannot be loaded; here they only are recorded (see `raise_bad`).
        cache_dir: the cache folder; None to keep everything in memory.
        progress: called with how many cells are done, how many there are, and the name, while cells are loaded.
        options: the modality's options as JSON data.
        store: whether arrays are kept, or files as they are, which are then decoded whenever they are gathered.
        engine: what loads cells the first time; threads of this process if not given.

    Raises:
        TableError: the table lacks a column, or holds something else than files where these are to be kept.
        SpecError: the modality's `stored` or what `load` gives is wrong, which is an error in the modality's code.
        CacheError: the cache folder cannot be written.
    """
    _check_stored(modality)
    for column in columns:
        table.column(column)
    if len(columns) != 1 and not modality.multiple_columns:
        raise TableError(f"{name}: the modality {type(modality).__name__} reads one column, found {list(columns)}")
    report = None if progress is None else lambda done, total: progress(done, total, name)
    loader = CellLoader(modality) if store == "decoded" else EncodedLoader(modality)
    source = _Source(loader, table, columns)
    arrays: dict[str, NDArray[Any]]
    if cache_dir is None:
        buffers = {array: io.BytesIO() for array in loader.specs}
        index, offsets, bad = source.load_into(Work(buffers), {}, report, engine)
        read, contents = None, ""
        arrays = {
            array: shaped(
                np.frombuffer(buffers[array].getbuffer(), np.uint8),
                spec,
                int(index.max(initial=-1)) + 1,
                None if spec.ragged_axis is None else offsets,
            )
            for array, spec in loader.specs.items()
        }
    else:
        facts = load_facts(modality, columns, options or {}, store)
        key, refused = source.key(facts)
        told = {"input": name, "modality": type(modality).__qualname__, "store": store}

        def fill(new: NewEntry, show: bool) -> None:
            with new.growing(files_of(loader.stored), code_facts(modality)) as journal:
                source.check_disk(cache_dir, name, journal)
                # Later, in the midst of its use, the engine may be gone.
                told_to, by = (report, engine) if show else (None, None)
                index, offsets, bad = source.load_into(journal, refused, told_to, by)
            new.write_array("index.bin", index)
            if offsets is not None:
                new.write_array("offsets.bin", offsets)
            values = int(index.max(initial=-1)) + 1
            new.complete({**told, "values": values, "bad": [[cell.row, cell.value, cell.cause] for cell in bad]})

        cached = CachedValues(cache_dir, key, name, loader.stored, fill, lambda: source.key(facts)[0])
        index, offsets, read = cached.entry.index, cached.entry.offsets, cached.array
        contents = cached.contents
        arrays = {array: mapped.array for array, mapped in cached.entry.arrays.items()}
        bad = [_bad_cell(table, columns, *cell) for cell in cached.entry.meta["bad"]]
    kept: dict[str, Any] = {"name": name, "index": index, "bad": bad, "on_bad": on_bad, "contents": contents}
    if isinstance(loader, EncodedLoader):
        return EncodedValues(loader, arrays, offsets, read, **kept)
    values = arrays[""] if isinstance(loader.stored, Spec) else arrays
    return Prepared(stored=loader.stored, values=values, offsets=offsets, read=read, **kept)


class _Source:
    """What values are loaded from: the distinct cells of a table."""

    def __init__(self, loader: CellLoader, table: Table, columns: Sequence[str]) -> None:
        self._loader, self._table, self._columns = loader, table, columns
        self._modality = modality = loader.modality
        self._codes = cell_codes(table, columns, paths=modality.paths)
        # They are numbered in the order of their first rows.
        self._first_rows = np.flatnonzero(np.diff(np.maximum.accumulate(self._codes), prepend=-1))

    def key(self, facts: bytes) -> tuple[str, dict[Path, str]]:
        """See `entry_key`."""
        return entry_key(facts, self._table, self._columns, self._first_rows, paths=self._modality.paths)

    def check_disk(self, root: Path, name: str, journal: Journal) -> None:
        """See `mmreg.data.disk.check_disk`."""
        rows, done = self._first_rows, len(journal.sizes)
        cells = lambda sample: iter_cells(self._modality, self._table, self._columns, rows[done:][sample])  # noqa: E731
        check_disk(root, name, self._loader, cells, len(rows) - done)

    def load_into(
        self,
        work: Work,
        refused: Mapping[Path, str],
        report: Callable[[int, int], object] | None,
        engine: Engine | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, list[BadCell]]:
        """Load all values; which of them each row has, where ragged ones begin, and the bad cells."""
        rows = self._first_rows
        table = self._table if engine is None else self._table.absolute()
        cells = iter_cells(self._modality, table, self._columns, rows[len(work.sizes) :])
        cells = _without(cells, refused) if refused else cells
        decoded = decode(self._loader, cells, len(rows), work, report, engine)
        return decoded.position[self._codes], decoded.offsets, self._bad_cells(decoded.causes)

    def _bad_cells(self, causes: Mapping[int, str]) -> list[BadCell]:
        rows = np.flatnonzero(np.isin(self._codes, list(causes))) if causes else np.zeros(0, np.int64)
        return [_bad_cell(self._table, self._columns, row, None, causes[self._codes[row]]) for row in rows.tolist()]


def _check_stored(modality: Modality) -> None:
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


def _without(cells: Iterator[Any], refused: Mapping[Path, str]) -> Iterator[Any]:
    """Cells with those that name a folder which cannot be watched taken for unreadable."""
    for cell in cells:
        named = cell.values() if isinstance(cell, dict) else (cell,)
        cause = next((refused[path] for path in named if isinstance(path, Path) and path in refused), None)
        yield cell if cause is None else Unreadable(cause)


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
    return shortened(shown_address(str(value)))
