"""`mmreg tune`: a search for the values that a recipe leaves open."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import mmreg
from mmreg.console import (
    Bar,
    Debug,
    Device,
    Format,
    FormatOption,
    On,
    Precision,
    Quiet,
    RecipeArgument,
    Seed,
    Set,
    note,
    print_json,
    print_table,
    recipe_overrides,
    say,
    typed_command,
)
from mmreg.messages import to_type

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


class Pruner(StrEnum):
    """What ends trials early."""

    HYPERBAND = "hyperband"
    MEDIAN = "median"
    NONE = "none"


@app.command()
def tune(
    recipe: RecipeArgument,
    trials: Annotated[
        int, typer.Option("--trials", "-n", min=1, help="How many trainings in all, those done already included.")
    ] = 20,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder of the search.")] = Path("tuned"),
    pruner: Annotated[
        Pruner, typer.Option("--pruner", help="What ends trials early that others have done better than.")
    ] = Pruner.HYPERBAND,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = None,
    on: On = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="With --on, trials at a time; one for each core or GPU if not given."
        ),
    ] = None,
    format_: FormatOption = Format.TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search for the values that a recipe leaves open, by the validation rows; no trial looks at a test row.

    A recipe leaves a value open where a range or choice stands in its place:
    lr: {search: log, low: 1e-4, high: 1e-2}; or a choice, whose values stand in a list.

    Example: mmreg tune recipe.yaml --trials 30 --out tuned

    The same command goes on with a search that was stopped by Ctrl-C (exit code 130) or SIGTERM (75), also by a crash,
    and several of them in one folder share its trials. With --on ray, the workers of a cluster do trials, several at a
    time. The best recipe is written to DIR/best.yaml.
    """
    stop, display = mmreg.Signals(), Display(quiet)
    try:
        with stop.watched(), display.bar:
            from mmreg_tune.study import tune as search

            tuning = search(
                recipe,
                out,
                trials=trials,
                pruner=pruner.value,
                overrides=recipe_overrides(set_, precision, seed),
                device=device,
                on=on,
                workers=workers,
                callback=display,
                stop=stop,
            )
    except KeyboardInterrupt:
        say(f"\nstopped; all is kept in {out}; the same command goes on:\n  {typed_command()}")
        raise typer.Exit(stop.exit_code) from None
    if format_ == Format.JSON:
        print_json(tuning.to_json())
        return
    print_table(tuning.shown(), title=f"The best of {tuning.summary}")
    if tuning.importance and not quiet:
        print_table(tuning.importance_table(), title="\nHow much each value matters")
    if not quiet:
        print(f"\neverything is in {out}: best.yaml, trials.csv, importance.csv, tune.md; next:")
        print(f"  mmreg train {to_type(out / 'best.yaml')} --out run")


class Display(mmreg.Callback):
    """Shows a search on stderr: bars on a terminal, and a line for each trial that has ended."""

    def __init__(self, quiet: bool) -> None:
        self.bar = Bar(not quiet, None if quiet else say)
        self._quiet = quiet
        self._ended = -1
        self._started = time.perf_counter()

    def on_message(self, text: str) -> None:
        """Say it."""
        if not self._quiet:
            note(text, self.bar.line)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Move the bar, and write a line for a trial that has ended."""
        if what != "trials":
            self.bar.advance(what, done, total, note)
            return
        self.bar.clear()
        self.bar.advance(what, done, total, note)
        if done > self._ended >= 0 and not self._quiet:
            self.bar.line(f"[{done}/{total}] {time.perf_counter() - self._started:7.1f} s  {note}")
        self._ended = done

    def on_step(self, step: mmreg.Step) -> None:
        """Move the bar of the trial."""
        self.bar.advance("training", step.step, step.steps)
