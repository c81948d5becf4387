"""Where a command's vectors come from: the file of `mmreg embed`, or a run and a table, embedded for the occasion."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreg.console import Bar, note_absent_columns, say
from mmreg.errors import OptionError, RunError

if TYPE_CHECKING:
    from mmreg import Run
    from mmreg_embed.vectors import Vectors


@contextmanager
def opened(
    source: Path, table: Any, *, keep: Sequence[str], run: Run | None, batch_size: int | None, quiet: bool
) -> Iterator[Vectors]:
    """The vectors of a file, or of a table by a run.

    Args:
        source: the run's folder, or the file.
        table: of a run, the table, or a file of vectors that it made.
        keep: columns of the table to put beside the vectors.
        run: that of the folder, loaded; None for a file.
        batch_size: rows at a time.
        quiet: whether to tell nothing.

    Raises:
        RunError: a file of vectors was made by another run.
    """
    from mmreg_embed.identity import identity
    from mmreg_embed.vectors import Vectors

    if run is None or (isinstance(table, str) and is_vectors(table)):
        vectors = Vectors.read(source if table is None else table)
        if run is not None and vectors.facts.run != identity(run.folder):
            raise RunError(f"{table!r} was made by another run than {str(source)!r}; make it anew by mmreg embed")
        if keep:
            raise OptionError("--keep is of a table; a file of vectors has the columns that mmreg embed --keep gave it")
        yield vectors
        return
    with tempfile.TemporaryDirectory(prefix="mmreg-") as folder:
        yield embedded(run, table, Path(folder) / "vectors.parquet", keep=keep, batch_size=batch_size, quiet=quiet)


def embedded(run: Run, table: Any, out: Path, *, keep: Sequence[str], batch_size: int | None, quiet: bool) -> Vectors:
    """Write a table's vectors, telling how far things are and what the table lacks."""
    from mmreg_embed.embedding import embed

    rows = run.open_table(table)
    with Bar(not quiet, None if quiet else say) as bar:
        made = embed(
            run,
            rows,
            out,
            keep=keep,
            batch_size=batch_size,
            progress=lambda done, total, what: bar.advance(what, done, total),
        )
    note_absent_columns(run, rows)
    return made


def is_vectors(path: str) -> bool:
    """Whether a table is a file that `mmreg embed` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmreg_embed.vectors import Facts

    if not path.lower().endswith(".parquet") or not Path(path).is_file():
        return False
    try:
        return Facts.of(pq.read_schema(path)) is not None
    except (pa.ArrowException, OSError):
        return False
