"""The search: trials one after the other, by as many processes as work in its folder, or by an engine's workers."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mmreg
from mmreg import registry
from mmreg.errors import EngineError, OptionError, TableError, TrainingError
from mmreg.files import csv_text, write_text
from mmreg.messages import cell, plural
from mmreg_tune.elsewhere import PRUNE, STOP, Elsewhere, Ended, Sent, Told
from mmreg_tune.importance import importance
from mmreg_tune.locks import taken, waited_for
from mmreg_tune.results import TrialResult, Tuning, table_of
from mmreg_tune.sampling import pruner as made_pruner
from mmreg_tune.sampling import sampler, suggested
from mmreg_tune.storage import LOCK, RESULTS, TRIALS, check_table, claim, require_optuna, study
from mmreg_tune.trials import Follower, Outcome, remove_run, run_trial

if TYPE_CHECKING:
    import optuna

HOPELESS = 5
"""Trials that may fail with none that does not."""
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
"""What Optuna's states are called."""


def tune(
    recipe: mmreg.SearchedRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    trials: int = 20,
    pruner: Literal["hyperband", "median", "none"] = "hyperband",
    overrides: Iterable[str] = (),
    device: Any = None,
    on: mmreg.Engine | str | None = None,
    workers: int | None = None,
    callback: mmreg.Callback | None = None,
    stop: mmreg.Stop | None = None,
) -> Tuning:
    """Search for the values that a recipe leaves open.

    Called again with the same folder, it goes on: with a trial that was stopped, and until there are as many trials as
    asked for. Several processes may do so in one folder at the same time. No trial looks at a test row.

    Args:
        recipe: a `mmreg.SearchedRecipe`, its keys as a dict, or the path of a YAML file.
        out: the folder of the search.
        trials: how many, those that are there already included.
        pruner: what ends trials early that others have done better than: hyperband, median or none.
        overrides: keys of the recipe to change, such as "training.epochs=3".
        device: where to compute; the best one there is if it is not given.
        on: the engine whose workers do the trials, several at a time, such as "ray" or "ray:10.0.0.5:6379"; this
            process does them if it is None.
        workers: trials at a time on an engine; as many as it has CPUs, or GPUs, if it is None.
        callback: who is told how it goes: of notes, of "preparing ..." and "trials" as `on_progress`, and of the steps
            and epochs of each trial; of an engine's trials, of notes and "trials".
        stop: the wish that it end; see `mmreg.train`.

    Returns:
        What it came to; its tables and the best recipe are written into the folder as well.

    Raises:
        RecipeError: the recipe is wrong somewhere in its ranges; names every problem.
        TableError, TargetError, DataError: the data are wrong, or there are no validation rows.
        RunError: `out` holds something else, or the search of another recipe.
        TrainingError: no trial has finished, or the first five have all failed; says why.
        EngineError: the engine's workers cannot be reached, or it only maps.
        Stopped: `stop` was wanted; the same call goes on.
    """
    if trials < 1:
        raise OptionError(f"there must be at least 1 trial, found {trials}")
    if workers is not None and (on is None or workers < 1):
        raise OptionError("workers must be at least 1, and belong to an engine: name it, as by --on ray")
    require_optuna()
    engine = registry.engine(on) if isinstance(on, str) else on
    folder = Path(out)
    searched = mmreg.SearchedRecipe.read(recipe, overrides)
    facts = mmreg.validate(searched, device=device)
    if not facts["rows"]["validation"]:
        remedy = "give the table such rows, or a split with a validation share"
        if facts["recipe"]["training"]["refit"]:
            remedy = "leave out training.refit, by which they are learned from, until the best recipe is found"
        raise TableError(f"trials are judged by validation rows, and there are none; {remedy}")
    made = made_pruner(pruner, facts["epochs"])
    claim(folder)
    with study(folder, searched, facts, made) as opened:
        search = Search(folder, searched, facts, opened, trials, callback or mmreg.Callback())
        if engine is None:
            search.run(stop or mmreg.Stop(), device)
        else:
            search.run_elsewhere(engine, workers, stop or mmreg.Stop(), device)
        return search.result()


