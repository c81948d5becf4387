"""A first recipe for a table: looks at the values, chooses components, and says why."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmreg import registry
from mmreg.contract.target_values import TargetValues
from mmreg.data.dialect import TableFile
from mmreg.data.hashing import is_text
from mmreg.data.identity import value_codes
from mmreg.data.lookalikes import notes
from mmreg.data.sources import open_table
from mmreg.data.splits import few_validation, split_rows
from mmreg.data.table import SEPARATOR_HINT, Table
from mmreg.data.targets import TargetColumn
from mmreg.errors import MmregError, RecipeError, TableError
from mmreg.files import unwritable, write_text
from mmreg.messages import listed, plural
from mmreg.recipe.draft_survival import survival_note
from mmreg.recipe.draft_target import TaskChoice, choose_task
from mmreg.recipe.suggestions import Suggestion, suggest, suggest_encoder, why_left_out
from mmreg.recipe.yaml import yaml_text

TARGET_NAMES = ("label", "target", "class", "category", "y", "labels", "sentiment", "rating")
KEY_NAMES = ("id", "key", "__key__", "uid", "uuid", "row_id", "sample_id")
OWNERS = {"patient", "subject", "participant", "person", "user", "customer", "client", "speaker", "author", "writer"}
OWNERS |= {"singer", "artist", "animal", "donor", "family", "household", "session", "group"}
"""Words in a column's name that say whose a row is."""
FEWEST_OWNERS = 10
"""Different values from which such a column names those whom rows are of, and not kinds of rows."""
ENOUGH_TO_CALIBRATE = 100
"""Validation rows from which each modality's confidence is measured on them; a few that are all right would make it far
too sure."""
MOST_LINES = 100
"""Columns of which it is said why they are left out, and what is strange about them."""
LONGEST_NAME = 100
"""Characters of a column's name that its input is called by."""


@dataclass
class _Draft:
    """A recipe in the making: lines of YAML with the reasons as comments."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str, reason: str = "") -> None:
        self.lines.append(f"{text}  # {' '.join(reason.split())}" if reason else text)


def write_recipe(table: TableFile, target: str | Sequence[str] | None, out: Path, *, overwrite: bool = False) -> str:
    """Write a recipe for a table.

    Args:
        table: the table's file.
        target: the column to predict, or several; found by its name if it is None.
        out: the file to write.
        overwrite: whether to replace a file that is there.

    Returns:
        The recipe's text.

    Raises:
        RecipeError: the file is there already, or cannot be written.
        TableError: the table is wrong, no target is given or found, or no column is of an installed modality.
    """
    if out.exists() and not overwrite:
        raise RecipeError(f"{str(out)!r} is there already; name another file by --out, or replace it by --overwrite")
    why = unwritable(out)
    if why is not None:
        raise RecipeError(f"the recipe {str(out)!r} cannot be written: {why}")
    text = draft_recipe(table, target, out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return text


def draft_recipe(table: TableFile, target: str | Sequence[str] | None = None, folder: Path | None = None) -> str:
    """The text of a recipe for a table; see `write_recipe`. The table's path is written relative to the folder."""
    opened = open_table(table, cells=folder)
    given = [target] if isinstance(target, str) else target or ()
    predicted = _predicted(opened, given)
    draft = _Draft()
    draft.add(f"table: {_table(table, folder)}")
    split, why, train, left = _split(opened, predicted)
    targets = {column: TargetValues(opened.column(column), opened.objects.get(column)) for column in predicted}
    tasks = {
        column: choose_task(opened, column, values.select(np.flatnonzero(~values.missing())), split)
        for column, values in targets.items()
    }
    split = next((task.split for task in tasks.values() if task.split != split), split)
    draft.add(f"split: {_quoted(split) if isinstance(split, str) else _flow(split)}", why)
    owner = next((column for column in left if _is_owner(opened, column)), None)
    if owner is not None and not isinstance(split, str):
        apart = _flow({**split, "by": owner})
        draft.add("", f"note: rows of one {owner} may be in several splits, so that figures are too good for new ones;")
        draft.add("", f"split: {apart} keeps them together; take {owner} from the inputs then")
    _targets(draft, tasks, "" if given else "; guessed by its name, --target names another")
    if survival := survival_note(opened):
        draft.add("", f"note: {survival}")
    key = next((c for c in left if c.lower() in KEY_NAMES and _is_unique(opened, c)), None)
    draft.add("modalities:")
    whole = [column for column in left if any(each.startswith(f"{column}.") for each in predicted)]
    columns = [column for column in left if column != key and column not in whole]
    suggestions = suggest(opened, columns)
    if not suggestions:
        parts = dict.fromkeys(whole, "the target is a part of it")
        sure = parts if key is None else {**parts, key: "it names the rows"}
        reasons = [f"\n  {each}: {sure.get(each) or why_left_out(opened, each)}" for each in left[:MOST_LINES]]
        raise TableError(
            f"{opened.name}: none of the columns {listed(left) or '(none left)'} is of an installed modality "
            f"({', '.join(registry.names('modality'))}); paths of files are relative to the table, and a recipe of "
            f"your own may say what a column is: modalities: {{NAME: {{type: text, column: COLUMN}}}}{''.join(reasons)}"
        )
    _inputs(draft, opened, columns, suggestions, train)
    for column in whole:
        draft.add("", f"{column}: left out; the target is a part of it")
    for note in notes(opened, predicted, "; then on_bad: skip leaves out rows without a target"):
        draft.add("", f"note: {note}")
    for note in islice(notes(opened, columns), MOST_LINES):
        draft.add("", f"note: {note}")
    held_out = (
        _split_counts(opened, split).get("validation", 0)
        if isinstance(split, str)
        else round(split["validation"] * len(opened))
    )
    for told in few_validation(held_out):
        draft.add("", told)
    _fusion(draft, [task.name for task in tasks.values()], len(suggestions), held_out)
    known = TargetColumn(opened, predicted[0] if len(predicted) == 1 else {name: name for name in predicted})
    if lacking := known.lacking(np.arange(len(opened))):
        draft.add("on_bad: skip", f"{lacking}; left out, as are rows with cells that cannot be loaded")
    epochs = int(np.clip(40_000 / max(train, 1), 20, 60))
    training: dict[str, Any] = {"epochs": epochs, "batch_size": 64 if train >= 640 else 32, "seed": 0}
    # Of several targets none is the one by which the weights are to be chosen.
    metric = tasks[predicted[0]].metric if len(predicted) == 1 else None
    if metric is None:
        draft.add(f"training: {_flow(training)}")
    else:
        draft.add(
            f"training: {_flow({**training, 'metric': metric})}", "the metric that suits the target, as said there"
        )
    if key is not None:
        draft.add(f"key: {_quoted(key)}", "it names a row in predictions")
    return "\n".join(draft.lines) + "\n"


