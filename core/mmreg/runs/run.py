"""A trained model with all that is needed to use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.task import Task
from mmreg.data.batches import Batch, Batches
from mmreg.data.cache import cache_dir
from mmreg.data.dialect import TableFile
from mmreg.data.lengths import WINDOW, unpadded_order
from mmreg.data.prepared import IN_USE, OnBad, Prepared, bad_texts, keep_rows
from mmreg.data.sources import open_table
from mmreg.data.table import Table
from mmreg.data.targets import TargetColumn, column_names
from mmreg.errors import RunError
from mmreg.experiment import Experiment, open_experiment, prepare_all, target_column
from mmreg.messages import absent_columns, listed, plural, shortened
from mmreg.model.allocator import freed_memory_kept
from mmreg.model.augmented import Augmented
from mmreg.model.devices import resolve_precision
from mmreg.model.inference import Predicted, embed, predict
from mmreg.model.model import MultimodalModel, Vectors
from mmreg.notebook import harmless, html_facts, html_table
from mmreg.recipe.columns import check_columns
from mmreg.recipe.resolve import Plan
from mmreg.run_files.figures import REPORT, read_report
from mmreg.runs.folder import OUT_OF_FOLD, read_predictions
from mmreg.runs.matching import written_keys
from mmreg.runs.measuring import evaluation, prediction_columns, row_keys
from mmreg.runs.results import Evaluation, Predictions
from mmreg.runs.row_inputs import PreparedRows, RowInputs, row_inputs

logger = logging.getLogger("mmreg")


@dataclass(frozen=True)
class KnownRows:
    """Rows whose targets are known, prepared for measuring.

    Attributes:
        prepared: the modalities' values for all rows of the table.
        rows: (R,) the numbers of the rows to measure on.
        targets: (R, ...) as the task encodes them.
        split: what these rows are called.
        table: all rows of the table, as it was read.
    """

    prepared: Mapping[str, Prepared]
    rows: NDArray[np.int64]
    targets: NDArray[Any]
    split: str
    table: Table


@dataclass(frozen=True)
class RowVectors:
    """The vectors of some rows of a table.

    Attributes:
        key: the column of the rows' keys; "row" where they are numbers from 1.
        keys: (n,) what the rows are called.
        rows: (n,) which rows of the table they are.
        vectors: theirs, in this order.
    """

    key: str
    keys: list[Any]
    rows: NDArray[np.int64]
    vectors: Vectors


class Run:
    """A trained model with all that is needed to use it.

    Attributes:
        folder: where it is kept.
        plan: the resolved recipe.
        modalities: by name, fitted.
        task: fitted.
        model: in evaluation mode.
        fingerprint: of the table that it was trained on; "" if it was combined of runs on several tables.
        split_fingerprint: of the splits of that table; "" if they are not known.
        device: where it computes.
        dtype: the precision in which it does.
        fused: whether it was combined of runs that were trained apart.
        batch_size: the rows that are predicted at a time: those of a batch of its training.
        inputs: the names of the inputs by modality: of a combination of runs, one may be an input of each of them.
        on_bad: what to do about cells that cannot be loaded, instead of what the recipe says; None for that.
    """

    on_bad: OnBad | None = None

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        modalities: Mapping[str, Modality],
        task: Task,
        model: MultimodalModel,
        fingerprint: str,
        device: torch.device,
        precision: str | None = None,
        fused: bool = False,
        split_fingerprint: str = "",
        batch_size: int | None = None,
        inputs: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.modalities = dict(modalities)
        self.task = task
        self.model = model.to(device).eval()
        self.fingerprint = fingerprint
        self.split_fingerprint = split_fingerprint
        self.fused = fused
        self.inputs = inputs or {name: [name] for name in self.modalities}
        self.batch_size = batch_size or plan.recipe.form.training.batch_rows
        self.device = device
        wanted = precision or plan.recipe.form.training.precision
        if precision is None and wanted == "float16" and device.type == "cpu":
            wanted = "float32"  # a run that was trained on an accelerator is of use elsewhere, too
        self.dtype = resolve_precision(wanted, device)

    @harmless
    def __repr__(self) -> str:
        return f"<Run {str(self.folder)!r}: {self._predicts()}, on {self.device}>"

    @harmless
    def _repr_html_(self) -> str:
        plan = self.plan
        facts = {"predicts": self._predicts(), "parameters": sum(each.numel() for each in self.model.parameters())}
        facts |= {"device": f"{self.device}, {str(self.dtype).removeprefix('torch.')}"}
        inputs = (
            {"input": name, "type": each.modality.name, "columns": listed(each.columns), "encoder": each.encoder.name}
            for name, each in plan.inputs.items()
        )
        shown = html_facts(str(self.folder), facts) + html_table(inputs, count=len(plan.inputs))
        with suppress(OSError, ValueError):  # its folder may be gone or damaged by now
            splits = [split for split in ("validation", "test") if split in self.report]
            shown += "".join(Evaluation(self.report[split])._repr_html_() for split in splits)
        return shown

    def _predicts(self) -> str:
        """What it predicts, from what and how, in a line."""
        targets = (f"{part.name} of {name}" if name else part.name for name, part in self.plan.task.targets.items())
        fused = "" if self.plan.fusion is None else f" by {self.plan.fusion.fusion.name}"
        return shortened(f"{listed(targets)} from {listed(self.inputs)}{fused}", 300)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain data, every default spelled out."""
        return self.plan.to_data()

    @property
    def report(self) -> dict[str, Any]:
        """What training measured at its end, by split."""
        return read_report(self.folder)

    def evaluate(
        self,
        table: Any = None,
        *,
        split: str | None = None,
        metrics: Sequence[str] = (),
        batch_size: int | None = None,
        augmented: int = 0,
        progress: Any = None,
    ) -> dict[str, Any]:
        """Measure the model.

        Args:
            table: rows with targets: a path, a data frame, a list of dicts; None for the table that it was trained on.
                An input column that it lacks counts as absent, which is logged.
            split: which rows: "train", "validation" or "test". None for the test rows of the training table, and for
                all rows of another one. Rows of the training table are, of a combination of runs, those that all of
                them have in that split.
            metrics: names of further metrics, besides the task's and the recipe's.
            batch_size: rows at a time; the recipe's if not given.
            augmented: how many augmented versions of each row are predicted as well; see `predict_rows`.
            progress: told of values being decoded: their count so far, their number, the modality.

        Returns:
            `{"split": ..., "rows": n, "metrics": {...}}`; `metrics["modalities"]` has the figures of each part of a
            model-level fusion.

        Raises:
            RunError: the training table has changed or is gone, or there are no such rows.
            TableError: the table is unreadable or lacks the targets.
            RecipeError: it lacks all input columns.
        """
        known = self.known_rows(table, split, progress)
        predicted = self.predict_rows(known.prepared, known.rows, batch_size, augmented=augmented)
        return Evaluation(evaluation(self.plan, self.task, predicted, known.targets, known.split, metrics))

    def known_rows(self, table: Any = None, split: str | None = None, progress: Any = None) -> KnownRows:
        """Prepare the rows that `evaluate` measures on, for several measurements; arguments and errors as there."""
        experiment, rows, name = self._rows(table, split)
        prepared = self._prepared(experiment.table, cache_dir(), progress)
        _tell_bad(prepared, rows)
        rows = keep_rows(prepared, rows)
        if not len(rows):
            raise RunError(
                "there are no rows to evaluate on" if name == "all" else f"there are no {name} rows to evaluate on"
            )
        _tell_notes(prepared, self.modalities, rows)
        return KnownRows(prepared, rows, experiment.targets[rows], name, experiment.table)

    def predict(
        self, rows: Any, *, batch_size: int | None = None, augmented: int = 0, progress: Any = None
    ) -> list[dict[str, Any]]:
        """Predict rows.

        Args:
            rows: a list of dicts (or one dict), a data frame, or a table's path; columns as in the recipe, a missing
                one counts as absent. Relative paths are relative to the table; of scheme://... to the folder of the
                recipe that the run was trained with; else to the working directory.
            batch_size: rows at a time; the recipe's if not given.
            augmented: how many augmented versions of each row are predicted as well; see `predict_rows`.
            progress: told of values being decoded: their count so far, their number, the modality.

        Returns:
            For each row its key, the prediction in the task's words, and which modalities it had.
        """
        columns = self.predict_columns(rows, batch_size=batch_size, augmented=augmented, progress=progress)
        rows = zip(*columns.values(), strict=True)
        return Predictions(dict(zip(columns, values, strict=True)) for values in rows)

    def predict_columns(
        self,
        rows: Any,
        *,
        batch_size: int | None = None,
        augmented: int = 0,
        progress: Any = None,
        cached: bool = True,
    ) -> dict[str, list[Any]]:
        """As `predict`, with a list for each column instead of a dict for each row; `cached` as for `prepare`."""
        given = self.prepare(rows, progress=progress, cached=cached)
        predicted = self.predict_rows(given.prepared, given.rows, batch_size, augmented=augmented)
        return prediction_columns(self.plan, self.task, given.table, given.prepared, given.rows, predicted, self.inputs)

    def vectors(self, rows: Any, *, batch_size: int | None = None, progress: Any = None) -> Iterator[RowVectors]:
        """The vectors that the model makes of rows, some rows at a time, so that memory does not grow with the table.

        Arguments as for `predict`.
        """
        given = self.prepare(rows, progress=progress)
        size = batch_size or self.batch_size
        for first in range(0, len(given), size * WINDOW):
            some = given.rows[first : first + size * WINDOW]
            order = unpadded_order(given.prepared, some, size)
            batches = Batches(given.prepared, some, None, None, size, order=order)
            with freed_memory_kept() if len(some) > size else nullcontext():
                vectors = embed(self.model, self.modalities, batches, self.device, self.dtype)
            yield RowVectors(*row_keys(self.plan, given.table, some), some, vectors)

    def prepare(
        self, rows: Any, *, on_bad: OnBad | None = None, progress: Any = None, cached: bool = True
    ) -> PreparedRows:
        """Decode rows once, for any number of predictions.

        Args:
            rows: as `predict` takes them; or what `known_rows` gives, all or some of it, which is decoded already.
            on_bad: what to do about cells that cannot be loaded, instead of what the run says: "absent" leaves them
                to the caller, who finds them as `bad` of each input's values.
            progress: told of values being decoded: their count so far, their number, the modality.
            cached: whether the values of a table that lies in a file are kept in the cache.
        """
        if isinstance(rows, KnownRows):
            return PreparedRows(self.plan, self.modalities, rows.table, rows.prepared, rows.rows)
        rows = [rows] if isinstance(rows, Mapping) else rows
        table = self.with_columns(self.open_table(rows))
        keep = cache_dir() if cached and isinstance(rows, str | Path | TableFile | Table) else None
        prepared = self._prepared(table, keep, progress, on_bad)
        numbers = np.arange(len(table))
        if on_bad is None:
            _tell_bad(prepared, numbers)
            numbers = keep_rows(prepared, numbers)
            _tell_notes(prepared, self.modalities, numbers)
        return PreparedRows(self.plan, self.modalities, table, prepared, numbers)

    def _prepared(
        self, table: Table, keep: Path | None, progress: Any, on_bad: OnBad | None = None
    ) -> dict[str, Prepared]:
        """All rows of a table, decoded; cells that cannot be loaded are as the run says, or as is said here."""
        wanted = on_bad or self.on_bad
        return prepare_all(self.plan, table, self.modalities, keep, progress, wanted, remedy=IN_USE)

    def row_inputs(self, given: PreparedRows, batch_size: int | None = None) -> Iterator[RowInputs]:
        """Rows as the model sees them, a batch at a time, to be asked what they come to without or with other inputs.

        Args:
            given: as `prepare` gives them.
            batch_size: rows at a time; the recipe's if not given.
        """
        size = batch_size or self.batch_size
        order = unpadded_order(given.prepared, given.rows, size)
        batches = iter(Batches(given.prepared, given.rows, None, None, size, order=order))
        return row_inputs(self.model, self.modalities, self.dtype, self.device, batches)

    def open_table(self, table: Any) -> Table:
        """A table with what the recipe says of tables: which cells are absent, and how its own file is written."""
        recipe = self.plan.recipe
        form = recipe.form
        return open_table(recipe.as_written(table), cells=recipe.folder, missing=form.missing, remote=form.remote)

    def with_columns(self, table: Table) -> Table:
        """The same table with empty columns in the place of those that a prediction can do without.

        Raises:
            RecipeError: it has none of the recipe's columns.
        """
        wanted = [column for given in self.plan.inputs.values() for column in given.columns]
        if not set(wanted) & set(table.columns):
            check_columns(self.plan.recipe, table, target=False)
        return table.with_empty(wanted)

    def predict_rows(
        self,
        prepared: Mapping[str, Prepared],
        rows: NDArray[np.int64],
        batch_size: int | None = None,
        drop: Mapping[str, NDArray[np.bool_]] | None = None,
        change: Callable[[Batch], Batch] | None = None,
        augmented: int = 0,
    ) -> Predicted:
        """Predict rows that are prepared already.

        Args:
            prepared: the modalities' values.
            rows: (R,) which rows of them.
            batch_size: rows at a time; the recipe's if not given.
            drop: for some modalities (R,) bool, the rows in which it counts as absent.
            change: what is done to each batch of stored values before anything else.
            augmented: how many versions of each row are predicted besides the plain one, augmented as in training; the
                scores are those of the mean of all probabilities (for numbers, of all values). What is drawn depends on
                the recipe's seed and the row's place in its batch, so that a call with the same rows and `batch_size`
                gives the same.

        Raises:
            OptionError: rows are to be augmented, and no modality does anything in training that it does not in use.
        """
        size = batch_size or self.batch_size
        order = unpadded_order(prepared, rows, size)
        batches: Iterable[Batch] = Batches(prepared, rows, None, None, size, order=order, drop=drop)
        if change is not None:
            batches = map(change, batches)
        versions = Augmented(augmented, self.plan.recipe.form.training.seed) if augmented else None
        # Of a single batch, to give memory back would take longer than to get it again.
        with freed_memory_kept() if len(rows) > size else nullcontext():
            return predict(self.model, self.modalities, batches, self.device, self.dtype, versions)

    def _rows(self, table: Any, split: str | None) -> tuple[Experiment, NDArray[np.int64], str]:
        """The experiment over a table, the numbers of the rows to use, and what they are called."""
        if table is None:
            if self.fused and not self.fingerprint:
                raise RunError(
                    f"{self.folder} was combined of runs on different tables: pass the table to evaluate on, with "
                    "--split test for its test rows"
                )
            experiment = open_experiment(self.plan, self.modalities, self.task)
            if experiment.table.fingerprint() != self.fingerprint:
                raise RunError(
                    f"the table of this run ({experiment.table.name}) has changed since the training, so its "
                    f"{split or 'test'} rows may not be the same; pass the table to evaluate on all of its rows"
                )
            if self.split_fingerprint not in ("", experiment.split_fingerprint()):
                raise RunError(
                    f"the recipe of {self.folder} splits the table otherwise than at training, as where it was edited, "
                    f"so its {split or 'test'} rows may be training rows; pass the table to evaluate on all of its rows"
                )
            name = split or ("test" if len(experiment.splits["test"]) else "validation")
            if name not in experiment.splits:
                raise RunError(f"there is no split {name!r}; there are {', '.join(experiment.splits)}")
            rows = experiment.splits[name]
            return experiment, self._common_rows(experiment.table, rows, name) if self.fused else rows, name
        given = self.open_table(table)
        target = self._target_column(given)
        whole = self.with_columns(given)
        if told := absent_columns(given.name, whole.columns, given.columns):
            logger.warning("note: %s", told)
        given = whole
        rows = np.arange(len(given)) if split is None else self._split_rows(given, split)
        if not len(rows):
            raise RunError(f"{given.name} has no {split} rows to evaluate on")
        if split is None and self.fingerprint and given.fingerprint() == self.fingerprint:
            logger.warning(
                "note: this is the table that the run was trained on, so most of these rows were learned from; without "
                "a table the run is measured on those that were held out"
            )
        empty = rows[target.values.select(rows).is_null()] if self.task.needs_target else rows[:0]
        if len(empty):
            what = " nor ".join(listed(map(repr, column_names(reads))) for reads in target.columns.values())
            count = plural(len(empty), "row has", "rows have")
            raise RunError(f"{count} no {what} to compare with (first: {given.where(empty[0])})")
        targets = target.encode(self.task, {split or "": rows})
        weights = np.ones(len(given), np.float32)
        return Experiment(self.plan, given, {}, self.modalities, self.task, targets, weights), rows, split or "all"

    def _target_column(self, table: Table) -> TargetColumn:
        """The targets of another table, which may lack the columns of some but not of all, as rows may lack values."""
        columns = [column_names(given.reads) for given in self.plan.recipe.form.predicted.values()]
        absent = [names for names in columns if not set(names) & set(table.columns)]
        if len(absent) < len(columns):
            table = table.with_empty(column for names in absent for column in names)
        return target_column(self.plan, table)

    def _common_rows(self, table: Table, rows: NDArray[np.int64], split: str) -> NDArray[np.int64]:
        """Those of a split's rows that all runs had in it of which this one is combined."""
        written = read_predictions(self.folder, split)
        if written is None:
            if read_predictions(self.folder, OUT_OF_FOLD) is not None:
                raise RunError(
                    f"the folds of which {self.folder} is combined have no {split} rows that all of them predicted, so "
                    f"they are measured out of fold: the figures are in {self.folder / REPORT}; give a table to "
                    "measure it on other rows"
                )
            raise RunError(
                f"the runs of which {self.folder} is combined have no {split} rows that all of them predicted; "
                "give a table to measure it on"
            )
        common = set(written_keys(self.folder, split, written))
        return rows[[key in common for key in row_keys(self.plan, table, rows)[1]]]

    def _split_rows(self, table: Table, split: str) -> NDArray[np.int64]:
        from mmreg.data.splits import split_rows

        column = self.plan.recipe.form.split
        if not isinstance(column, str):
            raise RunError(f"the recipe names no split column, so this table has no {split} rows; leave --split out")
        return split_rows(table, column, None, 0).get(split, np.zeros(0, np.int64))


def _tell_bad(prepared: Mapping[str, Prepared], rows: NDArray[np.int64]) -> None:
    """Say which cells of these rows cannot be loaded, as their rows are left out or less is known of them."""
    for text in bad_texts(prepared.values(), rows):
        logger.warning("note: %s", text)


def _tell_notes(prepared: Mapping[str, Prepared], modalities: Mapping[str, Modality], rows: NDArray[np.int64]) -> None:
    """Say what modalities tell of these rows."""
    for name, modality in modalities.items():
        for text in modality.notes_in_use(prepared[name].batches(rows)):
            logger.warning("note: %s: %s", name, text)
