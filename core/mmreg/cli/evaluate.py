"""`mmreg evaluate`: a run measured, also with modalities missing or signals corrupted."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg.completion import complete_runs
from mmreg.console import (
    AugmentedVersions,
    BatchSize,
    Debug,
    Device,
    Encoding,
    Format,
    FormatOption,
    OnBad,
    Precision,
    RunArgument,
    Separator,
    by_target,
    detail_rows,
    figure_rows,
    note,
    print_json,
    print_table,
    table_source,
)
from mmreg.errors import OptionError
from mmreg.importing import stdout_to_stderr
from mmreg.messages import plural, without_modality

if TYPE_CHECKING:
    from mmreg.runs import Run


class Split(StrEnum):
    """The splits of a table."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Missing(StrEnum):
    """Which subsets of the modalities."""

    ALL = "all"


def evaluate(
    run: RunArgument,
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="Rows with targets: a table's path, or scheme://... of a plugin; the run's own table if not given.",
            show_default=False,
        ),
    ] = None,
    separator: Separator = None,
    encoding: Encoding = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Which rows; the test rows of the run's own table if not given.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="A further metric by name. May be repeated."),
    ] = None,
    missing: Annotated[
        Missing | None,
        typer.Option("--missing", help="Measure with each subset of the modalities (past 5: with a sample of them)."),
    ] = None,
    missing_rate: Annotated[
        str | None,
        typer.Option(
            "--missing-rate",
            metavar="RATES",
            help="Measure with each modality of each row left out at these rates: 0..0.9 (every 0.1), or 0,0.25,0.5.",
        ),
    ] = None,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            "--corrupt",
            metavar="CORRUPTIONS",
            help="Measure under MODALITY:NAME=STRENGTH, the NAME being noise, blur, drop or silence, several after "
            "commas: image:noise=0..0.5, text:drop=0.3. A range or a list of strengths gives a curve.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            help="A late-fusion run for the effective robustness to --corrupt.",
            autocompletion=complete_runs,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw --missing, --missing-rate or --corrupt (.png, .svg, .pdf)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of what is left out or corrupted.")] = 0,
    batch_size: BatchSize = None,
    augmented: AugmentedVersions = 0,
    device: Device = "auto",
    precision: Precision = None,
    on_bad: OnBad = None,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Measure a run on rows whose targets are known, also with modalities missing or signals corrupted.

    Example: mmreg evaluate runs/first --missing all
    """
    robustness = missing is not None or missing_rate is not None or bool(corrupt)
    if augmented and robustness:
        raise OptionError("--augmented does not go with --missing, --missing-rate or --corrupt")
    if plot is not None and not robustness:
        raise OptionError("--plot draws --missing, --missing-rate or --corrupt; give one of them")
    if baseline is not None and not corrupt:
        raise OptionError("--baseline is compared with under --corrupt; give a corruption")
    if plot is not None:
        from mmreg.studies.robustness.plotting import check_plot

        check_plot(plot)
    from mmreg.studies.robustness.levels import read_corruptions, read_rates

    rates = [] if missing_rate is None else read_rates(missing_rate)
    read_corruptions(corrupt or ())  # a slip in them is told before a run is loaded
    from mmreg.runs import load

    with stdout_to_stderr:
        loaded = load(run, device, precision, on_bad)
        rows = table_source(table, separator, encoding)
        if not robustness:
            figures = loaded.evaluate(
                rows, split=split, metrics=metric or (), batch_size=batch_size, augmented=augmented
            )
        else:
            from mmreg.studies.robustness import evaluate_robustness

            figures = evaluate_robustness(
                loaded,
                rows,
                split=split,
                missing=missing is not None,
                rates=rates,
                corruptions=corrupt or (),
                baseline=None if baseline is None else load(baseline, device, precision, on_bad),
                metrics=metric or (),
                seed=seed,
                batch_size=batch_size,
            )
        if plot is not None:
            from mmreg.studies.robustness.plotting import draw_robustness

            draw_robustness(figures, plot)
    if format is Format.JSON:
        print_json(figures)
    elif robustness:
        _print_robustness(figures)
    else:
        _print_figures(loaded, figures, augmented)


PER = {"per_class": "class", "per_label": "class", "per_direction": "direction", "per_quantile": "quantile"}
"""What figures may be told apart by, and what a row of their table is called."""


def _print_figures(run: Run, figures: Mapping[str, Any], augmented: int) -> None:
    """A run's figures, those of its parts and classes, and the line that sums them up."""
    versions = f", each as it is and {plural(augmented, 'time')} augmented" if augmented else ""
    for target, own in by_target(figures).items():
        if target:
            print()
        print_table(figure_rows(own), title=f"{target}, {figures['split']} rows{versions}".removeprefix(", "))
        for name, column in PER.items():
            if name in own["metrics"]:
                print()
                print_table(detail_rows(own["metrics"][name], column))
    print(f"\n{run.task.headline(figures['metrics'], figures['rows'])}")
    if "rows_without_any_modality" in figures and run.task.needs_target:
        note(without_modality(figures["rows_without_any_modality"]))


def _print_robustness(robustness: Mapping[str, Any]) -> None:
    """A table for each thing that was asked for, and notes on how to read them."""
    from mmreg.studies.robustness.tables import is_sampled, tables

    for number, (title, rows) in enumerate(tables(robustness)):
        if number:
            print()
        print_table(rows, title=title)
    curves = robustness.get("corruptions", [])
    measured = (*robustness.get("subsets", []), *robustness.get("rates", []))
    points = [*measured, *(point for curve in curves for point in curve["strengths"])]
    if any("rows_without_any_modality" in point for point in points):
        note('the rows counted under "without any" have none of the modalities; they get the training prior')
    if is_sampled(robustness):
        note(f"of this many modalities a sample of the subsets is measured (seed {robustness['seed']})")
    if curves and robustness["baseline"] is None:
        note("effective robustness compares with a late-fusion run; give one by --baseline RUN")
