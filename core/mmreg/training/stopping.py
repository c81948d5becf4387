"""A wish from outside that a training end, which it heeds between two steps. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """A training has ended because somebody wished so; all of its steps are kept.

    Args:
        message: what is said.
        step: the steps that are done and kept; None if it was stopped where it takes none.
        epoch: the epoch that they end in, from 1.
    """

    def __init__(self, message: str, step: int | None = None, epoch: int = 0) -> None:
        super().__init__(message)
        self.step, self.epoch = step, epoch


class Stop:
    """The wish that a training end: it finishes the step that is under way, writes a checkpoint, and raises `Stopped`.

    It may be told from anywhere, such as another thread or a signal's handler.

    Attributes:
        wanted: whether the training is to end.
        heeded: whether the training is where it asks for this, after every step and every batch that it validates on.
            Elsewhere (while values are prepared, and after the last epoch) a signal's handler may as well raise:
            nothing is lost there.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.heeded = False

    @contextmanager
    def heeding(self, otherwise: str = "stopped after the last epoch") -> Iterator[None]:
        """The time in which the training asks whether to end, or must not be broken off, as by an import of a library.

        Args:
            otherwise: what is said where it has not asked by the end.
        """
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False
        if self.wanted:
            raise Stopped(otherwise)
