"""What commands write: columns as CSV, parquet or JSON lines, to a file that is checked before any work is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreg.errors import TableError
from mmreg.files import columns_csv, replacing, unwritable, write_text


def check_out(out: Path, endings: Sequence[str]) -> str:
    """The ending of a file that can be written.

    Raises:
        TableError: it cannot, or ends otherwise.
    """
    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder; name a file")
    ending = out.suffix.lower()
    if ending not in endings:
        raise TableError(f"--out {str(out)!r} must end in {', '.join(endings)}")
    if not out.parent.is_dir():
        raise TableError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    why = unwritable(out)
    if why is not None:
        raise TableError(f"--out {str(out)!r}: {why}")
    return ending


def write_columns(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of the same length to a .csv, .parquet or .jsonl file."""
    ending = out.suffix.lower()
    if ending == ".csv":
        write_text(out, columns_csv(columns))
    elif ending == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows_of_columns(columns))
        write_text(out, "".join(f"{line}\n" for line in lines))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with replacing(out) as temporary:
            pq.write_table(pa.table(dict(columns)), temporary)


def rows_of_columns(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The same as a dict for each row."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
