"""Which frame is shown when: what all sources of frames have in common, and how times are chosen.

Times are seconds as exact fractions, so that what is on the border of two frames is so on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import count
from typing import Any, Protocol


class Frames(Protocol):
    """A video that is open: frames in the order in which they are shown, never more than a few of them decoded.

    A frame is what the image modality's `load` takes: an array (H, W, C) uint8, or the path of a picture. One that is
    given several times in a row is the same object.
    """

    def span(self, until: Fraction | None = None) -> tuple[Fraction, Fraction]:
        """When the first frame is shown, and when the last one ends.

        Args:
            until: seconds after the start; where the video goes on beyond them, any later time will do for its end.
        """

    def at(self, times: Iterable[Fraction]) -> Iterator[Any]:
        """The frames that are shown at some times, which ascend: the first frame before its time, the last after it."""

    def each(self) -> Iterator[Any]:
        """All frames."""


class Listed:
    """Frames whose times are known beforehand.

    Args:
        starts: when each frame begins, ascending, and when the last one ends.
        get: gives a frame by its number; it is asked for ascending numbers, each once.
    """

    def __init__(self, starts: list[Fraction], get: Callable[[int], Any]) -> None:
        self._starts, self._get = starts, get

    def span(self, until: Fraction | None = None) -> tuple[Fraction, Fraction]:
        """See `Frames`."""
        return self._starts[0], self._starts[-1]

    def at(self, times: Iterable[Fraction]) -> Iterator[Any]:
        """See `Frames`."""
        last, frame = -1, None
        for time in times:
            number = min(max(bisect_right(self._starts, time) - 1, 0), len(self._starts) - 2)
            if number != last:
                last, frame = number, self._get(number)
            yield frame

    def each(self) -> Iterator[Any]:
        """See `Frames`."""
        return (self._get(number) for number in range(len(self._starts) - 1))


def spread(span: tuple[Fraction, Fraction], frames: int) -> Iterator[Fraction]:
    """The middles of so many equal parts of a video."""
    start, end = span
    return (start + (end - start) * Fraction(2 * number + 1, 2 * frames) for number in range(frames))


def at_rate(span: tuple[Fraction, Fraction], fps: Fraction) -> Iterator[Fraction]:
    """Times at a rate from the first frame on, as long as the video goes on; at least the first."""
    start, end = span
    for number in count():
        time = start + number / fps
        if number and time >= end:
            return
        yield time