def _predicted(table: Table, given: Sequence[str]) -> list[str]:
    """The columns to predict: those that are given, each once, or the one that is guessed."""
    if len(table.columns) == 1:
        raise TableError(
            f"{table.name} has a single column, {table.columns[0]!r}, where a target and an input are needed "
            f"({SEPARATOR_HINT})"
        )
    if given:
        for column in given:
            table.column(column)
        return list(dict.fromkeys(given))
    guess = next((c for name in TARGET_NAMES for c in table.columns if c.lower() == name), None)
    if guess is None:
        raise TableError(f"which column is to be predicted? Say it by --target; there are {listed(table.columns, 20)}")
    return [guess]


def _targets(draft: _Draft, tasks: dict[str, TaskChoice], guessed: str) -> None:
    """Write what is predicted, and what is odd about it: one target, or several by name."""
    names = [""] if len(tasks) == 1 else _names(tasks, "./\\,=+: ")
    draft.lines += [] if len(tasks) == 1 else ["targets:"]
    for name, (column, task) in zip(names, tasks.items(), strict=True):
        key = f"  {_quoted(name)}" if name else "target"
        draft.add(f"{key}: {_flow({'column': column, 'task': task.name, **task.options})}", f"{task.reason}{guessed}")
        for concern in task.concerns:
            draft.add("", f"{name}: {concern.text}" if name else concern.text)


def _split(table: Table, targets: Sequence[str]) -> tuple[str | dict[str, Any], str, int, list[str]]:
    """The split and why, the number of training rows, and the columns that are neither target nor split."""
    left = [column for column in table.columns if column not in targets]
    for column in left:
        counts = _split_counts(table, column)
        if counts:
            named = ", ".join(f"{count} {name}" for name, count in counts.items())
            return column, named, counts["train"], [c for c in left if c != column]
    share = 0.1 if len(table) >= 1000 else 0.15
    split = {"validation": share, "test": share}
    return split, "no column says it, so at random, by the seed", round((1 - 2 * share) * len(table)), left


def _split_counts(table: Table, column: str) -> dict[str, int]:
    """The rows of each split, if a column names splits; nothing otherwise."""
    if column in table.unreadable or not is_text(table.column(column).type):
        return {}
    try:
        splits = split_rows(table, column, None, 0)
    except (MmregError, TypeError, ValueError):  # its values are no splits
        return {}
    return {name: len(rows) for name, rows in splits.items()} if len(splits) > 1 else {}


