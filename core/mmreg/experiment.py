"""A recipe and its table together: splits, targets and fitted modalities, all checked before any file is decoded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.engine import Engine
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Specs
from mmreg.contract.task import Task
from mmreg.data.cells import iter_present
from mmreg.data.dialect import TableFile
from mmreg.data.fitting import fitting
from mmreg.data.leaks import leaks, leaks_text
from mmreg.data.list_cells import ListCells, list_cells
from mmreg.data.lost import lost_cells
from mmreg.data.prepare import prepare
from mmreg.data.prepared import IN_TRAINING, OnBad, Prepared, raise_bad
from mmreg.data.sources import open_table
from mmreg.data.splits import SPLITS, few_validation, split_rows
from mmreg.data.table import Table, concat_tables
from mmreg.data.targets import TargetColumn, column_names, loss_weights, stratifying
from mmreg.errors import MmregError, RecipeError, TableError
from mmreg.messages import listed
from mmreg.model.build import States, build
from mmreg.model.model import MultimodalModel
from mmreg.model.seeding import derive, seeded
from mmreg.recipe.assets import digest
from mmreg.recipe.columns import check_columns, check_key, missing_columns
from mmreg.recipe.components import InputPlan
from mmreg.recipe.form import Fractions
from mmreg.recipe.recipe import IN_MEMORY, Recipe, read_recipe
from mmreg.recipe.resolve import Plan, find_problems, missing_assets, resolve


@dataclass
class Experiment:
    """What a training works on.

    Attributes:
        plan: the resolved recipe.
        table: all rows of all splits.
        splits: the row numbers of each split.
        modalities: by name; `fit_values` is done, so their specs are final.
        task: fitted.
        targets: (N, ...) of all rows, as the task encodes them; zeros for rows without a target.
        weights: (N,) the weight of each row's loss.
        messages: what a person should know about the data.
        lost: for some modalities (N,) bool, the rows that are made to lack it.
    """

    plan: Plan
    table: Table
    splits: dict[str, NDArray[np.int64]]
    modalities: dict[str, Modality]
    task: Task
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    messages: list[str] = field(default_factory=list)
    lost: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, Specs]:
        """What each modality gives."""
        return {name: modality.spec for name, modality in self.modalities.items()}

    @property
    def learning(self) -> dict[str, Modality]:
        """The modalities that learn from this table; the others know what they did in an earlier run."""
        return {name: each for name, each in self.modalities.items() if not self.plan.inputs[name].takes_modality}

    def split_fingerprint(self) -> str:
        """A hash of which rows belong to which split, in hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        for name, rows in self.splits.items():
            digest.update(f"{name}\0{len(rows)}\0".encode() + rows.tobytes())
        return digest.hexdigest()

    def hide_lost(self, prepared: Mapping[str, Prepared]) -> None:
        """Have the rows that are made to lack a modality count as such among the prepared values."""
        for name, rows in self.lost.items():
            prepared[name].present &= ~rows

    def build_model(self, states: States | None = None) -> MultimodalModel:
        """A model with keyed initial weights and the training prior; of `states`, one that gets its weights later."""
        train = self.splits["train"]
        prior = self.task.prior(self.targets[train], self.weights[train])
        return build(self.plan, self.specs, self.task, prior, states)


def checked_plan(recipe: Recipe) -> Plan:
    """Resolve a recipe; if something is wrong with its components, columns that its table lacks are told as well.

    Raises:
        RecipeError: names every problem with its line.
    """
    try:
        return resolve(recipe)
    except RecipeError:
        problems = find_problems(recipe)
        with contextlib.suppress(MmregError):
            tables = _read_tables(recipe)
            table = tables if isinstance(tables, Table) else concat_tables(list(tables.values()))
            problems += missing_columns(recipe, table)
        recipe.fail_if(problems)
        raise


