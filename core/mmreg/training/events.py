"""What a training tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


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


class Watcher(Protocol):
    """Somebody who watches a training, such as a progress bar."""

    def on_prepare(self, done: int, total: int, name: str) -> None:
        """Some values of a modality have been decoded."""

    def on_start(self, facts: Mapping[str, Any]) -> None:
        """Training begins; the facts are plain data."""

    def on_step(self, step: Step) -> None:
        """A step is done."""

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done and kept: a training that is stopped now goes on after it. The row is metrics.csv's."""

    def on_message(self, text: str) -> None:
        """Something that a person should know."""


class Silent:
    """A watcher that does nothing."""

    def on_prepare(self, done: int, total: int, name: str) -> None:
        """Do nothing."""

    def on_start(self, facts: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_step(self, step: Step) -> None:
        """Do nothing."""

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_message(self, text: str) -> None:
        """Do nothing."""
