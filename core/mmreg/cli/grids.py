"""What commands share that train a recipe many times: reading what varies, showing how it goes, and what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer

from mmreg.console import Bar, Format, note, print_json, say, typed_command
from mmreg.contract.callback import TRAINING, Callback
from mmreg.errors import OptionError
from mmreg.importing import stdout_to_stderr
from mmreg.training.signals import Signals


class Study(Protocol):
    """What many trainings came to."""

    @property
    def failed(self) -> Sequence[Any]:
        """The trainings that failed."""

    @property
    def conclusions(self) -> Sequence[str]:
        """What may be said, in sentences."""

    def write(self, folder: Path) -> Sequence[Path]:
        """Write its tables and picture."""

    def to_json(self) -> Any:
        """All of it as plain data."""


Some = TypeVar("Some", bound=Study)


def show_study(
    run: Callable[[Callback], Some], show: Callable[[Some], None], out: Path, format_: Format, quiet: bool
) -> None:
    """Run a study that can be stopped and gone on with, write it, and show it.

    Args:
        run: does so; what it is given shows how it goes.
        show: prints its tables.
        out: its folder.
        format_: how to print it.
        quiet: whether to say nothing else.

    Raises:
        typer.Exit: it was stopped, or some trainings failed.
    """
    display, stop = GridDisplay(quiet), Signals()
    try:
        with stop.watched(), stdout_to_stderr, display.bar:
            study = run(display)
    except KeyboardInterrupt:
        say(f"\nstopped; what is trained is kept in {out}, and the same command goes on from there:")
        say(f"  {typed_command()}")
        raise typer.Exit(stop.exit_code) from None
    written = study.write(out)
    if format_ == Format.JSON:
        print_json(study.to_json())
    else:
        show(study)
        if not quiet:
            print()
            for text in study.conclusions:
                print(text)
        for training in study.failed:
            say(f"failed: {training.variant}, seed {training.seed}: {training.reason}")
    if not quiet:
        say(f"\nwritten: {', '.join(str(path) for path in written)}")
        if not any(path.suffix == ".png" for path in written):
            say("no picture was drawn, as matplotlib is missing: pip install 'mmreg[plot]'")
    if study.failed:
        raise typer.Exit(1)


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
