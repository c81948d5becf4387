"""A run's folder: what training leaves behind, and how it is loaded, evaluated and used to predict.

Nothing in the folder can run code; it can be moved and renamed, and is loaded offline.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmreg.building import build
from mmreg.data.batches import Batch, Batches
from mmreg.data.cache import cache_dir
from mmreg.data.prepare import Prepared
from mmreg.data.sources import open_table
from mmreg.data.table import Table
from mmreg.devices import resolve_device, resolve_precision
from mmreg.errors import MmregError, RunError
from mmreg.experiment import Experiment, check_columns, encode_targets, keep_rows, open_experiment, prepare_all
from mmreg.files import replacing, write_json, write_text
from mmreg.inference import Predicted, predict
from mmreg.interfaces import Modality, Task
from mmreg.model import MultimodalModel
from mmreg.recipe import read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.spec import Spec

RECIPE = "recipe.yaml"
COMPONENTS = "components.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.csv"
TIMINGS = "timings.csv"
REPORT = "report.json"
PREDICTIONS = "predictions"
CHECKPOINT = "checkpoints/last.pt"
BEST = "checkpoints/best.safetensors"
FORMAT = 1
"""The version of the folder's layout."""


@dataclass(frozen=True)
class KnownRows:
    """Rows whose targets are known, prepared for measuring.

    Attributes:
        prepared: the modalities' values for all rows of the table.
        rows: (R,) the numbers of the rows to measure on.
        targets: (R, ...) as the task encodes them.
        split: what these rows are called.
    """

    prepared: Mapping[str, Prepared]
    rows: NDArray[np.int64]
    targets: NDArray[Any]
    split: str


