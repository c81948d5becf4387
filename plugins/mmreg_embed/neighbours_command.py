"""`mmreg neighbours`: the rows that are nearest to others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import (
    BatchSize,
    Debug,
    Device,
    Encoding,
    Format,
    FormatOption,
    OnBad,
    Precision,
    Quiet,
    Separator,
    check_out,
    complete_runs,
    note,
    print_json,
    print_table,
    say,
    table_source,
    write_columns,
)
from mmreg.errors import OptionError, TableError
from mmreg.messages import near, plural
from mmreg_embed.options import Keep

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


class Measure(StrEnum):
    """How similar two vectors are."""

    COSINE = "cosine"
    DOT = "dot"


@app.command()
def neighbours(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|VECTORS",
            help="A run's folder, or a file of mmreg embed.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TABLE|QUERY",
            help="After RUN the TABLE to search, or a file of its vectors. Then the keys of rows whose neighbours "
            "are wanted; without any, those of every row.",
            show_default=False,
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="COLUMN=VALUE",
            help="Instead of QUERY a row from the command line, a column at a time, after RUN. May be repeated.",
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="Which vectors of the queries: fused, or those of a modality."),
    ] = None,
    among: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="NAME", help="Which vectors to search; as --from. Another modality's of a contrastive run."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many neighbours of each.")] = 5,
    measure: Annotated[Measure, typer.Option("--measure", help="The cosine, or the dot product.")] = Measure.COSINE,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Search by a graph, which misses some (needs hnswlib).")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A .csv, .jsonl or .parquet file; stdout if not given."),
    ] = None,
    output_format: FormatOption = Format.TABLE,
    keep: Keep = None,
    separator: Separator = None,
    encoding: Encoding = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    on_bad: OnBad = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the rows whose vectors are nearest, also those of another modality.

    For example: mmreg neighbours runs/products products.csv 17 18 --keep title

    Or the pictures that fit a text: mmreg neighbours runs/pairs photos.csv --value caption="a red car" --to image
    """
    if out is not None:
        check_out(out, [".csv", ".jsonl", ".parquet"], source, *(rest or [])[:1])
    queries, table = list(rest or []), None
    if source.is_dir():
        if not queries:
            raise TableError("neighbours of a run needs the TABLE to search; name it after RUN")
        table = queries.pop(0)
    if value and (queries or table is None):
        raise OptionError(
            "--value is a row for a RUN to embed, in the place of QUERY; name RUN and TABLE, and no QUERY"
        )
    import mmreg
    from mmreg_embed.embedding import embed
    from mmreg_embed.searching_rows import neighbours as search
    from mmreg_embed.sources import opened

    run = None if table is None else mmreg.load(source, device, precision, on_bad)
    row = _row(value or [], [column for given in run.plan.inputs.values() for column in given.columns] if run else [])
    asked = embed(run, [row]) if run is not None and row else queries or None
    given = table_source(table, separator, encoding)
    with opened(source, given, keep=keep or [], run=run, batch_size=batch_size, quiet=quiet) as vectors:
        found = search(
            vectors,
            asked,
            of=of,
            among=among,
            count=top,
            measure=measure.value,
            use_graph=approximate,
            device="cpu" if run is None else run.device,
        )
        if vectors.width(vectors.facts.fused if of is None else of) == 1:
            told = "the cosine of any two is 1 or -1" if measure is Measure.COSINE else "the largest is nearest to all"
            note(f"these vectors are single numbers: {told}, which says nothing of how near rows are")
    if row:
        del found["query"]  # the only one
    if out is not None:
        write_columns(out, found)
        if not quiet:
            say(f"wrote {plural(len(found['rank']), 'neighbour')} to {out}")
        return
    rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    if output_format is Format.JSON:
        print_json(rows)
    else:
        print_table(rows, list(found))


def _row(settings: list[str], columns: list[str]) -> dict[str, str]:
    """The row that COLUMN=VALUE texts make up.

    Raises:
        OptionError: one is no such text, or of a column that the run does not read.
    """
    row: dict[str, str] = {}
    for text in settings:
        column, sign, value = text.partition("=")
        if not sign:
            raise OptionError(f"--value needs COLUMN=VALUE, found {text!r}")
        if column not in columns:
            raise OptionError(
                f"--value {column}=...: the run reads no column {column!r}{near(column, columns)}; "
                f"it reads {', '.join(dict.fromkeys(columns))}"
            )
        row[column] = value
    return row
