"""What is asked for as text: rates such as "0..0.9", corruptions such as "image:noise=0..0.5,text:drop=0.3"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmreg.errors import OptionError

RATE_STEP = 0.1
RANGE_LEVELS = 6
"""Strengths that a range of them stands for: its ends, and evenly spaced ones between."""


@dataclass(frozen=True)
class CorruptionRequest:
    """One corruption of one modality at one or several strengths.

    Attributes:
        modality: the modality's name.
        corruption: the corruption's name.
        strengths: as asked for.
    """

    modality: str
    corruption: str
    strengths: tuple[float, ...]

    @property
    def label(self) -> str:
        """Modality and corruption as they are asked for."""
        return f"{self.modality}:{self.corruption}"


def read_rates(text: str) -> list[float]:
    """Rates from "0.3", "0,0.25,0.5" or "0..0.9", which is every 0.1; sorted, each once.

    Raises:
        OptionError: the text is none of these, or a rate is not from 0 to 1.

    Example:
        >>> read_rates("0..0.3,0.5")
        [0.0, 0.1, 0.2, 0.3, 0.5]
    """
    rates: set[float] = set()
    for item in text.split(","):
        first, last = _bounds(item, f"the missing rate {text!r}", '"0..0.9", "0,0.25,0.5" or "0.3"')
        check_rates((first, last))
        count = int((last - first) / RATE_STEP + 1e-6) + 1
        # Rounded, so that the third step from 0 is 0.3 and not 0.30000000000000004.
        rates |= {round(first + index * RATE_STEP, 9) for index in range(count)}
    return sorted(rates)


def check_rates(rates: Iterable[float]) -> None:
    """Refuse what is no rate.

    Raises:
        OptionError: one of them is not from 0 to 1.
    """
    wrong = [rate for rate in rates if not 0 <= rate <= 1]
    if wrong:
        raise OptionError(f"a missing rate is a share from 0 to 1, found {wrong[0]:g}")


def read_corruptions(texts: str | Sequence[str]) -> list[CorruptionRequest]:
    """Corruptions from "image:noise=0.1,text:drop=0..0.5,audio:silence=0.1,0.3".

    A range stands for `RANGE_LEVELS` strengths. What is asked for twice is put together.

    Raises:
        OptionError: the text does not read like this; what the names mean is checked later.

    Example:
        >>> read_corruptions("image:noise=0..0.5,image:blur=1,2")[1]
        CorruptionRequest(modality='image', corruption='blur', strengths=(1.0, 2.0))
    """
    strengths: dict[tuple[str, str], list[float]] = {}
    for text in [texts] if isinstance(texts, str) else texts:
        levels: list[float] | None = None
        for item in text.split(","):
            name, equals, value = item.rpartition("=")
            if equals:
                modality, colon, corruption = (part.strip() for part in name.rpartition(":"))
                if not (modality and colon and corruption):
                    raise OptionError(f"the corruption {item!r} has no MODALITY:CORRUPTION before its strength{_HELP}")
                levels = strengths.setdefault((modality, corruption), [])
            if levels is None:
                raise OptionError(f"the corruption {item!r} has no strength{_HELP}")
            first, last = _bounds(value, f"the strength in {item!r}", '"0.1" or "0..0.5"')
            steps = RANGE_LEVELS - 1 if last > first else 0
            levels += [round(first + (last - first) * index / max(steps, 1), 9) for index in range(steps + 1)]
    return [CorruptionRequest(*names, tuple(levels)) for names, levels in strengths.items()]


_HELP = '; write it as "image:noise=0.1", with further strengths after commas or as a range "image:noise=0..0.5"'


def _bounds(text: str, what: str, usual: str) -> tuple[float, float]:
    """The two ends of a range, or a number twice."""
    first, dots, last = text.partition("..")
    try:
        bounds = float(first), float(last if dots else first)
    except ValueError as error:
        raise OptionError(f"{what} is no number or range of numbers; write {usual}") from error
    if not (all(map(math.isfinite, bounds)) and bounds[0] <= bounds[1]):
        raise OptionError(f"{what} must be finite, and a range must rise; write {usual}")
    return bounds
