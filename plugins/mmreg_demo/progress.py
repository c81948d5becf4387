"""What a person sees of the demo's trainings: a bar on a terminal, and one line for each finished model."""

from __future__ import annotations

import time
from typing import Any, Self

from mmreg import Callback
from mmreg.console import Bar, say


class DemoProgress(Callback):
    """Shows several trainings, one after the other; the callback of each.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar = Bar(not quiet, None if quiet else say)
        self._name = ""
        self._started = 0.0

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def begin(self, name: str) -> None:
        """The training of a model begins."""
        self._name, self._started = name, time.perf_counter()
        self._bar.clear()

    def end(self, text: str) -> None:
        """The training is done; the text says what came of it."""
        self.line(f"{self._name:<24}{time.perf_counter() - self._started:5.1f} s  {text}")

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self._bar.line(text)

    def on_message(self, text: str) -> None:
        """Something that a person should know."""
        self.line(f"note: {text}")

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show how far the decoding of a modality is."""
        self._bar.advance(f"{self._name}: {what}", done, total)

    def on_step(self, step: Any) -> None:
        """Move the bar. No line for each epoch: those of five models would hide the result."""
        self._bar.advance(f"{self._name}: training", step.step, step.steps)
