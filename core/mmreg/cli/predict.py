"""`mmreg predict`: what a trained run is used for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg.console import (
    AugmentedVersions,
    Bar,
    BatchSize,
    Debug,
    Device,
    Devices,
    Encoding,
    On,
    OnBad,
    Precision,
    Quiet,
    RunArgument,
    Separator,
    check_out,
    note,
    note_absent_columns,
    say,
    table_source,
    write_columns,
)
from mmreg.errors import OptionError, TableError
from mmreg.files import columns_csv
from mmreg.importing import stdout_to_stderr
from mmreg.messages import near, plural, without_modality
from mmreg.registry.elsewhere import compute_together
from mmreg.registry.engines import engine

if TYPE_CHECKING:
    from mmreg.contract.engine import Engine
    from mmreg.data.table import Table
    from mmreg.runs.run import Run


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
    separator: Separator = None,
    encoding: Encoding = None,
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
    augmented: AugmentedVersions = 0,
    device: Device = "auto",
    devices: Devices = None,
    precision: Precision = None,
    on_bad: OnBad = None,
    on: On = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict rows: the target with its probabilities, the row's key, and which modalities it had.

    Example: mmreg predict runs/first new.csv --out predictions.csv
    """
    write = _writer(out, table)
    if devices is not None:
        if table is None or value or on is not None:
            raise OptionError("--devices shares out the rows of a table; give one, and neither --value nor --on")
        options = {
            "--separator": separator,
            "--encoding": encoding,
            "--out": out,
            "--batch-size": batch_size,
            "--augmented": augmented,
            "--device": device,
            "--precision": precision,
            "--on-bad": on_bad,
        }
        flags = [name for name, given in (("--quiet", quiet), ("--debug", debug)) if given]
        raise typer.Exit(_launch(devices, [str(run), table, *flags], options, quiet=quiet))
    if (table is None) == (not value):
        raise TableError("predict needs either a table or --value COLUMN=VALUE for each column of one row")
    row = _row(value or [])
    source = table_source(table, separator, encoding)
    if on is not None and (source is None or augmented):
        other = "--augmented" if augmented else "--value"
        raise OptionError(f"--on works on tables, and not with {other}; leave it out")
    chosen = None if on is None else engine(on)
    from mmreg.runs import load
    from mmreg.training.joining import joined

    with stdout_to_stderr, joined(device) as (peers, own_device):
        loaded = load(run, own_device, precision, on_bad)
        if source is None:
            inputs = loaded.plan.inputs.values()
            columns = list(dict.fromkeys(column for modality in inputs for column in modality.columns))
            _check_row(row, columns, loaded.plan.recipe.form.key)
            predictions = loaded.predict_columns(row, batch_size=batch_size, augmented=augmented)
        else:
            opened = loaded.open_table(source)
            if chosen is None:
                predict_rows = partial(loaded.predict_columns, batch_size=batch_size, augmented=augmented)
                if peers.trains_alone:
                    predictions = predict_rows(opened)
                else:
                    own = opened.select(peers.own_rows(len(opened)))
                    told = compute_together(peers.to_first, partial(predict_rows, own))
                    if told is None:
                        return
                    predictions = _joined(told)
            else:
                predictions = _elsewhere(chosen, loaded, opened, batch_size, device, precision, quiet)
            note_absent_columns(loaded, opened)
    write(predictions)
    missing = predictions["modalities"].count("")
    if missing and loaded.task.needs_target:
        note(without_modality(missing))
    if out is not None and not quiet:
        say(f"wrote {plural(len(predictions['modalities']), 'prediction')} to {out}")


def _joined(parts: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The predictions of all processes, one's rows after the other's; of no rows there may be fewer columns."""
    parts = [part for part in parts if part["modalities"]] or parts[:1]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _launch(devices: int, arguments: Sequence[str], options: Mapping[str, Any], *, quiet: bool) -> int:
    """Predict in several processes, each with some of the rows."""
    from mmreg.cli.launch import check_count, launch

    check_count(devices, options["--device"], quiet=quiet)
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return launch(devices, ["predict", *arguments, *given])


def _elsewhere(
    chosen: Engine, loaded: Run, table: Table, batch_size: int | None, device: str, precision: str | None, quiet: bool
) -> dict[str, list[Any]]:
    """Predictions of an engine's workers."""
    from mmreg.runs.elsewhere import predict_elsewhere

    with Bar(not quiet, None if quiet else say) as bar:
        return predict_elsewhere(
            chosen,
            loaded,
            table,
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=lambda done, total, what: bar.advance(what, done, total),
        )


def _row(settings: list[str]) -> dict[str, str]:
    """The row that COLUMN=VALUE texts make up."""
    row: dict[str, str] = {}
    for text in settings:
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


def _writer(out: Path | None, table: str | None) -> Callable[[Mapping[str, Any]], object]:
    """What writes predictions to this file, chosen before any work is done."""
    if out is None:
        return lambda predictions: sys.stdout.write(columns_csv(predictions))
    check_out(out, [".csv", ".jsonl", ".parquet"], table)
    return lambda predictions: write_columns(out, predictions)