def _inputs(draft: _Draft, table: Table, columns: list[str], suggestions: list[Suggestion], rows: int) -> None:
    """Write the modalities in the columns' order, and why a column is left out."""
    by_column: dict[str, list[tuple[str, Suggestion]]] = {}
    for name, each in zip(_names([each.name for each in suggestions], "./\\,=+"), suggestions, strict=True):
        for column in each.columns:
            by_column.setdefault(column, []).append((name, each))
    left_out = 0
    for column in columns:
        if column not in by_column:
            left_out += 1
            if left_out <= MOST_LINES:
                draft.add("", f"{column}: left out; {why_left_out(table, column)}")
        for name, chosen in by_column.get(column, ()):
            if column != chosen.columns[0]:
                continue
            reads = f"column: {_quoted(column)}"
            if chosen.cls.multiple_columns:
                reads = f"columns: {_quoted(list(chosen.columns))}"
            settings = [f"type: {chosen.modality}", reads]
            encoder, why, needs = _encoder(chosen, rows)
            options = {key: given for key, given in chosen.options.items() if key not in needs}
            options = {**chosen.lists, **options}
            settings += [f"{key}: {_quoted(value)}" for key, (value, _) in options.items()]
            settings += [f"encoder: {encoder}"]
            settings += ["on_bad: absent"] if chosen.missing else []
            reasons = "; ".join(filter(None, [*(reason for _, reason in options.values()), why, chosen.missing]))
            draft.add(f"  {_quoted(name)}: {{{', '.join(settings)}}}", reasons)

    if left_out > MOST_LINES:
        draft.add("", f"{plural(left_out - MOST_LINES, 'more column')}: left out")


def _encoder(chosen: Suggestion, rows: int) -> tuple[str, str, frozenset[str]]:
    """The encoder as the recipe writes it, why, and the modality's options that it sets itself."""
    found = suggest_encoder(chosen, rows)
    if found is None:
        return str(chosen.cls.default_encoder), "", frozenset()
    name, proposal, needs = found
    return _flow({"name": name, **proposal.options}) if proposal.options else name, proposal.reason, needs


def _fusion(draft: _Draft, tasks: Sequence[str], inputs: int, held_out: int) -> None:
    """Write how the inputs are fused.

    Args:
        draft: to write to.
        tasks: of the targets.
        inputs: how many modalities there are.
        held_out: how many validation rows.
    """
    if inputs < 2:
        return
    if len(tasks) > 1:
        draft.add("fusion: concat", "one model over all modalities, with a head for each target")
        return
    if tasks[0] == "regression":
        draft.add("fusion: concat", "one model over all modalities; mean averages a model of each")
        return
    if held_out >= ENOUGH_TO_CALIBRATE:
        draft.add(
            "fusion: calibrated",
            "a model of each modality, their predictions multiplied, each as far as it is to be trusted on validation "
            "rows; concat fuses features instead",
        )
        return
    draft.add(
        "fusion: product", "a model of each modality, their predictions multiplied; concat fuses features instead"
    )


def _is_unique(table: Table, column: str) -> bool:
    """Whether a column's values tell its rows apart."""
    if column in table.objects or column in table.unreadable or pa.types.is_nested(table.column(column).type):
        return False
    return len(np.unique(value_codes(table, column, paths=False))) == len(table)


def _is_owner(table: Table, column: str) -> bool:
    """Whether a column says whose each row is, where most have several: by its name, and as its values come again."""
    words = re.findall("[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
    if not (OWNERS & set(words) or column.lower() in KEY_NAMES):
        return False
    if column in table.objects or column in table.unreadable or pa.types.is_nested(table.column(column).type):
        return False
    codes = value_codes(table, column, paths=False)
    known = codes[codes >= 0]
    return FEWEST_OWNERS <= len(np.unique(known)) <= len(known) / 2


def _names(columns: Iterable[str], refused: str) -> list[str]:
    """For each column or modality the name of its input or target, none of which occurs twice.

    Args:
        columns: what they are called.
        refused: characters that a name must not hold.
    """
    given: dict[str, int] = {}
    names = []
    for column in columns:
        # YAML takes no long keys.
        plain = "".join("_" if c in refused or not c.isprintable() else c for c in column[:LONGEST_NAME])
        name = plain or "unnamed"
        while name in given:
            given[plain] = given.get(plain, 0) + 1
            name = f"{plain}_{given[plain] if given[plain] > 1 else ''}"
        given[name] = 0
        names.append(name)
    return names


def _table(table: TableFile, folder: Path | None) -> str:
    """The table's path, with what was said of the file."""
    path = _relative(str(table.path), folder)
    said = {"separator": table.separator, "encoding": table.encoding}
    said = {key: value for key, value in said.items() if value is not None}
    return _flow({"path": path, **said}) if said else _quoted(path)


def _relative(table: str, folder: Path | None) -> str:
    """The table's path relative to the recipe's folder, where that is no detour."""
    if "://" in table:
        return table
    path, base = (Path(os.path.normpath(p.absolute())) for p in (Path(table), folder or Path()))
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _quoted(value: Any) -> str:
    """A value as YAML writes it in one line."""
    return yaml_text(value, flow=True)


def _flow(data: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_quoted(value)}" for key, value in data.items()) + "}"
