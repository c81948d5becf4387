"""A trial in another process: what is sent to it, what it tells on its way and in the end, all as plain data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmreg
from mmreg_tune.trials import Follower, Outcome, run_trial

PRUNE, STOP = "prune", "stop"
"""What a trial may be answered."""
SECONDS = 2.0
"""How often a trial asks, between its epochs, whether it is to stop."""


@dataclass(frozen=True)
class Sent:
    """A trial to be done.

    Attributes:
        number: of the trial.
        params: its values.
        kept: what the study keeps of it, where it was stopped.
        told: the epochs that the study knows already.
    """

    number: int
    params: dict[str, Any]
    kept: dict[str, Any]
    told: Mapping[int, float]


@dataclass(frozen=True)
class Told:
    """What a trial tells on its way, and is answered.

    Attributes:
        number: of the trial.
        epoch: that has ended, if one has.
        value: of the metric after it.
        prune: whether it asks if it is to end early.
        kept: what the study is to keep of it.
        fingerprint: of the table's rows, as it begins.
        note: for whoever is shown how it goes.
    """

    number: int
    epoch: int = 0
    value: float | None = None
    prune: bool = False
    kept: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    note: str = ""


@dataclass(frozen=True)
class Ended:
    """How a trial has ended.

    Attributes:
        outcome: as of one here.
        kept: what the study is to keep of it.
    """

    outcome: Outcome
    kept: Mapping[str, Any]


class Elsewhere:
    """Does trials; it is sent to workers, which see the same files.

    Args:
        searched: the recipe.
        folder: of the trials' runs.
        metric: by which trials are judged.
        device: where to compute.
    """

    def __init__(self, searched: mmreg.SearchedRecipe, folder: Path, metric: str, device: Any) -> None:
        self._searched, self._folder, self._metric, self._device = searched, folder, metric, device
        self._working = Path.cwd()

    def __call__(self, sent: Sent, ask: Callable[[Told], str]) -> Ended | None:
        """How a trial ended; None if it was stopped."""
        stop = mmreg.Stop()
        trial = Away(sent, ask, stop)
        with contextlib.chdir(self._working):  # which paths in the recipe may be relative to
            follower = Follower(trial, trial.check, self._metric, sent.told, Telling(trial), set())
            try:
                outcome = run_trial(
                    self._searched,
                    trial,
                    self._folder / f"{sent.number:04}",
                    follower,
                    device=self._device,
                    stop=stop,
                )
            except mmreg.Stopped:
                return None
        return Ended(outcome, trial.user_attrs)


class Away:
    """Stands for an Optuna trial, which is in the process that searches.

    Args:
        sent: the trial.
        ask: that process.
        stop: wanted, once that process wants it.
    """

    def __init__(self, sent: Sent, ask: Callable[[Told], str], stop: mmreg.Stop) -> None:
        self.params, self.user_attrs = sent.params, dict(sent.kept)
        self._number, self._ask, self._stop = sent.number, ask, stop
        self._asked = time.monotonic()

    def tell(self, **what: Any) -> bool:
        """Tell something; whether the trial is to end early."""
        answer = self._ask(Told(self._number, **what))
        self._asked = time.monotonic()
        self._stop.wanted |= answer == STOP
        return answer == PRUNE

    def tell_at_times(self) -> None:
        """Ask whether to stop, if some time has gone by."""
        if time.monotonic() - self._asked > SECONDS:
            self.tell()

    def check(self, fingerprint: str) -> None:
        """See that the table is that of all trials."""
        self.tell(fingerprint=fingerprint)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep something of it, which is told with the next epoch or in the end."""
        self.user_attrs[key] = value

    def report(self, value: float, step: int) -> None:
        """Tell the metric after an epoch."""
        self.tell(epoch=step, value=value, kept=dict(self.user_attrs))

    def should_prune(self) -> bool:
        """Whether it is to end early, as others have done better after as many epochs."""
        return self.tell(prune=True)


class Telling(mmreg.Callback):
    """Passes on what a training says, and lets it stop between its epochs.

    Args:
        trial: the trial.
    """

    def __init__(self, trial: Away) -> None:
        self._trial = trial

    def on_message(self, text: str) -> None:
        """Pass it on."""
        self._trial.tell(note=text)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """See whether to stop."""
        self._trial.tell_at_times()

    def on_step(self, step: mmreg.Step) -> None:
        """See whether to stop."""
        self._trial.tell_at_times()
