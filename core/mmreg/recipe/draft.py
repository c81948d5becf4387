"""A first recipe for a table: looks at the values, chooses components, and says why."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmreg import registry
from mmreg.contract.interfaces import Modality
from mmreg.data.cells import iter_present
from mmreg.data.sources import open_table
from mmreg.data.splits import split_rows
from mmreg.data.table import Table
from mmreg.errors import MmregError, RecipeError, TableError
from mmreg.files import unwritable, write_text

SAMPLE = 200
"""Values of a column that are looked at."""
TARGET_NAMES = ("label", "target", "class", "category", "y", "labels", "sentiment", "rating")
KEY_NAMES = ("id", "key", "uid", "uuid", "row_id", "sample_id")
MANY_NUMBERS = 20
"""More different numbers than this in a target make it a regression."""


@dataclass
class _Draft:
    """A recipe in the making: lines of YAML with the reasons as comments."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str, reason: str = "") -> None:
        self.lines.append(f"{text}  # {' '.join(reason.split())}" if reason else text)


def write_recipe(table: str | Path, target: str | None, out: Path, *, overwrite: bool = False) -> str:
    """Write a recipe for a table.

    Args:
        table: the table's path.
        target: the column to predict; found by its name if it is None.
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


def draft_recipe(table: str | Path, target: str | None = None, folder: Path | None = None) -> str:
    """The text of a recipe for a table; see `write_recipe`. The table's path is written relative to the folder."""
    opened = open_table(table)
    guessed = target is None
    target = _target(opened, target)
    draft = _Draft()
    draft.add(f"table: {_quoted(_relative(str(table), folder))}")
    split, left = _split(opened, draft, target)
    values = [value for value in opened.iter_values(target) if not _is_empty(value)]
    task, reason = _task(opened, target, values)
    options = ", separator: ';'" if task == "multilabel" and ";" in reason else ""
    if guessed:
        reason += "; guessed by its name, --target names another"
    draft.add(f"target: {{column: {_quoted(target)}, task: {task}{options}}}", reason)
    key = next((c for c in left if c.lower() in KEY_NAMES and _is_unique(opened, c)), None)
    draft.add("modalities:")
    found = 0
    for column in left:
        if column == key:
            continue
        chosen = _modality(opened, column)
        if chosen is None:
            draft.add("", f"{column}: left out; {_why_left_out(opened, column)}")
            continue
        name, suggested, missing = chosen
        found += 1
        cls = registry.get("modality", name)
        assert issubclass(cls, Modality)
        settings = [f"type: {name}", f"column: {_quoted(column)}"]
        settings += [f"{key}: {_quoted(value)}" for key, (value, _) in suggested.items()]
        settings += [f"encoder: {cls.default_encoder}"]
        reasons = "; ".join(filter(None, [reason for _, reason in suggested.values()] + [missing]))
        settings += ["on_bad: absent"] if missing else []
        draft.add(f"  {_input_name(column)}: {{{', '.join(settings)}}}", reasons)
    if not found:
        raise TableError(
            f"{opened.name}: none of the columns {', '.join(left) or '(none left)'} is of an installed modality "
            f"({', '.join(registry.names('modality'))}); are relative paths in it relative to the table?"
        )
    _fusion(draft, task, found)
    if len(values) < len(opened):
        empty = len(opened) - len(values)
        rows = "1 row has" if empty == 1 else f"{empty} rows have"
        draft.add("on_bad: skip", f"{rows} no {target}; left out, as are rows with cells that cannot be loaded")
    epochs = int(np.clip(40_000 / max(split, 1), 20, 60))
    draft.add("training: " + _flow({"epochs": epochs, "batch_size": 64 if split >= 640 else 32, "seed": 0}))
    if key is not None:
        draft.add(f"key: {_quoted(key)}", "it names a row in predictions")
    return "\n".join(draft.lines) + "\n"


def _target(table: Table, target: str | None) -> str:
    if len(table.columns) == 1:
        raise TableError(
            f"{table.name} has a single column, {table.columns[0]!r}, where a target and an input are needed "
            "(is another character than the comma or tab its separator?)"
        )
    if target is not None:
        table.column(target)
        return target
    guess = next((c for name in TARGET_NAMES for c in table.columns if c.lower() == name), None)
    if guess is None:
        raise TableError(f"which column is to be predicted? Say it by --target; there are {', '.join(table.columns)}")
    return guess


def _split(table: Table, draft: _Draft, target: str) -> tuple[int, list[str]]:
    """Write the split; the number of training rows, and the columns that are neither target nor split."""
    left = [column for column in table.columns if column != target]
    for column in left:
        counts = _split_counts(table, column)
        if counts:
            named = ", ".join(f"{count} {name}" for name, count in counts.items())
            draft.add(f"split: {_quoted(column)}", named)
            return counts["train"], [c for c in left if c != column]
    share = 0.1 if len(table) >= 1000 else 0.15
    draft.add(f"split: {_flow({'validation': share, 'test': share})}", "no column says it, so at random, by the seed")
    return round((1 - 2 * share) * len(table)), left


