"""`mmreg predict`: what a trained run is used for."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from mmreg.console import BatchSize, Debug, Device, Precision, Quiet, RunArgument, say
from mmreg.errors import TableError
from mmreg.files import replacing, unwritable, write_text
from mmreg.importing import stdout_to_stderr
from mmreg.messages import near


def predict(
    run: RunArgument,
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="The rows: a table's path, or scheme://... of a plugin. Paths in its cells are relative to it.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv, .jsonl or .parquet file; stdout (CSV) if not given.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="COLUMN=VALUE",
            help="One row from the command line, a column at a time. May be repeated.",
        ),
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict rows: the target with its probabilities, the row's key, and which modalities it had."""
    write = _writer(out)
    if (table is None) == (not value):
        raise TableError("predict needs either a table or --value COLUMN=VALUE for each column of one row")
    row = _row(value or [])
    from mmreg.data.sources import open_table
    from mmreg.runs import load

    with stdout_to_stderr:
        loaded = load(run, device, precision)
        columns = list(dict.fromkeys(column for given in loaded.plan.inputs.values() for column in given.columns))
        if table is None:
            _check_row(row, columns, loaded.plan.recipe.form.key)
            predictions = loaded.predict(row, batch_size=batch_size)
        else:
            opened = open_table(table, cells=loaded.plan.recipe.folder)
            absent = [column for column in columns if column not in opened.columns]
            predictions = loaded.predict(opened, batch_size=batch_size)
            for column in absent:
                say(f"note: {opened.name} has no column {column!r}; it counts as absent in every row")
    write(predictions)
    missing = sum(not prediction["modalities"] for prediction in predictions)
    if missing:
        have = "1 row has no modality at all; it" if missing == 1 else f"{missing:,} rows have no modality at all; they"
        say(f"note: {have} got the training prior")
    if out is not None and not quiet:
        count = "1 prediction" if len(predictions) == 1 else f"{len(predictions):,} predictions"
        say(f"wrote {count} to {out}")


def _row(values: list[str]) -> dict[str, str]:
    """The row that COLUMN=VALUE texts make up."""
    row: dict[str, str] = {}
    for text in values:
        column, sign, value = text.partition("=")
        if not sign:
            raise TableError(f"--value needs COLUMN=VALUE, found {text!r}")
        if column in row:
            raise TableError(f"--value gives column {column!r} twice: {row[column]!r} and {value!r}")
        row[column] = value
    return row


def _check_row(row: dict[str, str], columns: list[str], key: str | None) -> None:
    """Refuse columns that the run does not read: from the command line they are slips."""
    for column in row:
        if column not in columns and column != key:
            raise TableError(
                f"--value {column}=...: the run reads no column {column!r}{near(column, columns)}; "
                f"it reads {', '.join(columns)}"
            )


def _writer(out: Path | None) -> Any:
    """What writes predictions to this file, chosen before any work is done."""
    if out is None:
        return _write_csv_to_stdout
    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder; name a file")
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if out.suffix.lower() not in writers:
        raise TableError(f"--out {str(out)!r} must end in {', '.join(writers)}")
    if not out.parent.is_dir():
        raise TableError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    why = unwritable(out)
    if why is not None:
        raise TableError(f"--out {str(out)!r}: {why}")
    return lambda predictions: writers[out.suffix.lower()](out, predictions)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    _csv(text, rows)
    write_text(path, text.getvalue())


def _write_csv_to_stdout(rows: list[dict[str, Any]]) -> None:
    _csv(sys.stdout, rows)


def _csv(file: TextIO, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV; a list in a cell is written as JSON."""
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for k, v in row.items()})


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
