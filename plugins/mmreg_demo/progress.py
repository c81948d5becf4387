"""What a person sees of the demo's trainings: a bar on a terminal, and one line for each finished model."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mmreg.console import say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class DemoProgress:
    """Shows several trainings, one after the other; the watcher of each.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._started = 0.0

    def __enter__(self) -> DemoProgress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str) -> None:
        """The training of a model begins."""
        self._name, self._started = name, time.perf_counter()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"{name}: preparing", total=None)

    def end(self, text: str) -> None:
        """The training is done; the text says what came of it."""
        self.line(f"{self._name:<24}{time.perf_counter() - self._started:5.1f} s  {text}")

    def line(self, text: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            say(text)

    def on_prepare(self, done: int, total: int, name: str) -> None:
        """Show how far the decoding of a modality is."""
        self._show(f"{self._name}: preparing {name}", done, total)

    def on_start(self, facts: Mapping[str, Any]) -> None:
        """Nothing: the bar's first step says it."""

    def on_step(self, step: Any) -> None:
        """Move the bar."""
        self._show(f"{self._name}: training", step.step, step.steps)

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Nothing: a line for each epoch of five models would hide the result."""

    def on_message(self, text: str) -> None:
        """Something that a person should know."""
        self.line(f"note: {text}")

    def _show(self, text: str, done: int, total: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
