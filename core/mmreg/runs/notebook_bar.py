"""A training as a notebook shows it: one output with a bar and the last epochs, which changes in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from mmreg.contract.callback import Callback, FollowedRun, Step
from mmreg.contract.metrics import Epoch
from mmreg.errors import ArgumentError
from mmreg.messages import duration, shown
from mmreg.notebook import harmless, html, html_table, in_notebook

INTERVAL = 0.25
"""Seconds between two changes of the output, each of which reads the loss, and so waits for the device."""
EPOCHS = 10
"""The last ones are shown."""
MOST_NOTES = 20


def follower(callback: Callback | None) -> Callback:
    """Who is told how work goes: the caller's callback; without one a bar in a notebook, and nobody elsewhere.

    Raises:
        ArgumentError: it is no callback.
    """
    if callback is not None and not isinstance(callback, Callback):
        raise ArgumentError(f"callback is a mmreg.Callback; found {shown(callback)}")
    if callback is not None:
        return callback
    return NotebookBar() if in_notebook() else Callback()


class NotebookBar(Callback):
    """Shows a training, or a comparison of many, in the output of a notebook's cell.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._shown: float | None = None
        self._handle: Any = None
        self._works = True
        self._bar: tuple[str, int, int, str] | None = None
        self._about = ""
        self._metric = ""
        self._epochs: list[dict[str, Any]] = []
        self._notes: list[str] = []

    def on_message(self, text: str) -> None:
        """Show it below the bar."""
        self._notes = [*self._notes, text][-MOST_NOTES:]
        self._show()

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self._bar = (what, done, total, note)
        if done >= total or self._is_due():
            self._show()

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Say what is trained on what."""
        rows = ", ".join(f"{count:,} {split}" for split, count in facts["rows"].items())
        self._about = f"rows: {rows}; {facts['parameters']:,} parameters; {facts['device']}, {facts['precision']}"
        self._metric, self._began, self._bar = facts["metric"], self._clock(), None
        self._show()

    def on_step(self, step: Step) -> None:
        """Move the bar, with the loss, now and then."""
        if self._is_due():
            self._bar = ("training", step.step, step.steps, f"epoch {step.epoch}, loss {step.loss():.4f}")
            self._show()

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """Add a line to the table of epochs."""
        row: dict[str, Any] = {"epoch": epoch.number, "seconds": round(self._clock() - self._began, 1)}
        row |= {"loss": epoch.get("train", "loss"), "validation loss": epoch.get("validation", "loss")}
        chosen = (each for each in epoch.values if (each.split, each.name) == ("validation", self._metric))
        row |= {f"{each.part} {each.name}".strip(): each.value for each in chosen}
        self._epochs = [*self._epochs, {name: value for name, value in row.items() if value is not None}][-EPOCHS:]
        self._show()

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        """Say where the run is, in the place of the bar."""
        self._bar = None
        self._about = f"{self._about}; done in {duration(self._clock() - self._began)}; the run is in {run.folder}"
        self._show()

    def __repr__(self) -> str:
        return self._about or "mmreg"

    @harmless
    def _repr_html_(self) -> str:
        parts = [f"<p>{html(self._about)}</p>"] if self._about else []
        if self._bar is not None:
            what, done, total, note = self._bar
            told = f"{what}: {done:,} of {total:,}" + (f" ({note})" if note else "")
            parts.append(f'<p><progress value="{done}" max="{max(total, 1)}"></progress> {html(told)}</p>')
        if self._epochs:
            parts.append(html_table(self._epochs))
        parts += [f"<p>note: {html(text)}</p>" for text in self._notes]
        return f"<div>{''.join(parts)}</div>"

    def _is_due(self) -> bool:
        return self._shown is None or self._clock() - self._shown >= INTERVAL

    def _show(self) -> None:
        """Change the output; a notebook that cannot is left alone, as it must not end the training."""
        if not self._works:
            return
        self._shown = self._clock()
        try:
            if self._handle is None:
                from IPython.display import display

                self._handle = display(self, display_id=True)
            else:
                self._handle.update(self)
        except Exception:
            self._works = False
