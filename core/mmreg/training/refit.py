"""A run trained anew on its validation rows as well, once they have chosen what they are for."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.errors import OptionError, RunError
from mmreg.files import as_path
from mmreg.messages import one_line
from mmreg.recipe.form import Fractions
from mmreg.recipe.recipe import IN_MEMORY, Recipe, read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.run_files.finished import finished_facts, finished_report, refuse_going_on
from mmreg.runs import Run
from mmreg.training.stopping import Stop
from mmreg.training.train import train

CHOSEN = ("early_stopping", "max_minutes", "metric")
"""The keys of `training` that end a training, or choose its weights, by what the run has shown."""


def refit(
    run: str | Path,
    out: str | Path,
    *,
    table: Any = None,
    epochs: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
    stop: Stop | None = None,
) -> Run:
    """Train a run's recipe anew, on its validation rows as well; of a cross-validation on all rows in its folds.

    The test rows stay as they are, and are measured. Operators that were fitted on validation rows are taken over; of a
    cross-validation those of its first fold.

    Args:
        run: the folder of a run whose training has ended.
        out: the folder to write the new run to.
        table: the run's table, if that is in memory or elsewhere by now.
        epochs: those after which it ends, instead of as many as did the run good: up to its best one, or
            the last whose validation accuracy is within a standard error of that; the learning rate's course
            is that of the run.
        overwrite: whether to replace a run that is there.
        resume: whether to go on with a training that was stopped.
        device: where to compute; the best one there is if it is not given.
        callback: who is told how it goes.
        stop: the wish that it end.

    Raises:
        RunError: there is no such run, it has no validation rows, or it was not trained as one model.
        OptionError: `out` is the run itself, or `epochs` are more than the recipe has.
        ValidationRowsError: something needs validation rows in training.
        TableError, DataError: as for a training.
    """
    folder, target = as_path(run, "run"), as_path(out, "out")
    if target.resolve() == folder.resolve():
        raise OptionError(f"refit trains another run beside {folder}; name another folder for it")
    begun = _begun(folder, target, table, epochs) if resume else None
    recipe = begun or refitted_recipe(folder, table, epochs)
    return train(recipe, target, overwrite=overwrite, resume=resume, device=device, callback=callback, stop=stop)


def refitted_recipe(folder: Path, table: Any = None, epochs: int | None = None) -> Recipe:
    """The recipe by which a run is trained anew on its validation rows as well.

    Args:
        folder: the run's.
        table: as for `refit`.
        epochs: as for `refit`.

    Raises:
        RunError, OptionError: as for `refit`.
    """
    facts, report = finished_facts(folder), finished_report(folder)
    refuse_going_on(folder, report)
    recipe = _recipe(folder)
    fused = facts["table"].get("fused")
    folds = [folder / Path(each).name for each in fused or ()] if "folds" in report else []
    if fused and not folds:
        raise RunError(f"{folder} combines runs; refit each of them, and combine those that come of it by mmreg fuse")
    if not (folds or facts["table"]["rows"].get("validation")):
        raise RunError(f"the training of {folder} had no validation rows: there are no more rows for it to learn from")
    changes: dict[str, Any] = {}
    if folds:
        split = recipe.form.split
        recipe = _recipe(folds[0])
        if split is None or isinstance(split, Fractions):  # all rows were in folds
            shares = {} if split is None else split.model_dump(exclude_unset=True)
            changes["split"] = {**shares, "validation": 0.0, "test": 0.0}
        else:
            changes["split"] = split
    ends = epochs or round(mean(_epochs(each) for each in folds or [folder]))
    changes["training.refit"] = {"epochs": ends, "run": str((folds or [folder])[0].absolute())}
    changes |= {f"training.{key}": None for key in CHOSEN} | {"training.keep": "last"}
    if ends > recipe.form.training.epochs:
        raise OptionError(f"epochs can be at most the {recipe.form.training.epochs} of {folder}'s recipe, found {ends}")
    return _with_table(recipe, table, folder).replace(changes)


def _begun(folder: Path, out: Path, table: Any, epochs: int | None) -> Recipe | None:
    """The recipe of a refit that is to go on, which says all by itself; None where there is none of this run yet."""
    if not runs.is_run(out):
        return None
    recipe = _recipe(out)
    refitted = recipe.refitted_run()
    if refitted is None or folder.resolve() not in (refitted.resolve(), refitted.resolve().parent):  # or of its folds
        return None
    return _with_table(recipe, table, out).replace({} if epochs is None else {"training.refit.epochs": epochs})


def _recipe(folder: Path) -> Recipe:
    """A run's recipe, so that files are found wherever it is: its components' in the run, those of cells as before."""
    recipe = read_recipe(runs.run_file(folder, runs.RECIPE))
    cells = Path(runs.read_facts(folder)["table"].get("folder", folder))
    data = resolve(recipe).to_data()
    return Recipe(data, name=recipe.name, folder=cells if cells.is_dir() else None, lines=recipe.lines)


def _with_table(recipe: Recipe, table: Any, folder: Path) -> Recipe:
    """A run's recipe where its table is in memory or elsewhere by now.

    Raises:
        RunError: it was in memory, and is not given.
    """
    if table is None and recipe.data["table"] == IN_MEMORY:
        raise RunError(f"{folder} was trained on a table in memory; pass it as table")
    return recipe if table is None else recipe.with_table(table)


def _epochs(folder: Path) -> int:
    """How many epochs did a run good: up to the best one, or the last whose accuracy is as good but for chance.

    Raises:
        RunError: its figures are gone or damaged.
    """
    try:
        return _good_epochs(folder, finished_report(folder))
    except (OSError, ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:
        raise RunError(
            f"what the epochs of {folder} came to cannot be read ({one_line(error)}); say how many are to be trained "
            "by --epochs"
        ) from error


def _good_epochs(folder: Path, report: Mapping[str, Any]) -> int:
    if "soup" in report:
        return int(report["soup"]["epochs"][0])
    if "best" not in report:
        return int(report["epochs"])
    best = report["best"]
    if best["metric"] != "accuracy":
        return int(best["epoch"])
    share, rows = best["value"], report["validation"]["rows"]
    least = share - (share * (1 - share) / rows) ** 0.5  # one standard error below (Breiman et al. 1984)
    with runs.run_file(folder, runs.METRICS).open(encoding="utf-8", newline="") as file:
        figures = {int(row["epoch"]): float(row["validation_accuracy"] or 0) for row in csv.DictReader(file)}
    return max(epoch for epoch, value in figures.items() if value >= least)
