"""The trainings that one run is made of: each an ordinary run in a folder within it, and what they come to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.errors import RunError, TrainingError
from mmreg.experiment import checked_plan, open_experiment
from mmreg.messages import cell, listed, plural
from mmreg.notebook import harmless, html_table
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.run_files.finished import finished_report
from mmreg.runs import Run
from mmreg.studies.compare.grid import check_unchanged, prepare_grid
from mmreg.studies.compare.jobs import Job, is_finished, run_jobs
from mmreg.training.validation_rows import check_validation

MEMBER = re.compile(r"(fold|seed)-[0-9]+")
"""How the folders of the trainings are called."""


@dataclass(frozen=True, repr=False)
class Ensemble:
    """Several trainings as one run, which predicts by the mean of their predictions.

    Attributes:
        run: the run that they are combined to.
        trained: the trainings' runs, by the names of their folders.
        metrics: of each metric of the trainings its `mean` and `deviation`.
    """

    run: Run
    trained: Mapping[str, Path]
    metrics: Mapping[str, Mapping[str, float]]

    @harmless
    def __repr__(self) -> str:
        figures = listed((f"{name} {cell(each['mean'])}" for name, each in self.metrics.items()), 5)
        return f"<Ensemble {str(self.run.folder)!r} of {plural(len(self.trained), 'training')}: {figures}>"

    @harmless
    def _repr_html_(self) -> str:
        rows = [{"metric": name, **each} for name, each in self.metrics.items()]
        return html_table(rows, f"{self.run.folder}: {plural(len(self.trained), 'training')} as one run")


def claim_members(folder: Path, kind: str, plan: Plan, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder, held for writing, that these trainings must not be written to; remove what is to be replaced.

    Args:
        folder: of all of them.
        kind: "fold" or "seed".
        plan: the recipe of one of them.
        overwrite: whether to replace what is there.
        resume: whether to go on with what is there.

    Raises:
        RunError: it holds something else, or trainings and neither of both is wanted; or the recipe begins with one.
    """
    there = [path for path in folder.iterdir() if path.name != runs.LOCK]
    members = [path for path in there if MEMBER.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    if there and not members and not runs.is_run(folder):
        raise RunError(f"{str(folder)!r} holds something else than a run; name another folder")
    if overwrite:
        runs.keep_sources([folder, *members], plan)
        for path in there:
            if MEMBER.fullmatch(path.stem) and path.suffix in (".yaml", ".log"):
                path.unlink()
        for path in members:
            shutil.rmtree(path)
        return
    if there and not resume:
        raise RunError(
            f"there is a run in {str(folder)!r} already; name another folder, go on with it by --resume, or replace it "
            "by --overwrite"
        )
    if there and not any(path.name.startswith(f"{kind}-") for path in members):
        raise RunError(f"the run in {str(folder)!r} is not made of {kind}s; name another folder")


def open_members(base: Recipe, changes: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Job]:
    """Resolve every training's recipe, read its rows and build the first one's model: what is wrong is told now.

    Args:
        base: the recipe of all.
        changes: how each training's differs, by its name.
        folder: of all of them.

    Raises:
        RecipeError, TableError, TargetError: as for a training.
    """
    jobs: list[Job] = []
    for name, change in changes.items():
        plan = checked_plan(base.replace(change))
        experiment = open_experiment(plan)
        check_validation(plan, experiment)
        if not jobs:
            experiment.build_model()
        jobs.append(Job(name, plan.recipe.form.training.seed, plan, experiment, folder / name))
    return jobs


def train_members(jobs: Sequence[Job], slots: Sequence[str], folder: Path, callback: Callback) -> None:
    """Train what is not trained yet, those that were stopped from where they were.

    Raises:
        RunError: what is there was trained with another recipe or table.
        TrainingError: one failed; the others are kept.
    """
    check_unchanged(jobs, folder)
    todo = [job for job in jobs if not is_finished(job.folder)]
    if todo:
        prepare_grid(todo, callback)
        if len(todo) < len(jobs):
            callback.on_message(f"trainings that are done already: {len(jobs) - len(todo)} of {len(jobs)}")
    errors = run_jobs(todo, slots, callback)
    if errors:
        lines = [f"  {job.variant}: {error}" for job, error in errors.items()]
        raise TrainingError("\n".join([f"{len(errors)} of {len(jobs)} trainings failed", *lines]))


def figures(jobs: Sequence[Job], split: str) -> list[dict[str, Any]]:
    """What each training has measured on a split, by its name.

    Raises:
        RunError: the report of one is damaged.
    """
    found = [(job.variant, finished_report(job.folder).get(split)) for job in jobs]
    return [{"name": name, "rows": each["rows"], "metrics": numbers(each["metrics"])} for name, each in found if each]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those metrics that are single numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def spread(measured: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean and the standard deviation (of a sample) of each metric that all trainings have."""
    named = [name for name in measured[0]["metrics"] if all(name in each["metrics"] for each in measured)]
    values = {name: [each["metrics"][name] for each in measured] for name in named}
    return {
        name: {"mean": mean(each), "deviation": stdev(each) if len(each) > 1 else 0.0} for name, each in values.items()
    }
