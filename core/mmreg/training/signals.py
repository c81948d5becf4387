"""Signals that end a training: after its step, with a checkpoint, and with an exit code that says so. No torch."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from mmreg.training.stopping import Stop, Stopped

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of any command."""
TRY_AGAIN = 75
"""The exit code after the others, which no other end has: EX_TEMPFAIL, for what starts the command again."""
SIGNALS = {
    getattr(signal, name): code
    for name, code in (
        ("SIGINT", INTERRUPTED),
        ("SIGTERM", TRY_AGAIN),
        ("SIGUSR1", TRY_AGAIN),
        ("SIGHUP", TRY_AGAIN),  # the terminal was closed
    )
    if hasattr(signal, name)  # Windows lacks some
}
"""The signals that end a training, and the exit code of each."""


def ending_signals() -> list[int]:
    """The signals that end a training here: all but that of a closed terminal where it is ignored, as by nohup."""
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in SIGNALS if number != hangup or signal.getsignal(number) != signal.SIG_IGN]


class Signals(Stop):
    """The wish to end, told by a signal.

    Attributes:
        exit_code: of the command, by the first signal.
    """

    exit_code = INTERRUPTED

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The time in which a first signal ends the training after its step, and a second one at once.

        A terminal that is closed says so more than once, by its shell and by itself: that is no second wish.
        """
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody set a handler
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, self._come) for number in ending_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        first = not self.wanted
        if signal.Signals(number).name == "SIGHUP":
            _leave_closed_terminal()
            if not first:
                return
        if first:
            self.wanted, self.exit_code = True, SIGNALS[signal.Signals(number)]
        else:
            signal.signal(number, signal.SIG_DFL)  # a third one needs nobody's leave
        if not (first and self.heeded):
            raise Stopped("stopped")


def _leave_closed_terminal() -> None:
    """Let what is said to a terminal that is gone be said to nobody: to say it there would be an error of its own."""
    for said in (1, 2):
        with suppress(OSError):  # it is no file at all
            if stat.S_ISCHR(os.fstat(said).st_mode) and not os.isatty(said):
                nobody = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nobody, said)
                os.close(nobody)
