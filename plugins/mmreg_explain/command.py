"""`mmreg explain`: which modality decided each prediction, and what counts within one."""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg.console import (
    Bar,
    BatchSize,
    Debug,
    Device,
    Encoding,
    Format,
    FormatOption,
    OnBad,
    Precision,
    Quiet,
    RunArgument,
    Separator,
    check_out,
    note,
    print_json,
    say,
    table_source,
)
from mmreg.errors import OptionError
from mmreg.files import write_json

if TYPE_CHECKING:
    from mmreg_explain.explanation import Explanation
    from mmreg_explain.within import Attribution

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

ROUNDS = 8
"""As `mmreg_explain.sampling.ROUNDS`, which is not imported for help."""


class MethodName(StrEnum):
    """How what counts within a modality is found."""

    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


@app.command()
def explain(
    run: RunArgument,
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="The rows: a table's path, or scheme://... of a plugin.")
    ],
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="NUMBERS", help="Which rows, from 1, such as 3,7..9; else all.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="MODALITY", help="What counts within this modality, by Captum."),
    ] = None,
    method: Annotated[
        MethodName | None, typer.Option("--method", help="Of --within; what suits the modality if not given.")
    ] = None,
    of: Annotated[
        str | None,
        typer.Option("--of", metavar="NAME", help="The class, label or number to explain; else the predicted one."),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="NAME", help="Which of several targets.")] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=2, help="Of more than 10 modalities, rounds of random orders.")
    ] = ROUNDS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of these.")] = 0,
    top: Annotated[int, typer.Option("--top", min=1, help="How many rows, and parts of each, are shown.")] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="A .json file for all of it, every row.")
    ] = None,
    batch_size: BatchSize = None,
    separator: Separator = None,
    encoding: Encoding = None,
    device: Device = "auto",
    precision: Precision = None,
    on_bad: OnBad = None,
    format_: FormatOption = Format.TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Share out each prediction among the modalities of its row.

    Shapley values: what a modality adds to the prediction, over all subsets of
    the others, which are absent otherwise as empty cells are. Exact for up to
    10 modalities. For example:

        mmreg explain runs/demo table.csv --rows 1..20 --out explained.json

        mmreg explain runs/demo table.csv --rows 3 --within hint
    """
    if method is not None and within is None:
        raise OptionError("--method says how a modality is looked into; name it by --within")
    if out is not None:
        check_out(out, [".json"])
    from mmreg_explain.choosing import read_rows

    numbers = None if rows is None else read_rows(rows)
    source = table_source(table, separator, encoding)
    import mmreg
    from mmreg_explain import modalities, show
    from mmreg_explain.captum_methods import require_captum

    found: Explanation | list[Attribution]
    with contextlib.redirect_stdout(sys.stderr), Bar(not quiet, None if quiet else say) as bar:
        if within is not None:
            require_captum()  # before a run is loaded
        loaded = mmreg.load(run, device, precision, on_bad)
        choice: dict[str, Any] = {"rows": numbers, "of": of, "target": target}
        choice["progress"] = lambda done, total, what: bar.advance(what, done, total)
        if within is None:
            found = modalities.explain(loaded, source, rounds=rounds, seed=seed, batch_size=batch_size, **choice)
            data: Any = found.to_data()
        else:
            from mmreg_explain.within import explain_within

            found = explain_within(loaded, source, within, method=None if method is None else method.value, **choice)
            data = {"modality": within, "rows": [each.to_data() for each in found]}
    if out is not None:
        write_json(out, data)
    if format_ is Format.JSON:
        print_json(data)
    elif isinstance(found, list):
        show.print_attributions(found, top)
        if not found:
            note(f"no row has the modality {within!r}")
    else:
        show.print_explanation(found, top)
    if out is not None and not quiet:
        say(f"wrote {out}")