def _split_counts(table: Table, column: str) -> dict[str, int]:
    """The rows of each split, if a column names splits; nothing otherwise."""
    try:
        splits = split_rows(table, column, None, 0)
    except (MmregError, TypeError, ValueError):  # its values are no splits
        return {}
    return {name: len(rows) for name, rows in splits.items()} if len(splits) > 1 else {}


def _is_empty(value: Any) -> bool:
    """Whether a target is none: null, or a number that is not finite."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _task(table: Table, target: str, values: list[Any]) -> tuple[str, str]:
    """The task that fits a target's values, and why.

    Raises:
        TableError: they fit none.
    """
    what = f"{table.name}: the target column {target!r}"
    if not values:
        raise TableError(f"{what} is empty")
    if any(isinstance(value, list | np.ndarray) for value in values):
        return "multilabel", "its values are lists"
    different = len(set(map(str, values)))
    if different == 1:
        raise TableError(f"{what} holds {values[0]!r} in every row; there is nothing to predict")
    if all(isinstance(value, str) for value in values) and sum(";" in value for value in values) > 0.2 * len(values):
        return "multilabel", "its values are lists with ';'"
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    unique = different == len(values)
    if numbers and (unique or different > MANY_NUMBERS or any(value != int(value) for value in values)):
        return "regression", f"it holds {different} different numbers"
    if unique or different > max(MANY_NUMBERS, len(values) / 2):
        few = sorted({str(value) for value in values[:3]})
        raise TableError(
            f"{what} holds {different} different values in {len(values)} rows, such as {', '.join(map(repr, few))}; "
            "choose a column whose values repeat, or one of numbers, by --target"
        )
    return "classification", f"it holds {different} different values"


def _modality(table: Table, column: str) -> tuple[str, dict[str, tuple[Any, str]], str] | None:
    """The modality that takes a column's values, those of files first, its options, and what is wrong with files."""
    rows = np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).astype(np.int64)
    for name, cls in _modalities():
        try:
            sample = list(iter_present(cls(), table, [column], rows))
            there = [value for value in sample if not isinstance(value, Path) or value.is_file()]
            suggested = cls.suggest(there) if 2 * len(there) >= len(sample) else None
        except (MmregError, TypeError, ValueError):  # not what it takes
            continue
        if suggested is not None:
            missing = len(sample) - len(there)
            reason = f"{missing} of the {len(sample)} files looked at are missing" if missing else ""
            return name, dict(suggested), reason
    return None


def _modalities() -> Iterator[tuple[str, Any]]:
    """The modalities of one column that can be imported and have an encoder, those that read files first."""
    classes = []
    for entry in registry.specs("modality"):
        try:
            cls: Any = registry.load(entry)
        except MmregError:
            continue
        if not cls.multiple_columns and cls.default_encoder is not None:
            classes.append((entry.reference if registry.ambiguous(entry) else entry.spec.name, cls))
    yield from sorted(classes, key=lambda pair: not pair[1].paths)


def _fusion(draft: _Draft, task: str, inputs: int) -> None:
    if inputs < 2:
        return
    if task == "regression":
        draft.add("fusion: concat", "one model over all modalities; mean averages a model of each")
        return
    draft.add(
        "fusion: product", "a model of each modality, their predictions multiplied; concat fuses features instead"
    )


def _why_left_out(table: Table, column: str) -> str:
    values = [value for value in table.iter_values(column) if value is not None][:SAMPLE]
    if not values:
        return "it is empty"
    if all(isinstance(value, int | float) for value in values):
        return "numbers; no installed modality reads them"
    if all(Path(str(value)).suffix for value in values):
        return "files that are missing, or that no installed modality reads"
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):
        return f"{len(set(texts))} different words, rather a label than a text; type: text would read them"
    return "no installed modality reads such values"


def _is_unique(table: Table, column: str) -> bool:
    values = list(table.iter_values(column))
    return len(set(values)) == len(values)


def _input_name(column: str) -> str:
    return _quoted("".join("_" if c in "./\\,=+" else c for c in column))


def _relative(table: str, folder: Path | None) -> str:
    """The table's path relative to the recipe's folder, where that is no detour."""
    if "://" in table:
        return table
    path, base = (Path(os.path.normpath(p.absolute())) for p in (Path(table), folder or Path()))
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _quoted(value: Any) -> str:
    """A value as YAML writes it in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip().removesuffix("\n...")
    )


def _flow(data: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_quoted(value)}" for key, value in data.items()) + "}"