class Search:
    """A search under way in this process.

    Args:
        folder: its folder.
        searched: the recipe.
        facts: what `mmreg.validate` says of it.
        study: Optuna's.
        trials: how many there are to be.
        show: who is told how it goes.
    """

    def __init__(
        self,
        folder: Path,
        searched: mmreg.SearchedRecipe,
        facts: Mapping[str, Any],
        study: optuna.Study,
        trials: int,
        show: mmreg.Callback,
    ) -> None:
        self.folder, self.searched, self.study, self.trials, self.show = folder, searched, study, trials, show
        self.metric, self.more_is_better = facts["metric"], facts["more_is_better"]
        self.seed = int(facts["recipe"]["training"]["seed"])

    def run(self, stop: mmreg.Stop, device: Any) -> None:
        """Do trials until there are enough."""
        notes: set[str] = set()
        while True:
            if stop.wanted:
                raise mmreg.Stopped("stopped between two trials")
            with self._next_trial() as trial:
                if trial is None:
                    return
                self._tell(f"trial {trial.number}: {_spelled(trial.params)}")
                check = partial(check_table, self.study)
                follower = Follower(trial, check, self.metric, self._told(trial), self.show, notes)
                folder = self._run_folder(trial.number)
                self._end(trial, run_trial(self.searched, trial, folder, follower, device=device, stop=stop))

    def run_elsewhere(self, engine: mmreg.Engine, workers: int | None, stop: mmreg.Stop, device: Any) -> None:
        """Let an engine's workers do trials, several at a time, until there are enough.

        What a trial comes to is told to the study here, where it is also seen whether it is to end early.
        """
        under_way: dict[int, tuple[optuna.trial.Trial, int]] = {}
        notes: set[str] = set()

        def drawn() -> Iterator[Sent]:
            while not stop.wanted:
                with waited_for(self.folder / LOCK):
                    found = self._stopped_or_new(under_way)
                if found is None:
                    return
                trial, _ = under_way[found[0].number] = found
                self._tell(f"trial {trial.number}: {_spelled(trial.params)}")
                yield Sent(trial.number, trial.params, trial.user_attrs, self._told(trial))

        def answer(message: Told) -> str:
            if message.number not in under_way:  # of a worker that was taken for dead
                return STOP
            trial, _ = under_way[message.number]
            if message.note and message.note not in notes:
                notes.add(message.note)
                self.show.on_message(message.note)
            if message.fingerprint:
                check_table(self.study, message.fingerprint)
            for key, value in message.kept.items():
                trial.set_user_attr(key, value)
            if message.value is not None and message.epoch not in self._told(trial):  # by a worker that died since
                trial.report(message.value, message.epoch)
            if stop.wanted:
                return STOP
            return PRUNE if message.prune and trial.should_prune() else ""

        work = Elsewhere(self.searched, self.folder.absolute() / TRIALS, self.metric, device)
        accelerator = str(device or "auto").partition(":")[0] != "cpu"
        results = registry.converse_elsewhere(engine, work, drawn(), answer, workers=workers, accelerator=accelerator)
        try:
            with stop.heeding("stopped between two trials"), closing(results):
                for sent, result in results:
                    trial, descriptor = under_way[sent.number]
                    if result is not None:  # else it was stopped
                        self._end(trial, _outcome(trial, result))
                    del under_way[sent.number]
                    os.close(descriptor)
        finally:
            for _, descriptor in under_way.values():
                os.close(descriptor)

    def result(self) -> Tuning:
        """What it came to so far, written into the folder.

        Raises:
            TrainingError: no trial has finished.
        """
        frozen = self.study.get_trials(deepcopy=False)
        finished = [trial for trial in frozen if trial.state.name == "COMPLETE"]
        if not finished:
            raise self._failure(f"no trial of {len(frozen)} has finished", frozen)
        best = self.study.best_trial
        recipe = self.searched.at(lambda key, _: best.params[key])
        keys, results = list(self.searched.ranges), [_result(trial) for trial in frozen]
        tuning = Tuning(self.folder, self.metric, self.more_is_better, results, importance(self.study), recipe, keys)
        with waited_for(self.folder / LOCK):
            tuning.write()
        return tuning

    def _failure(self, told: str, frozen: Sequence[optuna.trial.FrozenTrial]) -> TrainingError:
        """What to raise where no trial is any good; each one and its reason are written into the folder."""
        table = table_of([_result(trial) for trial in frozen], self.metric, list(self.searched.ranges))
        write_text(self.folder / RESULTS, csv_text(table))
        return TrainingError(f"{told}{_reasons(frozen)}\n(see {self.folder / RESULTS})")

    @contextmanager
    def _next_trial(self) -> Iterator[optuna.trial.Trial | None]:
        """A trial that this process has for itself: one that was stopped, or a new one; None if there are enough."""
        with waited_for(self.folder / LOCK):
            found = self._stopped_or_new()
        if found is None:
            yield None
            return
        trial, descriptor = found
        try:
            yield trial
        finally:
            os.close(descriptor)

    def _stopped_or_new(self, under_way: Container[int] | None = None) -> tuple[optuna.trial.Trial, int] | None:
        """A trial, with its lock's descriptor; `under_way` are those of this process, if it has several at once."""
        import optuna

        at_once = under_way is not None
        frozen = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in frozen if trial.state.name != "RUNNING"]
        if len(ended) >= HOPELESS and all(trial.state.name == "FAIL" for trial in ended):
            raise self._failure(f"all {len(ended)} trials so far have failed", frozen)
        for trial in frozen:
            if trial.state.name != "RUNNING" or trial.number in (under_way or ()):
                continue
            if (descriptor := taken(self._lock(trial.number))) is not None:
                self.study.sampler = sampler(self.seed, trial.number, at_once)
                # The trial itself, under its number: its epochs, and its run, are gone on with.
                return self._drawn(optuna.trial.Trial(self.study, trial._trial_id)), descriptor
        if len(frozen) >= self.trials:
            return None
        descriptor = taken(self._lock(len(frozen)))
        assert descriptor is not None  # whoever has a trial's lock has asked for the trial before, under the study's
        self.study.sampler = sampler(self.seed, len(frozen), at_once)
        return self._drawn(self.study.ask()), descriptor

    def _drawn(self, trial: optuna.trial.Trial) -> optuna.trial.Trial:
        """A trial with all its values, so that the next one, of another process, is drawn knowing them."""
        self.searched.at(partial(suggested, trial))
        return trial

    def _end(self, trial: optuna.trial.Trial, outcome: Outcome) -> None:
        """Tell the study how a trial has ended, and keep the run of the best one alone."""
        import optuna

        with waited_for(self.folder / LOCK):
            if outcome.reason:
                trial.set_user_attr("reason", outcome.reason)
            state = optuna.trial.TrialState[outcome.state]
            self.study.tell(trial, outcome.value if outcome.state == "COMPLETE" else None, state)
            frozen = self.study.get_trials(deepcopy=False)
            finished = [each.number for each in frozen if each.state.name == "COMPLETE"]
            best = self.study.best_trial.number if finished else None
            for each in frozen:
                if each.state.name != "RUNNING" and each.number != best:
                    remove_run(self._run_folder(each.number))
            self._lock(trial.number).unlink(missing_ok=True)
        figure = "" if outcome.value is None else f", validation {self.metric} {cell(outcome.value)}"
        ended = f"trial {trial.number} {STATES[outcome.state]}{figure}{f': {outcome.reason}' if outcome.reason else ''}"
        self._tell(f"{ended}{'; the best so far' if best == trial.number else ''}")

    def _told(self, trial: optuna.trial.Trial) -> dict[int, float]:
        """What the study knows of a trial's epochs."""
        return self.study.get_trials(deepcopy=False)[trial.number].intermediate_values

    def _tell(self, note: str) -> None:
        states = [each.state.name for each in self.study.get_trials(deepcopy=False)]
        ended = len(states) - states.count("RUNNING")
        self.show.on_progress("trials", ended, max(self.trials, len(states)), note)

    def _run_folder(self, number: int) -> Path:
        return self.folder / TRIALS / f"{number:04}"

    def _lock(self, number: int) -> Path:
        return self.folder / TRIALS / f"{number:04}.lock"


def _outcome(trial: optuna.trial.Trial, result: Ended | EngineError) -> Outcome:
    """How a trial elsewhere has ended."""
    if isinstance(result, EngineError):
        return Outcome("FAIL", reason=str(result))
    for key, value in result.kept.items():
        trial.set_user_attr(key, value)
    return result.outcome


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    facts = trial.user_attrs
    reported = list(trial.intermediate_values.values())
    return TrialResult(
        number=trial.number,
        state=STATES[trial.state.name],
        value=trial.value if trial.state.name == "COMPLETE" else reported[-1] if reported else None,
        values=dict(trial.params),
        epochs=facts.get("epochs"),
        best_epoch=facts.get("best_epoch"),
        seconds=facts.get("seconds"),
        reason=facts.get("reason", ""),
    )


def _reasons(frozen: Iterable[optuna.trial.FrozenTrial]) -> str:
    reasons: dict[str, list[int]] = {}
    for trial in frozen:
        if "reason" in trial.user_attrs:
            reasons.setdefault(trial.user_attrs["reason"], []).append(trial.number)
    lines = [f"\n  {plural(len(of), 'trial')}, first {of[0]}: {reason}" for reason, of in reasons.items()]
    return "".join(lines)


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={cell(value)}" for key, value in values.items())
