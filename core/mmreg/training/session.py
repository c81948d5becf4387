"""One training, step by step: prepare, train, keep the best weights, fit what is fitted last, measure."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmreg import runs
from mmreg.contract.spec import specs_text
from mmreg.data.cache import cache_dir
from mmreg.data.prepared import SHOWN, bad_texts, fit_arrays, keep_rows, rows_with_fewer
from mmreg.errors import RunError, TableError, TrainingError
from mmreg.experiment import Experiment, prepare_all, true_targets
from mmreg.files import csv_text, write_json
from mmreg.messages import plural, without_modality, without_pair
from mmreg.model.devices import resolve_precision
from mmreg.model.model import MultimodalModel
from mmreg.regions import region
from mmreg.runs import Run
from mmreg.runs.followers import Followers
from mmreg.training.batch_size import find_batch_size
from mmreg.training.checkpoint import FROZEN_WEIGHTS, TRAINING, forget_earlier, load_checkpoint
from mmreg.training.encode_once import encode_once
from mmreg.training.fitting import fit_fusions, fit_task, hold_fitted, take_fitted
from mmreg.training.given import Given
from mmreg.training.held_weights import HeldWeights
from mmreg.training.loop import Trainer
from mmreg.training.nonfinite import NonFiniteError
from mmreg.training.parameters import count_trained
from mmreg.training.peers import Peers, check_same
from mmreg.training.resuming import Resumption, check_values, identity
from mmreg.training.rows import TrainingRows
from mmreg.training.saving import Kept, Saver
from mmreg.training.soup import Soup
from mmreg.training.stopping import Stop, Stopped
from mmreg.training.validation_rows import check_validation

KEEP, STOP = 1, 2
"""What processes agree upon between two steps; what is more includes what is less."""


class Session:
    """One training; its steps in order.

    Args:
        folder: the run's, held for writing.
        experiment: what is worked on.
        device: where to compute.
        followers: who is told of events.
        resumption: what is gone on with; None for a new training.
        stop: the wish that it end.
        check: raises where the folder is no longer the one that is held.
        test: whether the test rows are measured at the end.
        peers: the processes that train together, of which the first one alone writes.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        device: torch.device,
        followers: Followers,
        resumption: Resumption | None = None,
        stop: Stop | None = None,
        check: Callable[[], None] = lambda: None,
        test: bool = True,
        peers: Peers | None = None,
    ) -> None:
        self.peers = peers or Peers()
        self.folder, self.experiment, self.device, self.followers = folder, experiment, device, followers
        self.resumption, self.stop, self.check = resumption, stop or Stop(), check
        self.measured = ("validation", "test") if test else ("validation",)
        self.plan = experiment.plan
        self.form = experiment.plan.recipe.form
        self.earlier = experiment.plan.recipe.refitted_run()
        self.refitted = ""  # the fingerprint of the table of that run
        self.notes: list[str] = []
        self.held = HeldWeights(folder, self.plan, self._note)
        self.holds_best = False  # whether the model has better weights than those that were kept as the best
        self.needs_earlier = False  # whether the state before the last one is the one that can be gone on from

    def run(self) -> Run | None:
        """Do all of it; the run has the best weights. None for a process that does not lead."""
        experiment, resumption = self.experiment, self.resumption
        for text in experiment.messages:
            self._note(text)
        self.fingerprint = experiment.table.fingerprint()
        self.identity = identity(self.plan, self.fingerprint)
        self.split_fingerprint = experiment.split_fingerprint()  # before rows with bad cells are left out
        if resumption is not None and resumption.facts["table"]["fingerprint"] != self.fingerprint:
            raise RunError(f"{experiment.table.name} has changed since the run in {str(self.folder)!r} was started")
        self._check_peers()
        with region("preparing"), self.peers.in_turn():
            self.prepared = prepare_all(
                self.plan, experiment.table, experiment.modalities, cache_dir(), self.followers.preparing
            )
        experiment.hide_lost(self.prepared)
        if resumption is not None:
            check_values(self.folder, resumption, self.prepared)
        self._drop_skipped()
        if resumption is None:
            fit_arrays(self.prepared, experiment.learning, experiment.splits["train"])
        states = None if resumption is None else resumption.restoring.states()
        model = experiment.build_model(states)
        self._take_fitted(model)
        model.to(self.peers.place(self.device))
        check_same(self.peers, {f"prepared {name}": values.contents for name, values in self.prepared.items()})
        with self.peers.in_turn():
            self.given = self._encode_once(model)
        self.batch_size = self._batch_size(model)
        trainer = self._trainer(model)
        if not self.peers.leads:
            del model  # which is not what it trains, where weights are shared out
            self._follow(trainer)
            return None
        if resumption is None:
            self._start_folder(model)
        else:
            self._go_on(resumption, trainer)
        self.held.keep_frozen(model)
        run = Run(
            self.folder,
            self.plan,
            experiment.modalities,
            experiment.task,
            model,
            self.fingerprint,
            self.device,
            split_fingerprint=self.split_fingerprint,
            batch_size=self.batch_size,
        )
        self.followers.tell("on_start", run, self._facts(model, trainer))
        with self.stop.heeding():
            self._train(trainer, run)
        soup = self.held.settle(model, trainer, self.holds_best)
        values, held_out = self.given.in_place(self.prepared), experiment.splits["validation"]
        if self.earlier is None:
            fit_fusions(run, values, held_out, experiment.targets, experiment.task, self._note)
        with region("evaluation"):
            fit_task(run, values, experiment.splits["train"], experiment.targets)
            report = self._report(run, trainer, soup)
        runs.write_weights(self.folder / runs.WEIGHTS, runs.kept_weights(self.plan, model))
        write_json(self.folder / runs.REPORT, report)  # last, as it says that all else is there
        if not (trainer.out_of_time or self.needs_earlier):
            forget_earlier(self.folder)
        self.followers.tell("on_end", run, report)
        return run

    def _drop_skipped(self) -> None:
        """Leave out rows with bad cells where that is the policy, and say what was lost, cut or is empty."""
        for text in bad_texts(self.prepared.values()):
            self._note(text)
        for name, values in self.prepared.items():
            if values.offsets is not None and len(values.offsets) > 1:
                for text in self.experiment.modalities[name].notes(np.diff(values.offsets)):
                    self._note(f"{name}: {text}")
        for split, rows in self.experiment.splits.items():
            self.experiment.splits[split] = rows = keep_rows(self.prepared, rows)
            needed, told = (1, without_modality) if self.experiment.task.needs_target else (2, without_pair)
            lacking = rows_with_fewer(self.prepared, rows, needed) if len(rows) else 0
            if lacking:
                self._note(told(lacking, f"{split} row"))
        train = self.experiment.splits["train"]
        if not len(train):
            raise TableError("no training row is left after rows with bad cells were left out")
        if not self.experiment.task.needs_target and len(train) - rows_with_fewer(self.prepared, train, 2) < 2:
            raise TableError("there are no two training rows with two modalities or more, of which it could learn")
        check_validation(self.plan, self.experiment)

    def _note(self, text: str) -> None:
        """Say something that a person should know, and keep it for the report."""
        self.notes.append(text)
        self.followers.message(text)

    def _take_fitted(self, model: MultimodalModel) -> None:
        """Take over the operators that were fitted in the run that is refitted; one that goes on has them already."""
        if self.earlier is None:
            return
        if self.resumption is None:
            take_fitted(model, self.earlier)
            self.refitted = runs.read_facts(self.earlier)["table"]["fingerprint"]
        else:
            self.refitted = self.resumption.facts["table"].get("refitted", self.fingerprint)
        if self.refitted != self.fingerprint:
            self._note(
                f"{self.experiment.table.name} is not as it was when {self.earlier} was trained: rows that it "
                "learned from, or was chosen by, may be test rows now; do not compare figures with its own"
            )
        for name in hold_fitted(model):
            self._note(f"{name} is as it was fitted in {self.earlier}")

    def _encode_once(self, model: MultimodalModel) -> Given:
        """What the encoders that stay as they are give, so that no step has to compute it."""
        frozen = [name for name, given in self.plan.inputs.items() if given.is_frozen]
        if not frozen:
            return Given()
        if self.resumption is not None:  # what it was restored from has no weights
            load_checkpoint(self.folder, model.parts(), self.identity, self.held.loading_all(model))
            runs.check_references(self.folder, self.resumption.facts, model)
        dtype = resolve_precision(self.form.training.precision, self.device)
        for name in frozen:
            model.encoder_of(name).to(self.device)
        with region("preparing"):
            given = encode_once(
                self.plan,
                model,
                self.experiment.modalities,
                self.prepared,
                self.experiment.splits["train"],
                self.device,
                dtype,
                cache_dir(),
                self.followers.preparing,
                self._note,
            )
        model.to(self.peers.place(self.device))
        return given

    def _batch_size(self, model: MultimodalModel) -> int | None:
        """The rows a batch where the recipe leaves them open: found now, or when the training that goes on began."""
        if self.form.training.batch_size != "auto":
            return None
        if self.resumption is not None:
            return int(self.resumption.facts["batch_size"])
        dtype = resolve_precision(self.form.training.precision, self.device)
        parts = self.plan, model, self.experiment.modalities, self._rows(), self.device, dtype
        return self.peers.size * self.peers.from_first(lambda: find_batch_size(*parts))

    def _rows(self) -> TrainingRows:
        experiment, splits = self.experiment, self.experiment.splits
        return TrainingRows(
            self.prepared,
            experiment.targets,
            experiment.weights,
            splits["train"],
            splits["validation"],
            lambda numbers: runs.row_keys(self.plan, experiment.table, numbers)[1],
            self.given,
        )

    def _trainer(self, model: MultimodalModel) -> Trainer:
        dtype = resolve_precision(self.form.training.precision, self.device)
        on_step = partial(self.followers.tell, "on_step")
        on_gradients = partial(self.followers.tell, "on_gradients") if self.followers.has("on_gradients") else None
        return Trainer(
            self.plan,
            model,
            self.experiment.modalities,
            self._rows(),
            self.device,
            dtype,
            on_step,
            self.batch_size,
            on_gradients=on_gradients,
            tell=self._note,
            peers=self.peers,
        )

    def _check_peers(self) -> None:
        """Refuse processes that are not about the same training, before they prepare anything."""
        check_same(
            self.peers,
            {
                "version of mmreg": version("mmreg"),
                "version of torch": torch.__version__,
                "recipe": self.identity,
                "table": self.fingerprint,
                "split": self.split_fingerprint,
            },
        )

    def _follow(self, trainer: Trainer) -> None:
        """Take the steps that the leading process takes, and write nothing."""
        if self.resumption is not None:
            load_checkpoint(self.folder, list(trainer.model.parts()), self.identity, trainer.load_state)
            trainer.progress.finished |= self.resumption.finishes
        trainer.progress.best = self.peers.from_first(lambda: None)
        trainer.between_steps = partial(self._heed, trainer)
        with self.stop.heeding():  # all of them are told, and end after the same step
            for _, _, improved in trainer.epochs():
                self._kept(trainer, [], improved)  # of which this process may have a share

    def _go_on(self, resumption: Resumption, trainer: Trainer) -> None:
        """Take up a training where its last checkpoint left it."""
        for text in resumption.accepted:
            self._note(f"gone on with although it has changed: {text}")
        resumption.restoring.tell_versions()
        state, note = load_checkpoint(self.folder, list(trainer.model.parts()), self.identity, trainer.load_state)
        if note:
            self._note(note)
            self.needs_earlier = True
        for text in resumption.extends:
            self.followers.message(text)
        self.held.find_best(trainer.progress, state)
        done, steps = trainer.progress.epoch, trainer.progress.step
        if resumption.extends and (done > self.form.training.epochs or steps > trainer.steps):
            raise RunError(
                f"{plural(steps, 'step')} of the run in {str(self.folder)!r} are done already ({done} whole epochs), "
                f"more than the {trainer.steps:,} ({plural(self.form.training.epochs, 'epoch')}) that the recipe asks "
                "for now"
            )
        if resumption.finishes:
            trainer.progress.finished = True
        if not trainer.progress.finished:
            runs.mark_continued(self.folder)
        if resumption.accepted or resumption.extends:
            self._write_facts(trainer.model)

    def _start_folder(self, model: MultimodalModel) -> None:
        """An empty folder with the run's facts; what an earlier run left there goes."""
        runs.keep_assets(self.folder, self.plan)
        runs.clear(self.folder)
        runs.own_folder(self.folder, runs.CHECKPOINTS)
        self._write_facts(model)

    def _write_facts(self, model: MultimodalModel) -> None:
        experiment = self.experiment
        table = {
            "name": experiment.table.name,
            "fingerprint": self.fingerprint,
            "rows": {split: len(numbers) for split, numbers in experiment.splits.items()},
            "values": {name: values.contents for name, values in self.prepared.items()},
            "split": self.split_fingerprint,
        }
        if self.refitted:
            table["refitted"] = self.refitted
        runs.write_facts(self.folder, self.plan, experiment.modalities, experiment.task, model, table, self.batch_size)

    def _train(self, trainer: Trainer, run: Run) -> None:
        done, step = trainer.progress.epoch, trainer.progress.step  # what follows, a training that goes on repeats
        timings: list[dict[str, Any]] = [row for row in runs.read_timings(self.folder) if int(row["epoch"]) <= done]
        weights = {name for name, _ in run.model.named_parameters()}
        known = {TRAINING: self.identity, FROZEN_WEIGHTS: runs.told_checksum(self.folder / runs.FROZEN)}
        saver = Saver(self.folder, self.form.training.checkpoint, step, weights, self.check, known, self.held.best)
        trainer.between_steps = partial(self._between_steps, trainer, saver)
        self.peers.from_first(lambda: trainer.progress.best)  # once they have read what is written from here on
        try:
            with saver:
                if self.resumption is not None:  # the tables may be of a later state, which is damaged
                    saver.save(self._tables(trainer, timings), step)
                for epoch, timing, improved in trainer.epochs():
                    timings.append(timing)
                    with region("checkpoint"):
                        saver.save(self._kept(trainer, timings, improved), trainer.progress.step)
                    self.followers.tell("on_epoch_end", run, epoch)
        except NonFiniteError as error:
            kept = f"; the checkpoint of step {saver.kept:,} is kept" if saver.kept else ""
            raise TrainingError(f"{error}{kept}") from error
        if saver.kept > step:
            self.needs_earlier = False
        if trainer.ended_early:
            self._note(
                f"ended after epoch {trainer.progress.epoch} of {self.form.training.epochs}, as early_stopping says: "
                f"{plural(trainer.progress.stale, 'epoch')} without a better validation {trainer.metric}"
            )
        if trainer.out_of_time:
            within = f" (step {trainer.progress.step:,} of {trainer.steps:,})" if trainer.within_epoch else ""
            self._note(
                f"ended in epoch {trainer.progress.epoch} of {self.form.training.epochs}{within}, as max_minutes: "
                f"{self.form.training.max_minutes:g} says; go on by --resume"
            )
        if trainer.watch.skipped:
            self._note(f"{plural(trainer.watch.skipped, 'step')} with a loss or gradient that is not finite: left out")

    def _kept(self, trainer: Trainer, timings: list[dict[str, Any]], improved: bool) -> Kept:
        """What is to be kept of an epoch."""
        kept = self._tables(trainer, timings)
        if trainer.within_epoch:  # of which a training that goes on is to know nothing
            self.holds_best = improved
            return kept
        if self.form.training.keep == "soup":
            best, before = (trainer.best_epochs(trainer.progress.history[:end]) for end in (None, -1))
            state = {trainer.progress.epoch: trainer.weights()} if trainer.progress.epoch in best else None
            # An earlier checkpoint, which is gone on with where the last one is damaged, speaks of those before.
            kept = replace(kept, epochs=state, wanted=(*best, *before))
        best_weights = trainer.weights() if improved else None
        return replace(kept, best=best_weights, state=trainer.state())

    def _tables(self, trainer: Trainer, timings: list[dict[str, Any]]) -> Kept:
        metrics = csv_text(each.row() for each in trainer.progress.history)
        return Kept(metrics=metrics, timings=csv_text(timings))

    def _between_steps(self, trainer: Trainer, saver: Saver) -> None:
        """Keep the training if it is time to, and end it if that is wished."""
        saver.raise_failure()
        step = trainer.progress.step
        due = saver.is_due(step) or (trainer.out_of_time and step != saver.step)
        wish = self._agreed(due)
        if wish:
            with region("checkpoint"):
                state = trainer.state()
                if due or step != saver.step:
                    saver.save(Kept(state=state), step)
        if wish == STOP:
            raise _stopped(trainer)

    def _heed(self, trainer: Trainer) -> None:
        """Give what this process has of a training that another one keeps, and end it, if that is wished."""
        wish = self._agreed(False)
        if wish:
            trainer.state()
        if wish == STOP:
            raise _stopped(trainer)

    def _agreed(self, due: bool) -> int:
        """What all processes do between two steps: nothing, `KEEP` the training, or keep it and `STOP`."""
        return self.peers.most(STOP if self.stop.wanted else KEEP if due else 0)

    def _report(self, run: Run, trainer: Trainer, soup: Soup | None) -> dict[str, Any]:
        """Measure the kept weights on validation rows, and test rows if asked to; write predictions, give figures."""
        experiment, values = self.experiment, self.given.in_place(self.prepared)
        report: dict[str, Any] = {
            "epochs": trainer.progress.epoch,
            "steps": trainer.progress.step,
            "batch_size": trainer.options.batch_rows,
        }
        report["bad_cells"] = {
            name: {"count": len(part.bad), "on_bad": part.on_bad, "first": [str(cell) for cell in part.bad[:SHOWN]]}
            for name, part in self.prepared.items()
            if part.bad
        }
        report["notes"] = self.notes
        if trainer.progress.best is not None and self.form.training.keep == "best":
            report["best"] = {
                "metric": trainer.metric,
                "value": trainer.progress.best[0],
                "epoch": trainer.progress.best[1],
            }
        if soup is not None:
            report["soup"] = {"metric": trainer.metric, "value": soup.value, "epochs": list(soup.epochs)}
        for split in self.measured:
            rows = experiment.splits[split]
            if not len(rows):
                continue
            predicted = run.predict_rows(values, rows)
            columns = runs.prediction_columns(
                self.plan, experiment.task, experiment.table, self.prepared, rows, predicted
            )
            true = true_targets(self.plan, experiment.table, rows)
            report[split] = runs.report_split(self.folder, self.plan, experiment.task, split, columns, true, predicted)
            self.followers.tell("on_evaluation", run, split, report[split])
        return report

    def _facts(self, model: MultimodalModel, trainer: Trainer) -> dict[str, Any]:
        """What a follower may want to know at the start."""
        return {
            "out": os.fspath(self.folder),
            "device": str(self.device),
            "precision": str(trainer.dtype).removeprefix("torch."),
            "rows": {split: len(rows) for split, rows in self.experiment.splits.items()},
            "parameters": count_trained(model, self.plan),
            "modalities": {name: specs_text(spec) for name, spec in self.experiment.specs.items()},
            "batch_size": trainer.options.batch_rows,
            "buckets": trainer.lengths is not None,
            "epochs": self.form.training.last_epoch,
            "steps": trainer.steps,
            "metric": trainer.metric,
            "resumed_after_epoch": trainer.progress.epoch,
            "resumed_after_step": trainer.progress.step,
            "resumed_within_epoch": trainer.position is not None,
            "processes": self.peers.size,
        }


def _stopped(trainer: Trainer) -> Stopped:
    """What ends a training between two steps."""
    step, epoch = trainer.progress.step, trainer.progress.epoch + 1
    return Stopped(f"stopped after step {step:,} of {trainer.steps:,}, in epoch {epoch}", step, epoch)