class Run:
    """A trained model with all that is needed to use it.

    Attributes:
        folder: where it is kept.
        plan: the resolved recipe.
        modalities: by name, fitted.
        task: fitted.
        model: in evaluation mode.
        device: where it computes.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        modalities: Mapping[str, Modality],
        task: Task,
        model: MultimodalModel,
        fingerprint: str,
        device: torch.device,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.modalities = dict(modalities)
        self.task = task
        self.model = model.to(device).eval()
        self.fingerprint = fingerprint
        self.device = device

    @property
    def report(self) -> dict[str, Any]:
        """What training measured at its end, by split."""
        report: dict[str, Any] = json.loads((self.folder / REPORT).read_text(encoding="utf-8"))
        return report

    def evaluate(
        self,
        table: Any = None,
        *,
        split: str | None = None,
        metrics: Sequence[str] = (),
        batch_size: int | None = None,
        progress: Any = None,
    ) -> dict[str, Any]:
        """Measure the model.

        Args:
            table: rows with targets: a path, a data frame, a list of dicts; None for the table that it was trained on.
            split: which rows: "train", "validation" or "test". None for the test rows of the training table, and for
                all rows of another one.
            metrics: names of further metrics, besides the task's and the recipe's.
            batch_size: rows at a time; the recipe's if not given.
            progress: told of values being decoded: their count so far, their number, the modality.

        Returns:
            `{"split": ..., "rows": n, "metrics": {...}}`; `metrics["modalities"]` has the figures of each part of a
            model-level fusion.

        Raises:
            RunError: the training table has changed or is gone, or there are no such rows.
            TableError: the table is unreadable or lacks columns.
        """
        known = self.known_rows(table, split, progress)
        predicted = self.predict_rows(known.prepared, known.rows, batch_size)
        return evaluation(self.plan, self.task, predicted, known.targets, known.split, metrics)

    def known_rows(self, table: Any = None, split: str | None = None, progress: Any = None) -> KnownRows:
        """Prepare the rows that `evaluate` measures on, for several measurements; arguments and errors as there."""
        experiment, rows, name = self._rows(table, split)
        prepared = prepare_all(self.plan, experiment.table, self.modalities, cache_dir(), progress)
        rows = keep_rows(prepared, rows)
        if not len(rows):
            raise RunError(f"there are no {name} rows to evaluate on")
        return KnownRows(prepared, rows, experiment.targets[rows], name)

    def predict(self, rows: Any, *, batch_size: int | None = None, progress: Any = None) -> list[dict[str, Any]]:
        """Predict rows.

        Args:
            rows: a list of dicts (or one dict), a data frame, or a table's path; columns as in the recipe, a missing
                one counts as absent. Relative paths are relative to the table, or to the working directory.
            batch_size: rows at a time; the recipe's if not given.
            progress: told of values being decoded: their count so far, their number, the modality.

        Returns:
            For each row its key, the prediction in the task's words, and which modalities it had.
        """
        table = self.with_columns(open_table([rows] if isinstance(rows, Mapping) else rows))
        keep = cache_dir() if isinstance(rows, str | Path) else None
        prepared = prepare_all(self.plan, table, self.modalities, keep, progress)
        numbers = keep_rows(prepared, np.arange(len(table)))
        predicted = self.predict_rows(prepared, numbers, batch_size)
        columns = prediction_columns(self.plan, self.task, table, prepared, numbers, predicted)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def with_columns(self, table: Table) -> Table:
        """A table with empty columns in the place of those that a prediction can do without.

        Raises:
            TableError: it has none of the recipe's columns.
        """
        wanted = [column for given in self.plan.inputs.values() for column in given.columns]
        there = [column for column in wanted if column in table.columns]
        if not there:
            check_columns(self.plan, table, target=False)
        for column in wanted:
            if column not in table.columns:
                table.arrow = table.arrow.append_column(column, pa.nulls(len(table), pa.string()))
        return table

    def predict_rows(
        self,
        prepared: Mapping[str, Prepared],
        rows: NDArray[np.int64],
        batch_size: int | None = None,
        drop: Mapping[str, NDArray[np.bool_]] | None = None,
        change: Callable[[Batch], Batch] | None = None,
    ) -> Predicted:
        """Predict rows that are prepared already.

        Args:
            prepared: the modalities' values.
            rows: (R,) which rows of them.
            batch_size: rows at a time; the recipe's if not given.
            drop: for some modalities (R,) bool, the rows in which it counts as absent.
            change: what is done to each batch of stored values before anything else.
        """
        size = batch_size or self.plan.recipe.form.training.batch_size
        batches: Iterable[Batch] = Batches(prepared, rows, None, None, size, drop=drop)
        if change is not None:
            batches = map(change, batches)
        dtype = resolve_precision(self.plan.recipe.form.training.precision, self.device)
        return predict(self.model, self.modalities, batches, self.device, dtype)

    def _rows(self, table: Any, split: str | None) -> tuple[Experiment, NDArray[np.int64], str]:
        """The experiment over a table, the numbers of the rows to use, and what they are called."""
        if table is None:
            experiment = open_experiment(self.plan)
            if experiment.table.fingerprint() != self.fingerprint:
                raise RunError(
                    f"the table of this run ({experiment.table.name}) has changed since the training, so its "
                    f"{split or 'test'} rows may not be the same; pass the table to evaluate on all of its rows"
                )
            name = split or ("test" if len(experiment.splits["test"]) else "validation")
            if name not in experiment.splits:
                raise RunError(f"there is no split {name!r}; there are {', '.join(experiment.splits)}")
            return experiment, experiment.splits[name], name
        given = open_table(table)
        check_columns(self.plan, given, target=False)
        target = self.plan.recipe.form.target.column
        values = list(given.iter_values(target))
        rows = np.arange(len(given)) if split is None else self._split_rows(given, split)
        empty = [row for row in rows.tolist() if values[row] is None]
        if empty:
            raise RunError(f"{len(empty)} rows have no {target!r} to compare with (first: {given.where(empty[0])})")
        targets = encode_targets(self.task, given, target, values, {split or "": rows})
        weights = np.ones(len(given), np.float32)
        return Experiment(self.plan, given, {}, self.modalities, self.task, targets, weights), rows, split or "all"

    def _split_rows(self, table: Table, split: str) -> NDArray[np.int64]:
        from mmreg.data.splits import split_rows

        column = self.plan.recipe.form.split
        if not isinstance(column, str):
            raise RunError(f"the recipe names no split column, so this table has no {split} rows; leave --split out")
        return split_rows(table, column, None, 0).get(split, np.zeros(0, np.int64))


def evaluation(
    plan: Plan, task: Task, predicted: Predicted, targets: NDArray[Any], split: str, metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """The figures of some predictions, as plain data; see `Run.evaluate`."""
    wanted = list(dict.fromkeys([*plan.recipe.form.metrics, *metrics]))
    true = torch.from_numpy(targets)
    result = task.evaluate(predicted.scores, true, wanted)
    parts = {}
    for name, part in predicted.parts.items():
        rows = part.present
        figures = task.evaluate(task.scores(part.scores)[rows], true[rows], wanted) if rows.any() else {}
        parts[name] = {"rows": int(rows.sum()), **{k: v for k, v in figures.items() if isinstance(v, float)}}
    result["modalities"] = parts
    figures = {"split": split, "rows": len(true), "metrics": result}
    missing = int((~predicted.present).sum())
    if missing:
        figures["rows_without_any_modality"] = missing
    return figures


def prediction_columns(
    plan: Plan,
    task: Task,
    table: Table,
    prepared: Mapping[str, Prepared],
    rows: NDArray[np.int64],
    predicted: Predicted,
) -> dict[str, list[Any]]:
    """Predictions as named columns: the row's key, the task's columns, extras, and the modalities that it had."""
    key = plan.recipe.form.key
    keys = list(table.iter_values(key, rows)) if key in table.columns else (table.row_numbers[rows] + 1).tolist()
    present = np.stack([values.present[rows] for values in prepared.values()], 1)
    names = list(prepared)
    had = ["+".join(name for name, there in zip(names, row, strict=True) if there) for row in present]
    columns: dict[str, list[Any]] = task.predictions(predicted.scores)
    columns |= {name: values.tolist() for name, values in predicted.extras.items()}
    columns["modalities"] = had
    name = key if key in table.columns and key else "row"
    return {f"{name}_key" if name in columns else name: keys, **columns}


def load(folder: str | Path, device: str | torch.device | None = None) -> Run:
    """Load a run from its folder.

    Args:
        folder: where training wrote it.
        device: where to compute; the best one there is if it is not given.

    Raises:
        RunError: the folder is no run, is incomplete, or needs a component that is not installed or registered.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    if not (folder / WEIGHTS).is_file():
        raise RunError(f"the training of {folder} did not end; go on with: mmreg train RECIPE --out {folder} --resume")
    try:
        plan = resolve(read_recipe(folder / RECIPE))
    except MmregError as error:
        came = ", ".join(
            f"{role} from {c['distribution']} {c['version']}".rstrip()
            for role, c in facts["components"].items()
            if c["distribution"] != "mmreg"
        )
        local = any(c["distribution"] == "local" for c in facts["components"].values())
        hint = f"; it was trained with {came}" if came else ""
        hint += "; register the local ones with mmreg.registry.register before loading" if local else ""
        raise RunError(f"the run {folder} cannot be loaded{hint}: {error}") from error
    modalities = restore_modalities(plan, facts["modalities"])
    specs = {name: Spec.from_json(facts["modalities"][name]["spec"]) for name in modalities}
    task = plan.task.cls(**plan.task.options)
    task.load_state(facts["task"])
    model = build(plan, specs, task)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors and torch raise several kinds
        raise RunError(f"the weights of {folder} are damaged or of another model: {error}") from error
    return Run(folder, plan, modalities, task, model, facts["table"]["fingerprint"], resolve_device(device))


