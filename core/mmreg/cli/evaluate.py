"""`mmreg evaluate`: a run measured, also with modalities missing or signals corrupted."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg.console import (
    BatchSize,
    Debug,
    Device,
    Format,
    FormatOption,
    Precision,
    RunArgument,
    print_json,
    print_table,
    say,
)
from mmreg.errors import OptionError
from mmreg.importing import stdout_to_stderr

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
        typer.Option("--baseline", metavar="RUN", help="A late-fusion run for the effective robustness to --corrupt."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw --missing, --missing-rate or --corrupt (.png, .svg, .pdf)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of what is left out or corrupted.")] = 0,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Measure a run on rows whose targets are known, also with modalities missing or signals corrupted."""
    robustness = missing is not None or missing_rate is not None or bool(corrupt)
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
        loaded = load(run, device, precision)
        if not robustness:
            result = loaded.evaluate(table, split=split, metrics=metric or (), batch_size=batch_size)
        else:
            from mmreg.studies.robustness import evaluate_robustness

            result = evaluate_robustness(
                loaded,
                table,
                split=split,
                missing=missing is not None,
                rates=rates,
                corruptions=corrupt or (),
                baseline=None if baseline is None else load(baseline, device, precision),
                metrics=metric or (),
                seed=seed,
                batch_size=batch_size,
            )
        if plot is not None:
            from mmreg.studies.robustness.plotting import draw_robustness

            draw_robustness(result, plot)
    if format is Format.JSON:
        print_json(result)
    elif robustness:
        _print_robustness(result)
    else:
        _print_figures(loaded, result)


def _print_figures(run: Run, result: Mapping[str, Any]) -> None:
    """A run's figures, those of its parts and classes, and the line that sums them up."""
    metrics = result["metrics"]
    parts = [{"part": name, **part} for name, part in metrics["modalities"].items()]
    _print_rows([{"part": "all", "rows": result["rows"], **_numbers(metrics)}, *parts], f"{result['split']} rows")
    for name in ("per_class", "per_label"):
        if name in metrics:
            print()
            _print_rows([{"class": label, **figures} for label, figures in metrics[name].items()])
    print(f"\n{run.task.headline(metrics, result['rows'])}")
    if "rows_without_any_modality" in result:
        say(f"note: {result['rows_without_any_modality']} rows have no modality at all; they got the training prior")


def _print_robustness(result: Mapping[str, Any]) -> None:
    """A table for each thing that was asked for."""
    split = result["split"]
    tables = []
    if "subsets" in result:
        found = result["subsets"]
        every = len(found) == result["possible_subsets"]
        which = "each subset" if every else f"{len(found)} of {result['possible_subsets']:,} subsets"
        rows = [{"modalities": "+".join(one["modalities"]), **_point(one)} for one in found]
        tables.append((f"{split} rows with {which} of the modalities", rows))
    if "rates" in result:
        rows = [{"missing rate": one["rate"], **_point(one)} for one in result["rates"]]
        tables.append((f"{split} rows with each modality left out at random (seed {result['seed']})", rows))
    curves = result.get("corruptions", [])
    for one in curves:
        name = f"{one['modality']}:{one['corruption']}"
        baseline = f"baseline {result['metric']}"
        rows = [
            {"strength": point["strength"], **_point(point), baseline: point.get("baseline")}
            for point in one["strengths"]
        ]
        if result["baseline"] is None:
            rows = [{key: value for key, value in row.items() if key != baseline} for row in rows]
        tables.append((f"{split} rows under {name} (strength: {one['unit']}; seed {result['seed']})", rows))
    if curves:
        rows = [
            {
                "corruption": f"{one['modality']}:{one['corruption']}",
                "relative robustness": one["relative_robustness"],
                "effective robustness": one["effective_robustness"],
            }
            for one in curves
        ]
        better = "more" if result["more_is_better"] else "less"
        tables.append((f"robustness by {result['metric']} ({better} is better)", rows))
    for number, (title, rows) in enumerate(tables):
        if number:
            print()
        _print_rows(rows, title)
    if any("without any" in row for _, rows in tables for row in rows):
        say('note: the rows counted under "without any" have none of the modalities; they got the training prior')
    if "subsets" in result and len(result["subsets"]) < result["possible_subsets"]:
        say(f"note: of this many modalities a sample of the subsets is measured (seed {result['seed']})")
    if curves and result["baseline"] is None:
        say("note: effective robustness compares with a late-fusion run; give one by --baseline RUN")


def _point(figures: Mapping[str, Any]) -> dict[str, Any]:
    """One measurement as a table's row."""
    row = {"rows": figures["rows"], **_numbers(figures["metrics"])}
    if "rows_without_any_modality" in figures:
        row["without any"] = figures["rows_without_any_modality"]
    return row


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def _print_rows(rows: list[dict[str, Any]], title: str = "") -> None:
    """Rows as a table of all their columns."""
    print_table(rows, list(dict.fromkeys(key for row in rows for key in row)), title)
