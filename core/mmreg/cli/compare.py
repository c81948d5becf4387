"""`mmreg compare`: a grid of fusions, encoders and seeds, trained and compared on the same test rows."""

from __future__ import annotations

import re
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg.cli.signals import Signals
from mmreg.console import (
    Bar,
    Debug,
    Device,
    Format,
    FormatOption,
    Jobs,
    Precision,
    Quiet,
    RecipeArgument,
    Set,
    note,
    print_json,
    print_table,
    recipe_overrides,
    say,
)
from mmreg.contract.callback import TRAINING, Callback
from mmreg.errors import OptionError
from mmreg.importing import stdout_to_stderr

if TYPE_CHECKING:
    from mmreg.studies.compare import Comparison


class Level(StrEnum):
    """A level of fusion."""

    FEATURE = "feature"
    MODEL = "model"


def compare(
    recipe: RecipeArgument,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            "--fusion",
            help='Operators, such as concat,low_rank or "{name: low_rank, rank: 8}", or all; the recipe\'s own if left '
            "out. May be repeated.",
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
    the call names. Ctrl-C (exit code 130), SIGTERM and SIGUSR1 (75) end it; finished trainings stay.
    """
    choices = None if fusion is None else [choice for text in fusion for choice in read_choices(text, "--fusion")]
    encoders = dict(_encoder(text) for text in encoder or ())
    numbers = read_seeds(seeds)
    balances = None if balance is None else [choice for text in balance for choice in read_choices(text, "--balance")]
    from mmreg.studies.compare.grid import run_grid

    display, stop = GridDisplay(quiet), Signals()
    try:
        with stop.watched(), stdout_to_stderr, display.bar:
            comparison = run_grid(
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
                device=device,
                jobs=jobs,
                resamples=resamples,
                callback=display,
            )
    except KeyboardInterrupt:
        say(f"\nstopped; what is trained is kept in {out}, and the same command goes on from there")
        raise typer.Exit(stop.exit_code) from None
    written = comparison.write(out)
    if format_ == Format.JSON:
        print_json(comparison.to_json())
    else:
        _print(comparison, quiet)
    if not quiet:
        say(f"\nwritten: {', '.join(str(path) for path in written)}")
        if not any(path.suffix == ".png" for path in written):
            say("no picture was drawn, as matplotlib is missing: pip install 'mmreg[plot]'")
    if comparison.failed:
        raise typer.Exit(1)


def _print(comparison: Comparison, quiet: bool) -> None:
    print_table(comparison.table())
    if not quiet:
        print()
        for text in comparison.conclusions:
            print(text)
    for training in comparison.failed:
        say(f"failed: {training.variant}, seed {training.seed}: {training.reason}")


def read_choices(text: str, option: str) -> list[Any]:
    """Names and mappings, apart by commas.

    Raises:
        OptionError: it names nothing, or something else.
    """
    from mmreg.recipe.yaml import read_yaml

    choices = read_yaml(f"[{text}]", option)[0]
    for choice in choices:
        if not (isinstance(choice, str) or (isinstance(choice, dict) and isinstance(choice.get("name"), str))):
            raise OptionError(f"{option} needs names, or mappings with a name, found {choice!r}")
    if not choices:
        raise OptionError(f"{option} names nothing")
    return list(choices)


def _encoder(text: str) -> tuple[str, list[Any]]:
    name, sign, choices = text.partition("=")
    if not sign or not name.strip():
        raise OptionError(f"--encoder needs MODALITY=NAME,..., such as image=image_cnn; found {text!r}")
    return name.strip(), read_choices(choices, f"--encoder {name.strip()}")


def read_seeds(text: str) -> list[int]:
    """Numbers and ranges whose end belongs to them, apart by commas.

    Raises:
        OptionError: it holds something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise OptionError(f"--seeds needs numbers or ranges, such as 0..4 or 0,1,2; found {text!r}")
        seeds += range(first, last + 1)
    return seeds


class GridDisplay(Callback):
    """Shows a grid on stderr: a bar on a terminal, and a line for each training that ended."""

    def __init__(self, quiet: bool) -> None:
        self.bar = Bar(not quiet, None if quiet else say)
        self._quiet = quiet
        self._done = 0
        self._started = time.perf_counter()

    def on_message(self, text: str) -> None:
        """Say it."""
        if not self._quiet:
            note(text, self.bar.line)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Move the bar, and write a line for a training that has ended."""
        self.bar.advance(what, done, total, note)
        if what == TRAINING and done > self._done and not self._quiet:
            self._done = done
            self.bar.line(f"[{done}/{total}] {time.perf_counter() - self._started:7.1f} s  {note}")
