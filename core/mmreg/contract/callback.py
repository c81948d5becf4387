"""Following a training: its events, which the terminal, trackers, reports and comparisons all receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmreg.contract.metrics import Epoch

if TYPE_CHECKING:
    from torch import nn

TRAINING = "training"
"""What `on_progress` calls the trainings of a comparison."""


class FollowedRun(Protocol):
    """What a callback may count on of the run that it follows; it is the `mmreg.Run` itself."""

    @property
    def folder(self) -> Path:
        """Where its files are."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as plain data, every default spelled out."""

    @property
    def model(self) -> nn.Module:
        """The model, as it is at the time of the event."""

    @property
    def report(self) -> Mapping[str, Any]:
        """What report.json holds, once it is written."""


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        epoch: its epoch, from 1.
        step: its number over the whole training, from 1.
        steps: how many steps the training has at most.
        rows: rows of the step.
        loss: reads the loss from the device, which may have to wait for it.
    """

    epoch: int
    step: int
    steps: int
    rows: int
    loss: Callable[[], float]


class Callback:
    """Follows one training, or a comparison of many; a subclass overrides what it needs, all else does nothing.

    Everything it gets but the run is plain data, and a copy of its own.
    """

    def on_message(self, text: str) -> None:
        """There is something that a person should know.

        Args:
            text: what.
        """

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Work of known length is so far.

        Args:
            what: what is done: "preparing image", or in a comparison `TRAINING`.
            done: how many pieces of it are.
            total: of how many.
            note: what is under way, or where `done` has grown, what came of the last one.
        """

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Training begins.

        Args:
            run: its folder, recipe and model; the model is not trained yet.
            facts: device, precision, rows of each split and of a batch, parameters, epochs and steps, and after which
                of these a training that was stopped goes on.
        """

    def on_gradients(self, step: int) -> None:
        """The gradients of an optimizer step are there, in the `grad` of the model's parameters.

        They are not clipped yet, and the weights have not moved. A training that somebody follows so closely is
        neither compiled nor recorded as a graph.

        Args:
            step: its number over the whole training, from 1.
        """

    def on_step(self, step: Step) -> None:
        """An optimizer step is done.

        Args:
            step: which one.
        """

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """An epoch is done: a training that is stopped now goes on after it.

        What is kept of it is written while the training goes on, at the latest when it ends, whatever ends it but a
        kill.

        Args:
            run: as above; the model has the weights of this epoch. Where the recipe asks for their average, that is
                what was measured, and the model has it only when training has ended.
            epoch: what was measured; `epoch.row()` is its line of metrics.csv.
        """

    def on_evaluation(self, run: FollowedRun, split: str, result: Mapping[str, Any]) -> None:
        """A split was measured with the weights that the run keeps.

        Args:
            run: as above; the model has these weights.
            split: "validation" or "test".
            result: as `Run.evaluate` gives it.
        """

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        """All files of the run are written. Of runs that were combined it is the only event.

        Args:
            run: as above, or the combination.
            report: what report.json holds.
        """
