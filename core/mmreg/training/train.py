"""A training from recipe to run folder: prepare, train, keep the best weights, fit what is fitted last, measure."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.contract.spec import specs_text
from mmreg.data.cache import cache_dir
from mmreg.data.prepared import SHOWN, fit_arrays, keep_rows, prior_rows
from mmreg.errors import RunError, TableError, ValidationRowsError
from mmreg.experiment import Experiment, checked_plan, open_experiment, prepare_all
from mmreg.files import csv_text, unwritable, write_json, write_text
from mmreg.messages import shown
from mmreg.model.build import States
from mmreg.model.devices import deterministic, resolve_device, resolve_precision
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import FusionNode, ModelNode
from mmreg.recipe.diff import comparable, recipe_differences
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.runs import Run
from mmreg.runs.followers import Followers
from mmreg.runs.restoring import Restoring
from mmreg.training.checkpoint import load_checkpoint, save_checkpoint
from mmreg.training.loop import Trainer, TrainingRows
from mmreg.training.parameters import count_trained


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> Run:
    """Train the model of a recipe.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        out: the folder to write the run to.
        overrides: keys to change, such as "training.epochs=3".
        overwrite: whether to replace a run that is there.
        resume: whether to go on with a training that was stopped; with none there, it starts.
        device: where to compute; the best one there is if it is not given.
        callback: who is told how it goes, besides the callbacks that plugins bring.

    Returns:
        The run, with the best weights.

    Raises:
        RecipeError: the recipe is wrong; names every problem.
        TableError, TargetError, DataError: the data are wrong; name the place.
        RunError: a run is there already, or cannot be resumed.
        TrainingError: the loss is no longer finite.
    """
    folder = Path(out)
    target = resolve_device(device)
    plan = checked_plan(read_recipe(recipe, overrides))
    resolve_precision(plan.recipe.form.training.precision, target)
    resuming = _resumes(folder, plan, overwrite=overwrite, resume=resume)
    experiment = open_experiment(plan)
    check_validation(plan, experiment)
    devices = [target] if target.type == "cuda" else []
    with deterministic(plan.recipe.form.training.deterministic), torch.random.fork_rng(devices):
        return _Session(folder, experiment, target, Followers(callback, plan.callbacks)).run(resuming)


def _resumes(folder: Path, plan: Plan, *, overwrite: bool, resume: bool) -> bool:
    """Check that the folder may be written to; whether there is a training in it to go on with."""
    if not resume or overwrite or not runs.is_run(folder):
        runs.claim(folder, overwrite=overwrite)
        why = unwritable(folder)
        if why is not None:
            raise RunError(f"the run cannot be written to {str(folder)!r}: {why}; name another folder")
        return False
    before = resolve(read_recipe(folder / runs.RECIPE), trains=False)
    differences = recipe_differences(comparable(before), comparable(plan))
    if differences:
        changes = [f"  {key}: was {shown(old)}, is {shown(new)}" for key, old, new in differences]
        raise RunError(
            f"the run in {str(folder)!r} was started with another recipe:\n" + "\n".join(changes) + "\n"
            "resume with the same one, or name another folder"
        )
    return (folder / runs.CHECKPOINT).is_file()


def check_validation(plan: Plan, experiment: Experiment) -> None:
    """Refuse what needs validation rows where there are too few of them.

    Raises:
        ValidationRowsError: names what needs them, and how many there are.
    """
    count = len(experiment.splits["validation"])
    for node in plan.fusion.nodes() if plan.fusion else ():
        if getattr(node.fusion.cls, "fitted", False) and not count:
            needs = f"{node.name} is fitted on validation rows"
        elif node.gradient_blending and not count:
            needs = f"{node.name} blends its losses by what validation rows show"
        else:
            continue
        raise _too_few(needs, count)
    training = plan.recipe.form.training
    for key in ("early_stopping", "metric"):
        if getattr(training, key) is not None and not count:
            raise _too_few(f"training.{key} is judged on validation rows", count)


def _too_few(needs: str, count: int) -> ValidationRowsError:
    return ValidationRowsError(
        f"{needs}; there are {count}; give the table such rows, or a split with a validation share"
    )


class _Session:
    """One training; its steps in order."""

    def __init__(self, folder: Path, experiment: Experiment, device: torch.device, followers: Followers) -> None:
        self.folder, self.experiment, self.device, self.followers = folder, experiment, device, followers
        self.plan = experiment.plan
        self.form = experiment.plan.recipe.form
        self.notes: list[str] = []

    def run(self, resuming: bool) -> Run:
        experiment = self.experiment
        for text in experiment.messages:
            self._note(text)
        fingerprint = experiment.table.fingerprint()
        if resuming and runs.read_facts(self.folder)["table"]["fingerprint"] != fingerprint:
            raise RunError(f"{experiment.table.name} has changed since the run in {str(self.folder)!r} was started")
        self.prepared = prepare_all(
            self.plan, experiment.table, experiment.modalities, cache_dir(), self.followers.preparing
        )
        self._drop_skipped()
        fit_arrays(self.prepared, experiment.modalities, experiment.splits["train"])
        states = self._states() if resuming else None
        model = experiment.build_model(states).to(self.device)
        trainer = self._trainer(model)
        if not resuming:
            self._start_folder(model, fingerprint)
        else:
            trainer.load_state(load_checkpoint(self.folder / runs.CHECKPOINT, list(model.parts())))
        run = Run(self.folder, self.plan, experiment.modalities, experiment.task, model, fingerprint, self.device)
        self.followers.tell("on_start", run, self._facts(model, trainer))
        self._train(trainer, run)
        if self.form.training.keep == "best" and (self.folder / runs.BEST).is_file():
            model.load_state_dict(load_file(self.folder / runs.BEST))
        self._fit_fusions(run, experiment.splits["validation"])
        report = self._report(run, trainer)
        runs.write_weights(self.folder / runs.WEIGHTS, model.state_dict())
        self.followers.tell("on_end", run, report)
        return run

    def _drop_skipped(self) -> None:
        """Leave out rows with bad cells where that is the policy, and say what was lost, cut or is empty."""
        for name, values in self.prepared.items():
            if values.bad:
                what = "left out" if values.on_bad == "skip" else "taken for absent"
                cells = "1 cell" if len(values.bad) == 1 else f"{len(values.bad):,} cells"
                self._note(f"{name}: {cells} cannot be loaded, {what} (first: {values.bad[0]})")
            if values.offsets is not None and len(values.offsets) > 1:
                for text in self.experiment.modalities[name].notes(np.diff(values.offsets)):
                    self._note(f"{name}: {text}")
        for split, rows in self.experiment.splits.items():
            self.experiment.splits[split] = rows = keep_rows(self.prepared, rows)
            empty = prior_rows(self.prepared, rows) if len(rows) else 0
            if empty:
                have = f"1 {split} row has" if empty == 1 else f"{empty:,} {split} rows have"
                self._note(f"{have} no modality at all; {'it gets' if empty == 1 else 'they get'} the training prior")
        if not len(self.experiment.splits["train"]):
            raise TableError("no training row is left after rows with bad cells were left out")

    def _note(self, text: str) -> None:
        """Say something that a person should know, and keep it for the report."""
        self.notes.append(text)
        self.followers.message(text)

    def _trainer(self, model: MultimodalModel) -> Trainer:
        experiment, training = self.experiment, self.form.training
        splits = experiment.splits
        rows = TrainingRows(
            self.prepared, experiment.targets, experiment.weights, splits["train"], splits["validation"]
        )
        dtype = resolve_precision(training.precision, self.device)
        on_step = partial(self.followers.tell, "on_step")
        return Trainer(self.plan, model, experiment.modalities, rows, self.device, dtype, on_step)

    def _states(self) -> States:
        """What the components of a training that goes on were built as."""
        restoring = Restoring(self.folder, self.plan, runs.read_facts(self.folder))
        restoring.tell_versions()
        return restoring.states()

    def _start_folder(self, model: MultimodalModel, fingerprint: str) -> None:
        """An empty folder with the run's facts; what an earlier run left there goes."""
        runs.keep_assets(self.folder, self.plan)
        runs.clear(self.folder)
        experiment = self.experiment
        rows = {split: len(numbers) for split, numbers in experiment.splits.items()}
        table = {"name": experiment.table.name, "fingerprint": fingerprint, "rows": rows}
        runs.write_facts(self.folder, self.plan, experiment.modalities, experiment.task, model, table)
        (self.folder / "checkpoints").mkdir()

    def _train(self, trainer: Trainer, run: Run) -> None:
        timings = _read_timings(self.folder, trainer.progress.epoch)
        for epoch, timing, improved in trainer.epochs():
            timings.append(timing)
            if improved:
                runs.write_weights(self.folder / runs.BEST, trainer.model.state_dict())
            write_text(self.folder / runs.METRICS, csv_text(each.row() for each in trainer.progress.history))
            write_text(self.folder / runs.TIMINGS, csv_text(timings))
            # Last, as a kill between two writes makes a resumed training repeat the epoch with all of its files.
            save_checkpoint(self.folder / runs.CHECKPOINT, trainer.state())
            self.followers.tell("on_epoch_end", run, epoch)

    def _fit_fusions(self, run: Run, rows: NDArray[np.int64]) -> None:
        """Fit the operators that are fitted on held-out rows, those below before those above."""
        for node in _model_nodes(run.model):
            if node.fusion.fitted:
                predicted = run.predict_rows(self.prepared, rows)
                parts = {name: predicted.parts[name] for name in node.part_names}
                present = torch.stack([part.present for part in parts.values()], 1)
                targets = torch.from_numpy(self.experiment.targets[rows])
                node.fusion.cpu().fit({name: part.scores for name, part in parts.items()}, present, targets)
                node.fusion.to(self.device)
                for note in node.fit_notes(targets, self.experiment.task.num_outputs):
                    self._note(note)
        for name in _fitted_too_late(run.model.root):
            self._note(
                f"{name} was fitted after what is above it had learned from its unfitted scores, which may cost "
                "accuracy: an operator that is fitted belongs on top"
            )

    def _report(self, run: Run, trainer: Trainer) -> dict[str, Any]:
        """Measure the kept weights on validation and test rows, and write predictions and figures."""
        experiment = self.experiment
        report: dict[str, Any] = {"epochs": trainer.progress.epoch, "steps": trainer.progress.step}
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
        for split in ("validation", "test"):
            rows = experiment.splits[split]
            if not len(rows):
                continue
            predicted = run.predict_rows(self.prepared, rows)
            columns = runs.prediction_columns(
                self.plan, experiment.task, experiment.table, self.prepared, rows, predicted
            )
            true = list(experiment.table.iter_values(self.form.target.column, rows))
            report[split] = runs.report_split(self.folder, self.plan, experiment.task, split, columns, true, predicted)
            self.followers.tell("on_evaluation", run, split, report[split])
        write_json(self.folder / runs.REPORT, report)
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
            "epochs": self.form.training.epochs,
            "steps": trainer.steps,
            "metric": trainer.metric,
            "resumed_after_epoch": trainer.progress.epoch,
        }


def _model_nodes(model: MultimodalModel) -> list[ModelNode]:
    """The model-level operators, those below before those above."""
    nodes = [module for module in model.modules() if isinstance(module, ModelNode)]
    return nodes[::-1]


def _fitted_too_late(node: FusionNode | None, learned_from: bool = False) -> Iterator[str]:
    """The operators that are fitted, but stand below layers that are trained."""
    if node is None:
        return
    if isinstance(node, ModelNode) and node.fusion.fitted and learned_from:
        yield node.name
    for part in node.nodes.children():
        assert isinstance(part, FusionNode)
        yield from _fitted_too_late(part, learned_from or node.learns_from(part.name))


def _read_timings(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The timings of the epochs that a resumed training does not repeat."""
    path = folder / runs.TIMINGS
    if not epochs or not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]
