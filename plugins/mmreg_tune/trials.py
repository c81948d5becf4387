"""One trial: a training with the values that are drawn for it, its epochs told to the study."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import mmreg
from mmreg.errors import DataError, RunError, TableError, TargetError
from mmreg.messages import one_line

ENDS_ALL = (TableError, TargetError, DataError, RunError, OSError)
"""Errors of the table, the disk or the folder: the next trial would meet them as well."""


class Trial(Protocol):
    """What a training needs of a trial: an `optuna.trial.Trial`, or what stands for it in another process."""

    @property
    def params(self) -> dict[str, Any]:
        """Its values, which are drawn already."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What is kept of it."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep something of it."""

    def report(self, value: float, step: int) -> None:
        """Tell the metric after an epoch."""

    def should_prune(self) -> bool:
        """Whether it is to end early, as others have done better after as many epochs."""


class Pruned(Exception):
    """The trial has ended early."""


class NothingMeasuredError(mmreg.MmregError, RuntimeError):
    """A training that ended before anything was measured on the validation rows."""

    exit_code = 1


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: "COMPLETE", "PRUNED" or "FAIL", as Optuna calls it.
        value: of the metric.
        reason: why it failed.
    """

    state: str
    value: float | None = None
    reason: str = ""


class Follower(mmreg.Callback):
    """Tells the study what each epoch of a trial came to, and ends the trial where the study says so.

    Args:
        trial: the trial.
        check: sees that the rows of the table, whose fingerprint it gets, are those of all trials.
        metric: by which trials are judged.
        told: the epochs that the study knows already, of a trial that was stopped.
        show: who is shown how it goes.
        notes: what was said in trials so far: each text is said once.

    Attributes:
        value: of the metric after the last epoch.
    """

    def __init__(
        self,
        trial: Trial,
        check: Callable[[str], object],
        metric: str,
        told: Mapping[int, float],
        show: mmreg.Callback,
        notes: set[str],
    ) -> None:
        self.value: float | None = list(told.values())[-1] if told else None
        self._epochs = 0
        self._trial, self._check, self._metric, self._told = trial, check, metric, set(told)
        self._show, self._notes = show, notes

    def on_message(self, text: str) -> None:
        """Pass on what was not said yet."""
        if text not in self._notes:
            self._notes.add(text)
            self._show.on_message(text)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Pass it on."""
        self._show.on_progress(what, done, total, note)

    def on_start(self, run: Any, facts: Mapping[str, Any]) -> None:
        """See that the table is that of all trials."""
        self._epochs = facts["epochs"]
        self._check(run.fingerprint)
        self._show.on_start(run, facts)

    def on_step(self, step: mmreg.Step) -> None:
        """Pass it on."""
        self._show.on_step(step)

    def on_epoch_end(self, run: Any, epoch: mmreg.Epoch) -> None:
        """Tell the study."""
        self.value = value = epoch.get("validation", self._metric)
        self._show.on_epoch_end(run, epoch)
        self._trial.set_user_attr("epochs", epoch.number)
        if value is None:
            return
        if epoch.number not in self._told:
            self._trial.report(value, epoch.number)
        if epoch.number < self._epochs and self._trial.should_prune():  # after the last there is nothing to be saved
            raise Pruned


def run_trial(
    searched: mmreg.SearchedRecipe,
    trial: Trial,
    folder: Path,
    follower: Follower,
    **options: Any,
) -> Outcome:
    """Train with a trial's values, or go on with that, and say what came of it.

    Args:
        searched: the recipe.
        trial: its values are drawn already.
        folder: of its run.
        follower: of this trial.
        options: further arguments of `mmreg.train`.

    Raises:
        Stopped: that was wanted; the trial can be gone on with.
        TableError, TargetError, DataError, RunError, OSError: what all trials would meet.
    """
    failed = ""
    with _timed(trial):
        try:
            recipe = searched.at(lambda key, _: trial.params[key])
            train = partial(mmreg.train, recipe, folder, callback=follower, test=False, **options)
            try:
                run = train(resume=True)
            except RunError:
                if not folder.exists():
                    raise
                run = train(overwrite=True)  # of another version of something, or damaged
            return _finished(trial, run.report, follower.value)
        except Pruned:
            return Outcome("PRUNED", follower.value)
        except ENDS_ALL:
            raise
        except Exception as error:  # whatever these values lead to, others may not
            failed = one_line(error)
    _free_memory()
    return Outcome("FAIL", reason=failed)


def _finished(trial: Trial, report: Mapping[str, Any], last: float | None) -> Outcome:
    """A training that has ended by itself: judged by the weights that it keeps."""
    best = report.get("best")
    if best is not None:
        trial.set_user_attr("best_epoch", best["epoch"])
    value = (best or report.get("soup") or {"value": last})["value"]
    if value is None:
        raise NothingMeasuredError("nothing was measured on the validation rows; give the training more time")
    return Outcome("COMPLETE", float(value))


@contextmanager
def _timed(trial: Trial) -> Iterator[None]:
    """Keep how long a trial takes, also one that is gone on with."""
    begun, before = time.perf_counter(), float(trial.user_attrs.get("seconds", 0))
    try:
        yield
    finally:
        trial.set_user_attr("seconds", before + time.perf_counter() - begun)


def _free_memory() -> None:
    """Give back what a training that failed has held, as it may have failed for lack of memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def remove_run(folder: Path) -> None:
    """Remove the run of a trial that is not the best."""
    if folder.is_dir() and not os.path.islink(folder):  # noqa: PTH114 (one question about one path)
        shutil.rmtree(folder, ignore_errors=True)
