"""Signals that end a training: after its step, with a checkpoint, and with an exit code that says so. No torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmreg.training.stopping import Stop, Stopped

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of any command."""
TRY_AGAIN = 75
"""The exit code after SIGTERM and SIGUSR1, which no other end has: EX_TEMPFAIL, for what starts the command again."""
SIGNALS = {
    getattr(signal, name): code
    for name, code in (("SIGINT", INTERRUPTED), ("SIGTERM", TRY_AGAIN), ("SIGUSR1", TRY_AGAIN))
    if hasattr(signal, name)  # Windows lacks some
}
"""The signals that end a training, and the exit code of each."""


class Signals(Stop):
    """The wish to end, told by a signal.

    Attributes:
        exit_code: of the command, by the first signal.
    """

    exit_code = INTERRUPTED

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The time in which a first signal ends the training after its step, and a second one at once."""
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody set a handler
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, self._come) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        first = not self.wanted
        if first:
            self.wanted, self.exit_code = True, SIGNALS[signal.Signals(number)]
        else:
            signal.signal(number, signal.SIG_DFL)  # a third one needs nobody's leave
        if not (first and self.heeded):
            raise Stopped("stopped")
