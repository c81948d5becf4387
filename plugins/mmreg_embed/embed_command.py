"""`mmreg embed`: the vectors that a run makes of a table's rows, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import (
    BatchSize,
    Debug,
    Device,
    Encoding,
    OnBad,
    Precision,
    Quiet,
    RunArgument,
    Separator,
    check_out,
    say,
    table_source,
)
from mmreg.messages import plural
from mmreg_embed.options import Keep

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def embed(
    run: RunArgument,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="The rows: a table's path, or scheme://... of a plugin. Paths in its cells are relative to it.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The .parquet file to write.", show_default=False)
    ],
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
    """Write the vectors that a run makes of rows: of all that a row has, and of each modality.

    For example: mmreg embed runs/products products.csv --out vectors.parquet --keep title
    """
    check_out(out, [".parquet"], table)
    import mmreg
    from mmreg_embed.sources import embedded

    loaded = mmreg.load(run, device, precision, on_bad)
    vectors = embedded(
        loaded, table_source(table, separator, encoding), out, keep=keep or [], batch_size=batch_size, quiet=quiet
    )
    if not quiet:
        sizes = ", ".join(f"{name} ({vectors.width(name)})" for name in vectors.facts.names)
        say(f"wrote the vectors of {plural(len(vectors), 'row')} to {out}: {sizes}")