def restore_modalities(plan: Plan, facts: Mapping[str, Any]) -> dict[str, Modality]:
    """A recipe's modalities with the states that were written."""
    modalities = {}
    for name, given in plan.inputs.items():
        modality: Modality = given.modality.cls(**given.modality.options)
        modality.load_state(facts[name]["state"])
        modalities[name] = modality
    return modalities


def read_facts(folder: Path) -> dict[str, Any]:
    """What a run folder says of its components.

    Raises:
        RunError: it is no run folder, or of another format.
    """
    if not folder.is_dir():
        near = sorted(p.name for p in folder.parent.iterdir() if is_run(p)) if folder.parent.is_dir() else []
        there = f"; there are {', '.join(near[:10])}" if near else ""
        raise RunError(f"there is no run folder {str(folder)!r}{there}")
    try:
        facts: dict[str, Any] = json.loads((folder / COMPONENTS).read_text(encoding="utf-8"))
        found = facts["format"]
    except FileNotFoundError as error:
        raise RunError(f"{str(folder)!r} is no run folder: it has no {COMPONENTS}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / COMPONENTS} is damaged: {error}") from error
    if found != FORMAT:
        raise RunError(f"{str(folder)!r} is a run of format {found!r}, this mmreg reads format {FORMAT}")
    return facts


