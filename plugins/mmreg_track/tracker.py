"""What all trackers have in common: which figures of a training are logged, when, and under which names."""

from __future__ import annotations

import atexit
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import Ge

from mmreg import Callback, Epoch, FollowedRun, Step
from mmreg.console import numbers

Every = Annotated[int, Ge(0)]
"""Steps between two losses that are read from the device; 0 for none."""


class Tracker(Callback):
    """Logs a training: recipe and facts at its start, losses now and then, figures of each epoch, and the final ones.

    Figures are called by split, part and name, such as "validation/accuracy" or "validation/image/loss".

    Args:
        every: steps between two losses that are logged, each of which waits for the device; 0 for none.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._open = False
        self._step = 0

    @abstractmethod
    def open(self, run: FollowedRun, parameters: Mapping[str, Any]) -> None:
        """Begin to log a training.

        Args:
            run: its folder and recipe.
            parameters: what it is trained by, as plain values with dotted names.
        """

    @abstractmethod
    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures of a step."""

    @abstractmethod
    def close(self, run: FollowedRun | None) -> None:
        """End, with the files of the run where it has ended by itself; without it if it was stopped."""

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Open, and log what is trained on what."""
        self.open(run, {**dict(flat(run.recipe)), **{f"run.{name}": value for name, value in flat(facts)}})
        self._open = True
        atexit.register(self._leave)

    def on_step(self, step: Step) -> None:
        """Log a loss, seldom."""
        self._step = step.step
        if self._open and self._every and step.step % self._every == 0:
            self.log({"train/step_loss": step.loss()}, step.step)

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """Log all that was measured."""
        figures = {"/".join(filter(None, (each.split, each.part, each.name))): each.value for each in epoch.values}
        self.log({"epoch": epoch.number, "learning_rate": epoch.learning_rate, **figures}, epoch.step)

    def on_evaluation(self, run: FollowedRun, split: str, result: Mapping[str, Any]) -> None:
        """Log the figures of the weights that are kept."""
        metrics = result["metrics"]
        figures = {f"final/{split}/{name}": value for name, value in numbers(metrics).items()}
        for part, own in metrics.get("modalities", {}).items():
            figures |= {f"final/{split}/{part}/{name}": value for name, value in numbers(own).items()}
        self.log(figures, self._step)

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        """Close; of runs that were combined there is nothing to close."""
        if self._open:
            self._open = False
            atexit.unregister(self._leave)
            self.close(run)

    def _leave(self) -> None:
        """Close what a training that was stopped has left open."""
        self.close(None)


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as plain values with dotted names; lists as JSON."""
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, str | int | float)
            yield f"{prefix}{name}", value if plain else json.dumps(value, default=str)
