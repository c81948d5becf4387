"""`mmreg compare`: a grid of fusions, encoders and seeds, trained and compared on the same test rows."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mmreg.cli.grids import read_choices, read_seeds, show_study
from mmreg.completion import components
from mmreg.console import (
    Debug,
    Device,
    Format,
    FormatOption,
    Jobs,
    Precision,
    Quiet,
    RecipeArgument,
    Set,
    print_table,
    recipe_overrides,
)
from mmreg.errors import OptionError


class Level(StrEnum):
    """A level of fusion."""

    FEATURE = "feature"
    MODEL = "model"


class Split(StrEnum):
    """The rows of a comparison."""

    VALIDATION = "validation"
    TEST = "test"


def compare(
    recipe: RecipeArgument,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            "--fusion",
            help='Operators, such as concat,low_rank or "{name: low_rank, rank: 8}", or all; the recipe\'s own if left '
            "out. May be repeated.",
            autocompletion=components("fusion", many=True),
        ),
    ] = None,
    level: Annotated[Level | None, typer.Option("--level", help="All operators of this level.")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            metavar="MODALITY=NAME,...",
            help="Encoders of a modality to choose from, by name or as mappings. May be repeated.",
        ),
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(
            "--balance",
            help='Balances, such as none,own_losses or "{name: ogm_ge, alpha: 0.5}"; the recipe\'s own if left out. '
            "May be repeated.",
            autocompletion=components("balance", many=True),
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, such as 0..4 or 0,1,2.")] = "0..2",
    singles: Annotated[
        bool, typer.Option("--singles/--no-singles", help="Whether to train each modality alone as the baseline.")
    ] = True,
    set_: Set = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The comparison's folder.")] = Path(
        "comparison"
    ),
    metric: Annotated[
        str | None, typer.Option("--metric", help="What to compare by; what the recipe chooses weights by if left out.")
    ] = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Rows to compare by: test, or else validation, if left out.")
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    jobs: Jobs = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap draws.")] = 2000,
    format_: FormatOption = Format.TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a recipe with each fusion, encoder, balance and seed named, and say which differences test rows bear out.

    Called again, it keeps what is finished, goes on with what was stopped, and trains what is new; it compares what
    the call names. Ctrl-C (exit code 130), SIGTERM, SIGUSR1 and a closed terminal (75) end it; finished trainings
    stay.

    Example: mmreg compare recipe.yaml --fusion concat,low_rank --seeds 0..4 --out comparison
    """
    choices = None if fusion is None else [choice for text in fusion for choice in read_choices(text, "--fusion")]
    encoders = dict(_encoder(text) for text in encoder or ())
    numbers = read_seeds(seeds)
    balances = None if balance is None else [choice for text in balance for choice in read_choices(text, "--balance")]
    from mmreg.studies.compare.grid import run_grid

    show_study(
        lambda display: run_grid(
            recipe,
            out,
            fusions=choices,
            level=None if level is None else level.value,
            encoders=encoders,
            balances=balances,
            seeds=numbers,
            singles=singles,
            overrides=recipe_overrides(set_, precision),
            metric=metric,
            split=None if split is None else split.value,
            device=device,
            jobs=jobs,
            resamples=resamples,
            callback=display,
        ),
        lambda comparison: print_table(comparison.table()),
        out,
        format_,
        quiet,
    )


def _encoder(text: str) -> tuple[str, list[Any]]:
    name, sign, choices = text.partition("=")
    if not sign or not name.strip():
        raise OptionError(f"--encoder needs MODALITY=NAME,..., such as image=image_cnn; found {text!r}")
    return name.strip(), read_choices(choices, f"--encoder {name.strip()}")
