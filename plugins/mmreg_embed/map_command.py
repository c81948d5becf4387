"""`mmreg map`: the vectors of rows in two dimensions, as columns or as a picture."""

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
    OnBad,
    Precision,
    Quiet,
    Separator,
    check_out,
    complete_runs,
    say,
    table_source,
    write_columns,
)
from mmreg.errors import OptionError, TableError
from mmreg.messages import near, plural
from mmreg_embed.options import Keep

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
PICTURES = (".svg", ".png")


class Method(StrEnum):
    """How vectors become points."""

    PCA = "pca"
    UMAP = "umap"


@app.command("map")
def draw_map(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|VECTORS",
            help="A run's folder, or a file of mmreg embed.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A picture (.svg, .png), or columns (.csv, .parquet).",
            show_default=False,
        ),
    ],
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE", help="After RUN, the rows to embed; or a file of its vectors.", show_default=False
        ),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of", metavar="NAME", help="Which vectors: fused, or a modality's. Of a contrastive run several at once."
        ),
    ] = None,
    method: Annotated[Method, typer.Option("--method", help="PCA, or UMAP (needs umap-learn).")] = Method.PCA,
    color: Annotated[
        str | None,
        typer.Option("--color", metavar="COLUMN", help="Of the table, or that was kept: what points are coloured by."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of UMAP.")] = 0,
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
    """Draw the vectors of rows in two dimensions, or write where they are.

    For example: mmreg map runs/products products.csv --color label --out map.svg
    """
    ending = check_out(out, [*PICTURES, ".csv", ".parquet"], source, table)
    if source.is_dir() and table is None:
        raise TableError("a map of a run needs the TABLE to embed; name it after RUN")
    if table is not None and not source.is_dir():
        raise OptionError(f"{str(source)!r} is no run's folder; a TABLE is only read with a run")
    import mmreg
    from mmreg_embed.projection import beside, plane
    from mmreg_embed.sources import is_vectors, opened

    run = None if table is None else mmreg.load(source, device, precision, on_bad)
    wanted = list(keep or [])
    if color is not None and color != "vector" and table is not None and not is_vectors(table):
        wanted.append(color)
    given = table_source(table, separator, encoding)
    with opened(source, given, keep=wanted, run=run, batch_size=batch_size, quiet=quiet) as vectors:
        if color is not None and color != "vector" and color not in vectors.columns:
            raise OptionError(
                f"--color: there is no column {color!r}{near(color, vectors.columns)}; there are "
                f"{', '.join([*vectors.columns, 'vector'])} (mmreg embed --keep COLUMN adds one of the table's)"
            )
        columns, shares = plane(vectors, of or [], method=method.value, seed=seed)
    if ending in PICTURES:
        from mmreg_embed.drawing import draw

        by = "vector" if color == "vector" or (color is None and len(of or []) > 1) else color and beside(color)
        draw(columns, out, color=by, shares=shares)
    else:
        write_columns(out, columns)
    if not quiet:
        told = "" if shares is None else f"; {sum(shares):.0%} of all variance lies in it"
        say(f"wrote a map of {plural(len(columns['x']), 'point')} to {out}{told}")