def open_experiment(
    plan: Plan, modalities: Mapping[str, Modality] | None = None, task: Task | None = None
) -> Experiment:
    """Read the table, split it, and fit the task and the modalities' vocabularies; decodes no file.

    Args:
        plan: the resolved recipe.
        modalities: fitted ones to take instead of fitting new ones.
        task: a fitted one to take instead of fitting a new one: that of a cross-validation has learned all rows in
            folds, whatever the recipe's own split is.

    Raises:
        RecipeError: the recipe names columns that are not there.
        TableError: the table is missing or unreadable, or its splits are wrong.
        TargetError: the target column does not fit the task.
    """
    if modalities is None:
        plan.recipe.fail_if(missing_assets(plan))
    form = plan.recipe.form
    tables = _read_tables(plan.recipe)
    table = tables if isinstance(tables, Table) else concat_tables(list(tables.values()))
    check_columns(plan.recipe, table)
    check_key(table, form.key)
    target = target_column(plan, table)
    new_task = plan.new_task()
    splits, messages = target.known(_split(plan, tables, target, new_task), skip=form.on_bad == "skip")
    if len(form.predicted) > 1 and isinstance(form.split, Fractions):
        stratified_by = stratifying(new_task, _shares(form.split))
        messages += [f"the split is stratified by the target {stratified_by!r}"] if stratified_by else []
    seed = form.training.seed
    if task is None:
        task = new_task
        with seeded(seed, "task"):  # it may make parameters of its own
            # The trainings of a cross-validation predict in the same units, those of all rows in folds.
            folds = isinstance(form.split, Fractions) and form.split.folds is not None
            target.fit(task, np.sort(np.concatenate(list(splits.values()))) if folds else splits["train"])
    targets = target.encode(task, splits)
    columns = {name: given.weight for name, given in form.predicted.items()}
    weights = loss_weights(task, table, columns, targets, splits)
    lists = list_inputs(plan, table)
    lost = _lost(plan, table, splits, messages, lists)
    if modalities is None:
        having = {name: splits["train"][~rows[splits["train"]]] for name, rows in lost.items()}
        modalities = {
            name: fit_modality(given, table, having.get(name, splits["train"]), seed, lists.get(name))
            for name, given in plan.inputs.items()
        }
    # Columns that are read together are each of few values, which splits may well share.
    alone = [given for given in plan.inputs.values() if not given.modality.cls.multiple_columns]
    columns = {column: given.modality.cls.paths for given in alone for column in given.columns}
    known = {split: targets[rows] for split, rows in splits.items() if len(rows)}
    messages += [concern.text for concern in task.concerns(known)]
    messages += _targets_read(plan)
    if form.training.refit:
        told = "validation rows are learned from as well, as training.refit says: no figures are of them"
        last, epochs = form.training.last_epoch, form.training.epochs
        messages.append(told if last == epochs else f"{told}; it ends after epoch {last} of {epochs}")
    messages += few_validation(len(splits["validation"])) if form.training.keep != "last" else []
    paths = [column for column, are_paths in columns.items() if are_paths]
    found = leaks(table, splits, list(columns), paths, {cells.column: cells for cells in lists.values()})
    messages += [leaks_text(found)] if found else []
    return Experiment(plan, table, splits, dict(modalities), task, targets, weights, messages, lost)


def _targets_read(plan: Plan) -> list[str]:
    """What a person should know of inputs that read what is to be predicted."""
    targets = {column for given in plan.recipe.form.predicted.values() for column in column_names(given.reads)}
    told = "which is to be predicted: figures will be too good; take it from the inputs"
    return [
        f"the modality {name!r} reads the column {column!r}, {told}"
        for name, given in plan.inputs.items()
        for column in given.columns
        if column in targets
    ]


def list_inputs(plan: Plan, table: Table, strict: bool = True) -> dict[str, ListCells]:
    """The cells of each input whose cells hold any number of values, taken apart.

    Args:
        plan: the resolved recipe.
        table: its rows.
        strict: whether a separator is refused where there are no texts to part, as in lists given from Python.

    Raises:
        TableError: a column has none that can be taken apart.
    """
    missing = plan.recipe.form.missing
    return {
        name: list_cells(table, given.columns[0], given.many.separator, missing, strict=strict)
        for name, given in plan.inputs.items()
        if given.many is not None
    }


