"""`mmreg robustness`: the matrix of missing rates in training x in use, per operator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from mmreg.studies.robustness import RobustnessMatrix

RATES = "0,0.3,0.5,0.7,0.9"


def robustness(
    recipe: RecipeArgument,
    fusions: Annotated[
        list[str] | None,
        typer.Option(
            "--fusions",
            help='Operators, such as concat,product or "{name: late_transformer, absent_token: true}", or all; the '
            "recipe's own if left out. May be repeated.",
            autocompletion=components("fusion", many=True),
        ),
    ] = None,
    training_rates: Annotated[
        str,
        typer.Option(
            "--training-rates", metavar="RATES", help="Missing rates in training: 0,0.5, or 0..0.9 (every 0.1)."
        ),
    ] = RATES,
    use_rates: Annotated[
        str, typer.Option("--use-rates", metavar="RATES", help="Missing rates in use, likewise.")
    ] = RATES,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, such as 0..4 or 0,1,2.")] = "0..2",
    set_: Set = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The study's folder.")] = Path("robustness"),
    metric: Annotated[
        str | None, typer.Option("--metric", help="What to measure; what the recipe chooses weights by if left out.")
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    jobs: Jobs = None,
    format_: FormatOption = Format.TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a recipe with modalities missing at each rate, measure it at each, and compare with the best one present.

    Called again, it keeps what is finished, goes on with what was stopped, and trains what is new. Ctrl-C (exit code
    130), SIGTERM, SIGUSR1 and a closed terminal (75) end it; finished trainings stay. A finished run is measured by
    mmreg evaluate RUN --missing-rate.

    Example: mmreg robustness recipe.yaml --fusions concat,product --use-rates 0,0.5
    """
    choices = None if fusions is None else [choice for text in fusions for choice in read_choices(text, "--fusions")]
    numbers = read_seeds(seeds)
    if (recipe / "components.json").is_file():
        raise OptionError(
            f"{str(recipe)!r} is a run, and the matrix needs a recipe to train with modalities missing; a run is "
            f"measured by: mmreg evaluate {recipe} --missing-rate {RATES}"
        )
    from mmreg.studies.robustness import run_matrix
    from mmreg.studies.robustness.levels import read_rates

    rates = read_rates(training_rates), read_rates(use_rates)
    show_study(
        lambda display: run_matrix(
            recipe,
            out,
            fusions=choices,
            training_rates=rates[0],
            use_rates=rates[1],
            seeds=numbers,
            overrides=recipe_overrides(set_, precision),
            metric=metric,
            device=device,
            jobs=jobs,
            callback=display,
        ),
        _print,
        out,
        format_,
        quiet,
    )


def _print(matrix: RobustnessMatrix) -> None:
    for number, name in enumerate(matrix.names):
        if number:
            print()
        print_table(matrix.table(name), title=matrix.title(name))
