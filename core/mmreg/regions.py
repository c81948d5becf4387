"""Named regions of a training, timed while somebody asks where the time goes, and next to free otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import get_ident
from typing import TypeVar

import torch

T = TypeVar("T")

REST = "rest"
"""What is in no region."""
TRACED = "traced steps"
"""Where all time goes while a trace is taken, which makes everything slower."""

_NOTHING = nullcontext()
_END = object()
_recorder: Recorder | None = None


def region(kind: str, name: str = "") -> AbstractContextManager[None]:
    """A part of the work, as the table of a profiled training has it.

    Args:
        kind: what is done, such as "encoder".
        name: for which component, if there are several.
    """
    recorder = _recorder
    if recorder is None or torch.compiler.is_compiling() or recorder.thread != get_ident():
        return _NOTHING
    return recorder.region(f"{kind}/{name}" if name else kind)


def waited(kind: str, values: Iterable[T]) -> Iterator[T]:
    """The same values, with what it takes to get each of them in a region."""
    iterator = iter(values)
    while True:
        with region(kind):
            value = next(iterator, _END)
        if value is _END:
            return
        yield value  # type: ignore[misc]


class Recorder:
    """Charges every moment of one thread to one region, the innermost, so that all of them sum to the whole.

    Args:
        enclosing: regions that are charged for all that is within them.
        interrupting: those of them that end a trace.
        settle: waits for a device, so that its work is charged to the region that asked for it.
        end_trace: ends a trace.
        clock: gives seconds.

    Attributes:
        thread: the one that is followed.
        seconds: of each region.
        calls: how often each was entered.
        tracing: whether a trace is taken, in which the regions then appear.
    """

    def __init__(
        self,
        enclosing: frozenset[str] = frozenset(),
        interrupting: frozenset[str] = frozenset(),
        settle: Callable[[], None] = lambda: None,
        end_trace: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.thread = get_ident()
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.tracing = False
        self._enclosing, self._interrupting = enclosing, interrupting
        self._settle, self._end_trace, self._clock = settle, end_trace, clock
        self._now = REST
        self._since = clock()

    @contextmanager
    def region(self, name: str) -> Iterator[None]:
        """Charge what follows to a region."""
        if self.tracing and name in self._interrupting:
            self._end_trace()
        outer = self._now
        inner = outer if outer in self._enclosing else name
        self.charge()
        self._now = inner
        if inner == name and not self.tracing:
            self.calls[name] = self.calls.get(name, 0) + 1
        try:
            with torch.profiler.record_function(name) if self.tracing else _NOTHING:
                yield
        finally:
            self.charge()
            self._now = outer

    def charge(self) -> None:
        """Charge the time since the last call to where it was spent."""
        if not self.tracing:
            self._settle()
        now = self._clock()
        spent = TRACED if self.tracing else self._now
        self.seconds[spent] = self.seconds.get(spent, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def active(self) -> Iterator[None]:
        """Follow this thread; one recorder does at a time."""
        global _recorder
        before, _recorder = _recorder, self
        try:
            yield
        finally:
            _recorder = before
            self.charge()
