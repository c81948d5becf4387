"""Cross-validation: a training for each part of the rows, which is measured on that part and has not seen it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.data.cache import cache_dir
from mmreg.data.prepared import keep_rows
from mmreg.errors import OptionError, RunError
from mmreg.experiment import checked_plan, open_experiment, prepare_all, true_targets
from mmreg.files import as_path, replacing, write_json
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.model.inference import Predicted
from mmreg.recipe.form import Form, Fractions
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.runs import Run
from mmreg.runs.fuse import combine, tell_end
from mmreg.runs.notebook_bar import follower
from mmreg.studies.compare.jobs import Job, device_slots
from mmreg.studies.ensembles.members import Ensemble, claim_members, figures, open_members, spread, train_members
from mmreg.studies.predicting import expect_target
from mmreg.training.encode_once import with_features

FOLDS = 5
"""How many parts unless another number is given."""


def cross_validate(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    folds: int = FOLDS,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    device: str | torch.device | None = None,
    jobs: int | None = None,
    callback: Callback | None = None,
) -> Ensemble:
    """Train a recipe once for each of so many parts of its rows, which are the test rows of that training.

    The parts are of one size, and so is each class in them; rows that are equal in the column `split.by` are in one
    part. Of the other parts' rows the share `split.validation` (0.1 if the recipe gives none) is for validation. Where
    a column or a table of its own says which rows are for testing, these are in no part, and no training sees them: the
    run of all folds is measured on them.

    Each training is an ordinary run in `out/fold-N`. `out` is the run that takes the mean of all their predictions; its
    report has their figures, and its predictions `out_of_fold` are those of every row by the training that has not seen
    it, by which `fuse` fits an operator.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        out: the folder to write to.
        folds: how many parts.
        overrides: keys to change, such as "training.epochs=3".
        overwrite: whether to replace what is there.
        resume: whether to go on with what is there: finished trainings are kept.
        device: where to compute; the best one there is if it is not given.
        jobs: how many trainings at the same time, each in a process of its own; as for `compare` if it is not given.
        callback: who is told how it goes.

    Raises:
        OptionError: there are fewer than two folds, or fewer than one job.
        RecipeError, TableError, TargetError, DataError: as for a training.
        RunError: `out` holds something else, or trainings of another recipe.
        TrainingError: one training failed; the others are kept.
    """
    if folds < 2:
        raise OptionError(f"cross-validation needs at least 2 folds, found {folds}")
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs must be at least 1, found {jobs}")
    slots, folder, told = device_slots(device, jobs), as_path(out, "out"), follower(callback)
    base = read_recipe(recipe, overrides)
    expect_target(base, "a mean over folds")
    resolve_precision(base.form.training.precision, resolve_device(slots[0]))
    changes = {f"fold-{fold}": {"split": fold_split(base.form, folds, fold)} for fold in range(1, folds + 1)}
    trainings = open_members(base, changes, folder)
    with runs.writing(folder):
        claim_members(folder, "fold", trainings[0].plan, overwrite=overwrite, resume=resume)
        train_members(trainings, slots, folder, told)
        measured = figures(trainings, "test")
        metrics = spread(measured)
        predictions, together = out_of_fold(trainings)
        report = {"folds": measured, "metrics": metrics, runs.OUT_OF_FOLD: together}
        loaded = [runs.load(job.folder, "cpu") for job in trainings]
        split = {"split": base.to_data()["split"]}
        run = combine(loaded, {"name": "mean"}, folder, resolve_device(device), (), report, split)
        with replacing(runs.own_folder(folder, runs.PREDICTIONS) / f"{runs.OUT_OF_FOLD}.parquet") as temporary:
            pq.write_table(predictions, temporary, write_page_checksum=True)
        measure_apart(run, base)
        tell_end(run)
    return Ensemble(run, {job.variant: job.folder for job in trainings}, metrics)


def measure_apart(run: Run, base: Recipe) -> None:
    """Measure the run on the rows that the recipe says are for testing, which no fold has seen; add it to its report.

    Args:
        run: of all folds.
        base: the recipe without folds.
    """
    form = base.form
    if not isinstance(form.split, str) and "test" not in form.files():
        return
    experiment = open_experiment(checked_plan(base), run.modalities, run.task)
    rows = experiment.splits["test"]
    if not len(rows):
        return
    prepared = prepare_all(run.plan, experiment.table, run.modalities, cache_dir())
    rows = keep_rows(prepared, rows)
    predicted = run.predict_rows(with_features(run, prepared), rows)
    columns = runs.prediction_columns(run.plan, run.task, experiment.table, prepared, rows, predicted, run.inputs)
    true = true_targets(run.plan, experiment.table, rows)
    told = runs.report_split(run.folder, run.plan, run.task, "test", columns, true, predicted)
    write_json(run.folder / runs.REPORT, {**run.report, "test": told})


def fold_split(form: Form, folds: int, fold: int) -> dict[str, Any]:
    """What a recipe says of its split, for the training of one fold.

    Raises:
        OptionError: the recipe is one of a fold already.
    """
    split: dict[str, Any] = {}
    if isinstance(form.split, Fractions):
        if form.split.folds is not None:
            raise OptionError("the recipe's split has folds already; leave them out for --folds")
        split = form.split.model_dump(exclude_unset=True, exclude={"test"})
    elif form.split is not None:
        split = {"column": form.split}
    return {**split, "folds": folds, "fold": fold}


def out_of_fold(jobs: Sequence[Job]) -> tuple[pa.Table, dict[str, Any]]:
    """The predictions of all folds as one table, with a column `fold`, and their figures together.

    Raises:
        RunError: those of one are gone.
    """
    tables = []
    for number, job in enumerate(jobs, 1):
        table = runs.read_predictions(job.folder, "test")
        if table is None:
            raise RunError(f"{job.folder} has no predictions of its fold; train it anew")
        tables.append(table.append_column("fold", pa.array([number] * len(table), pa.int32())))
    joined = pa.concat_tables(tables, promote_options="default")
    task, plan = jobs[0].experiment.task, jobs[0].plan
    present = torch.tensor([bool(had) for had in joined.column("modalities").to_pylist()])
    predicted = Predicted(torch.tensor(joined.column("scores").to_pylist()), present, {}, {})
    targets = task.encode(joined.column("target").to_pylist())
    return joined, runs.evaluation(plan, task, predicted, targets, runs.OUT_OF_FOLD)
