"""How long a training will take, told from its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from mmreg.contract.callback import Step
from mmreg.messages import duration

MEASURED = 3.0
"""Seconds of steps from which the rest is told."""
FIRST_STEPS = 3
"""Steps that are passed over, as they warm up what the others find warm."""
MEASURING = 0.4
"""What a row takes when it is only predicted, as a share of what it takes in training."""
LONG = 300.0
"""Seconds from which a shorter training is offered."""


class Pace:
    """What the first steps say of the whole training.

    Args:
        facts: as `Callback.on_start` gets them.
        max_minutes: the recipe's.
        clock: gives seconds.
    """

    def __init__(
        self, facts: Mapping[str, Any], max_minutes: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        rows = facts["rows"]
        self._measured_rows = rows.get("validation", 0), rows.get("test", 0)
        self._epochs = max(1, facts["epochs"] - facts["resumed_after_epoch"])
        self._max_minutes = max_minutes
        self._clock = clock
        self._steps = self._rows = 0
        self._began = 0.0
        self.told = False

    def estimate(self, step: Step) -> str:
        """About how long the rest will take, once enough is known to say it; empty before, and ever after."""
        self._steps += 1
        if self.told or self._steps < FIRST_STEPS:
            return ""
        now = self._clock()
        if self._steps == FIRST_STEPS:
            self._began = now
            return ""
        self._rows += step.rows
        if now - self._began < MEASURED:
            return ""
        self.told = True
        each = (now - self._began) / self._rows
        training = (step.steps - step.step) * step.rows
        validation, test = self._measured_rows
        seconds = each * (training + MEASURING * (validation * (self._epochs + 1) + test))
        text = f"about {duration(seconds)} from here"
        if self._max_minutes is not None and 60 * self._max_minutes < seconds:
            return f"{text}; max_minutes: {self._max_minutes:g} ends it before"
        if self._max_minutes is None and seconds > LONG:
            return f"{text}; --max-minutes {max(1, round(seconds / 240))} stops there with the best weights"
        return text