def is_run(folder: Path) -> bool:
    """Whether a folder was written by a training."""
    return (folder / COMPONENTS).is_file() and (folder / RECIPE).is_file()


def claim(folder: Path, *, overwrite: bool) -> Path:
    """Refuse a folder that a new run must not be written to.

    Raises:
        RunError: it is a file, holds something else than a run, or holds a run and `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a folder for the run")
    if folder.is_dir() and any(folder.iterdir()):
        if not is_run(folder):
            raise RunError(f"{str(folder)!r} holds something else than a run; name another folder")
        if not overwrite:
            raise RunError(
                f"there is a run in {str(folder)!r} already; name another folder, go on with it by --resume, "
                "or replace it by --overwrite"
            )
    return folder


def clear(folder: Path) -> None:
    """Make the folder if it is not there, and remove what an earlier run left in it, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, METRICS, TIMINGS, REPORT):
        (folder / name).unlink(missing_ok=True)
    for name in (PREDICTIONS, "checkpoints"):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_facts(
    folder: Path, plan: Plan, modalities: Mapping[str, Modality], task: Task, table: Mapping[str, Any]
) -> None:
    """Write all but the weights: the resolved recipe, where components come from, and what was fitted.

    Args:
        folder: the run's folder.
        plan: the resolved recipe.
        modalities: by name, fitted.
        task: fitted.
        table: plain data on what it was trained on, its `fingerprint` among them.
    """
    import yaml

    write_text(folder / RECIPE, yaml.safe_dump(plan.to_data(), sort_keys=False, allow_unicode=True))
    components = {
        role: {
            "name": component.name,
            "distribution": component.entry.distribution,
            "version": component.entry.version,
        }
        for role, component in plan.components().items()
    }
    facts = {
        "format": FORMAT,
        "mmreg": version("mmreg"),
        "components": components,
        "modalities": {
            name: {"spec": modality.spec.to_json(), "state": modality.state()} for name, modality in modalities.items()
        },
        "task": task.state(),
        "table": dict(table),
    }
    write_json(folder / COMPONENTS, facts)


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors, whole or not at all.

    Raises:
        OSError: they cannot be written, as on a full disk.
    """
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files that nobody else can read
        try:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, temporary)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        temporary.chmod(mode)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the columns are those of all rows, in the order in which they first appear."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_predictions(
    folder: Path, split: str, columns: Mapping[str, list[Any]], targets: list[Any], predicted: Predicted
) -> None:
    """Write a split's predictions as Parquet: what people read, the targets, and all scores at full precision.

    The scores of a part stand in a column "scores/NAME", null where a row lacks it; those of the whole in "scores".
    """
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    scores = {"target": targets, "scores": predicted.scores.tolist()}
    for name, part in predicted.parts.items():
        rows = zip(part.scores.tolist(), part.present.tolist(), strict=True)
        scores[f"scores/{name}"] = [values if there else None for values, there in rows]
    with replacing(folder / PREDICTIONS / f"{split}.parquet") as temporary:
        pq.write_table(pa.table({**columns, **scores}), temporary)


def read_predictions(folder: Path, split: str) -> pa.Table | None:
    """What `write_predictions` wrote; None if the run has no such split."""
    path = folder / PREDICTIONS / f"{split}.parquet"
    return pq.read_table(path) if path.is_file() else None


def report_split(
    folder: Path,
    plan: Plan,
    task: Task,
    split: str,
    columns: Mapping[str, list[Any]],
    targets: list[Any],
    predicted: Predicted,
) -> dict[str, Any]:
    """Write a split's predictions and measure them."""
    write_predictions(folder, split, columns, targets, predicted)
    return evaluation(plan, task, predicted, task.encode(targets), split)
