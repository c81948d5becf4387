"""From a run and rows to their vectors, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Run, TableFile
from mmreg.errors import TableError
from mmreg.files import replacing
from mmreg.messages import near
from mmreg_embed.identity import identity
from mmreg_embed.vectors import Facts, Vectors

FUSED = "fused"
"""What the vectors that are made of all modalities are called, unless a modality has that name."""


def embed(
    run: Run,
    rows: Any,
    out: str | Path | None = None,
    *,
    keep: Sequence[str] = (),
    batch_size: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Vectors:
    """The vectors that a run makes of rows, in their order.

    Those of a modality are what its encoder gives, none where a row lacks it; the fused ones are what the head reads,
    none where a row lacks all. See the page on vectors for what that is of model-level fusion and of contrastive runs.

    Args:
        run: a trained run, as `mmreg.load` gives it.
        rows: as for `Run.predict`: a table's path, a data frame, a list of dicts.
        out: a parquet file to write them to, a part at a time; in memory if not given.
        keep: columns of the table to put beside the vectors.
        batch_size: rows at a time; the recipe's if not given.
        progress: told of values being decoded, and then of rows: how many so far, of how many, and what.

    Raises:
        TableError: there are no rows, or no such column to keep.
    """
    parts = _Parts(run, rows, keep)
    made = parts.made(batch_size, progress)
    first = next(made, None)
    if first is None:
        raise TableError(f"{parts.name} has no rows to embed")
    if out is None:
        return Vectors(pa.concat_tables([first, *made]), parts.facts)
    with replacing(Path(out)) as temporary:
        # Vectors hardly ever repeat: a dictionary of them would take time and no less room.
        others = [name for name in first.schema.names if name not in parts.facts.vector_columns.values()]
        options = {"use_dictionary": others, "compression": "none", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, first.schema, **options) as writer:
            writer.write_table(first)
            for part in made:
                writer.write_table(part)
    return Vectors.read(out)


class _Parts:
    """A run's vectors of a table, as tables of some rows each."""

    def __init__(self, run: Run, rows: Any, keep: Sequence[str]) -> None:
        self.run = run
        self.table = run.open_table([rows] if isinstance(rows, dict) else rows)
        self.name = self.table.name
        for column in keep:
            if column not in self.table.columns:
                raise TableError(
                    f"--keep: {self.name} has no column {column!r}{near(column, self.table.columns)}; it has "
                    f"{', '.join(self.table.columns)}"
                )
        self._source = self.table if isinstance(rows, str | Path | TableFile) else rows
        inputs = tuple(run.modalities)
        fused = _free(FUSED, inputs)
        wanted = run.recipe.get("key")
        self._key = wanted if wanted in self.table.columns else None
        taken = [f"{name}_vector" for name in (fused, *inputs)]
        key = _free(self._key or "row", [*taken, *keep] if self._key is None else taken)
        self.facts = Facts(identity(run.folder), key, fused, inputs, run.task.space == "vectors")
        kept = [column for column in dict.fromkeys(keep) if column != self._key]
        taken.append(key)
        self._kept = {}
        for column in kept:
            self._kept[_free(column, taken)] = column
            taken.append(_free(column, taken))

    def made(self, batch_size: int | None, progress: Callable[[int, int, str], None] | None) -> Iterator[pa.Table]:
        """The tables, one after the other."""
        total, done = len(self.table), 0
        for part in self.run.vectors(self._source, batch_size=batch_size, progress=progress):
            columns = {self.facts.key: self._own(self._key, part.rows)}
            present = part.vectors.present.numpy()
            vectors = self.facts.vector_columns
            columns[vectors[self.facts.fused]] = _column(part.vectors.fused, np.any(present, 1))
            for at, name in enumerate(self.facts.inputs):
                columns[vectors[name]] = _column(part.vectors.inputs[name], present[:, at])
            columns |= {name: self._own(column, part.rows) for name, column in self._kept.items()}
            table = pa.table(columns)
            yield table.cast(self.facts.added_to(table.schema))
            done += len(part.rows)
            if progress is not None:
                progress(done, total, "rows")

    def _own(self, column: str | None, rows: NDArray[np.int64]) -> Any:
        """A column of the table; of none, the rows' numbers from 1."""
        if column is None:
            return pa.array(self.table.row_numbers[rows] + 1)
        return self.table.column(column).take(pa.array(rows))


def _column(vectors: Tensor, there: NDArray[Any]) -> Any:
    """Vectors (n, D) as a column, null where there is none."""
    values = pa.array(vectors.float().contiguous().numpy().reshape(-1))
    missing = None if there.all() else pa.array(~there)
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=missing)


def _free(name: str, taken: Sequence[str]) -> str:
    """A name that is not taken, made from this one."""
    while name in taken:
        name += "_"
    return name