def lost_modalities(
    table: Table,
    columns: Mapping[str, Sequence[str]],
    rate: float,
    seed: int,
    purpose: str,
    lists: Mapping[str, ListCells] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """For each modality (N,) bool, the rows that are to lose it, keyed by seed, purpose and its name: `lost_cells`."""
    seeds = {name: derive(seed, "missing_rate", purpose, name) for name in columns}
    return lost_cells(table, columns, rate, seeds, lists or {})


def _lost(
    plan: Plan,
    table: Table,
    splits: dict[str, NDArray[np.int64]],
    messages: list[str],
    lists: Mapping[str, ListCells],
) -> dict[str, NDArray[np.bool_]]:
    """What training and validation rows are made to lack; those that are left with nothing by it leave their splits."""
    training = plan.recipe.form.training
    missing = training.missing
    if not missing.rate:
        return {}
    columns: Mapping[str, Sequence[str]] = missing.among or {name: each.columns for name, each in plan.inputs.items()}
    drawn = lost_modalities(table, columns, missing.rate, training.seed, "training", lists)
    learned = np.zeros(len(table), bool)
    learned[np.concatenate([splits["train"], splits["validation"]])] = True
    lost = {name: drawn[name] & learned for name in plan.inputs}
    emptied = np.all([lost[name] for name in plan.inputs], axis=0)
    for split, rows in splits.items():
        splits[split] = rows[~emptied[rows]]
    if not missing.among:  # else the recipe of all of them tells it
        counts = ", ".join(f"{name} from {int(rows.sum()):,}" for name, rows in lost.items())
        messages.append(f"training.missing_rate takes {counts} of {int(learned.sum()):,} training and validation rows")
    return lost


def _read_tables(recipe: Recipe) -> Table | dict[str, Table]:
    """The recipe's table, or its tables by split."""
    tables = {
        split: open_table(
            _source(recipe, split, file), recipe.folder, missing=recipe.form.missing, remote=recipe.form.remote
        )
        for split, file in recipe.form.files().items()
    }
    return tables.get("", tables)


def _source(recipe: Recipe, split: str, file: TableFile) -> Any:
    """The object that stands for a table, or its file."""
    if file.path == IN_MEMORY:
        if split not in recipe.tables:
            raise TableError(f"{recipe.name} was made for a table in memory, which is not here; pass the table")
        return recipe.tables[split]
    return file


def _split(
    plan: Plan, tables: Table | dict[str, Table], target: TargetColumn, task: Task
) -> dict[str, NDArray[np.int64]]:
    """The rows of every split; none for one that there is not."""
    shares = _shares(plan.recipe.form.split)
    splits = split_rows(tables, shares, target.classes(task, shares), plan.recipe.form.training.seed)
    none = np.zeros(0, np.int64)
    if plan.recipe.form.training.refit:
        splits["train"] = np.sort(np.concatenate([splits["train"], splits.pop("validation", none)]))
    return {name: splits.get(name, none) for name in SPLITS}


def _shares(split: str | Fractions | None) -> str | dict[str, Any] | None:
    """What a recipe says of its split, as plain data."""
    return split.model_dump(exclude_unset=True) if isinstance(split, Fractions) else split


def target_column(plan: Plan, table: Table) -> TargetColumn:
    """What a recipe predicts, of a table."""
    return TargetColumn(table, {name: given.reads for name, given in plan.recipe.form.predicted.items()})


def true_targets(plan: Plan, table: Table, rows: NDArray[np.int64]) -> list[Any]:
    """The targets of some rows as plain values, for `write_predictions`; of several targets as dicts by target."""
    return target_column(plan, table).true(rows)


def fit_modality(
    given: InputPlan, table: Table, rows: NDArray[np.int64], seed: int, lists: ListCells | None = None
) -> Modality:
    """A modality built and fitted on raw training values, or as an earlier run has fitted it.

    Args:
        given: the input.
        table: its rows.
        rows: those that are learned from.
        seed: of the training.
        lists: the input's cells where they hold any number of values, each of which is learned from.
    """
    if given.takes_modality and given.earlier is not None:
        return given.earlier.restored_modality(given.new_modality(restored=True))
    modality = given.new_modality()
    with fitting(f"modality {given.name!r} (column {listed(given.columns)})"), seeded(seed, "fit", given.name):
        values, own = (table, rows) if lists is None else (lists.values, lists.places(rows))
        modality.fit_values(iter_present(modality, values, given.columns, own))
    return modality


def prepare_all(
    plan: Plan,
    table: Table,
    modalities: Mapping[str, Modality],
    cache: Path | None,
    progress: Callable[[int, int, str], None] | None = None,
    on_bad: OnBad | None = None,
    engine: Engine | None = None,
    remedy: str = IN_TRAINING,
) -> dict[str, Prepared]:
    """Decode every modality's values once, or find them in the cache.

    Args:
        plan: the resolved recipe.
        table: its rows.
        modalities: after `fit_values`.
        cache: the cache folder; None to keep the arrays in memory.
        progress: told the values done, their number, and the modality's name.
        on_bad: what to do about cells that cannot be loaded, instead of what the recipe says.
        engine: what loads them; threads of this process if not given.
        remedy: what can be done about such cells where the policy is to stop.

    Raises:
        DataError: cells cannot be loaded and the policy is to stop; lists the first of all modalities' bad cells.
    """
    prepared, lists = {}, list_inputs(plan, table, strict=False)
    for name, given in plan.inputs.items():
        cells = lists.get(name)
        values = prepare(
            modalities[name],
            table if cells is None else cells.values,
            given.columns,
            name=name,
            on_bad=on_bad or given.on_bad,
            cache_dir=cache,
            progress=progress,
            options=given.modality.options_with(lambda path: digest(path) or path),
            store=given.store,
            engine=engine,
        )
        prepared[name] = values if cells is None else cells.grouped(values)
    raise_bad(prepared.values(), remedy)
    return prepared


def build_model(
    recipe: Recipe | Mapping[str, Any] | str | Path, specs: Mapping[str, Specs] | None = None, task: Task | None = None
) -> MultimodalModel:
    """Build the model of a recipe, with new weights keyed to its seed.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        specs: what each modality gives; taken from the recipe's table if not given.
        task: a fitted task; fitted on the recipe's table if not given.

    Raises:
        RecipeError: the recipe is wrong, or its components do not fit together.
        TableError, TargetError: specs or task are not given and the table is wrong.
    """
    plan = resolve(read_recipe(recipe))
    if specs is not None and task is not None:
        return build(plan, specs, task)
    experiment = open_experiment(plan)
    return build(plan, {**experiment.specs, **(specs or {})}, task or experiment.task)
