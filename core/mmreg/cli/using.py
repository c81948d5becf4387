"""`mmreg predict`: what a trained run is used for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from mmreg.cli.output import say
from mmreg.cli.parameters import BatchSize, Debug, Device, Quiet, RunArgument
from mmreg.errors import TableError


def predict(
    run: RunArgument,
    table: Annotated[
        Path | None, typer.Argument(help="The rows; relative paths in it are relative to it.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv, .jsonl or .parquet file; stdout (CSV) if not given.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="COLUMN=VALUE", help="One row from the command line, a column at a time."),
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict rows: the target with its probabilities, the row's key, and which modalities it had."""
    writer = _writer(out)
    if (table is None) == (not value):
        raise TableError("predict needs either a table or --value COLUMN=VALUE for each column of one row")
    from mmreg.runs import load

    rows: Any = table if table is not None else dict(map(_column_value, value or []))
    predictions = load(run, device).predict(rows, batch_size=batch_size)
    writer(predictions)
    missing = sum(not row["modalities"] for row in predictions)
    if missing:
        say(f"note: {missing} rows have no modality at all; they got the training prior")
    if out is not None and not quiet:
        say(f"wrote {len(predictions)} predictions to {out}")


def _column_value(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not sign:
        raise TableError(f"--value needs COLUMN=VALUE, found {text!r}")
    return column, value


def _writer(out: Path | None) -> Any:
    """What writes predictions to this file, chosen before any work is done."""
    if out is None:
        return _write_csv_to_stdout
    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder; name a file")
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if out.suffix.lower() not in writers:
        raise TableError(f"--out {str(out)!r} must end in {', '.join(writers)}")
    return lambda predictions: writers[out.suffix.lower()](out, predictions)


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    from mmreg.runs import write_rows

    write_rows(path, rows)


def _write_csv_to_stdout(rows: list[dict[str, Any]]) -> None:
    import csv
    import sys

    writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import json

    from mmreg.files import write_text

    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmreg.files import replacing

    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
