"""Which modalities and encoders fit a table's columns, and why: what these themselves say of a sample of the values."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmreg import registry
from mmreg.contract.interfaces import Encoder, EncoderSuggestion, Modality
from mmreg.data.cells import iter_column
from mmreg.data.list_cells import json_list
from mmreg.data.located import Unreadable
from mmreg.data.lookalikes import numbers_with_commas
from mmreg.data.table import Table
from mmreg.errors import MmregError, ValueLoadError
from mmreg.files import irregular
from mmreg.messages import LONGEST, plural, shortened
from mmreg.recipe.finder import Finder
from mmreg.recipe.suggest_lists import parted
from mmreg.registry.describing import ambiguous, needs

SAMPLE = 200
"""Values of a column that are looked at."""
TRIED = 16
"""Files of these that are loaded, to see whether they can be."""
SECONDS = 5.0
"""After so long no further file is tried."""
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}|\d{4}([./])\d{1,2}\2\d{1,2}|\d\d([./-])\d\d\3\d\d", re.ASCII)
"""A date in another order than that of ISO 8601, or with other signs; a version such as 1.2.10 is none."""


@dataclass(frozen=True)
class Suggestion:
    """A modality for a column, or for several together.

    Attributes:
        modality: its name in the registry.
        cls: its class.
        columns: what it is to read.
        options: those that should differ from their defaults, each with the reason.
        missing: what is to be said of values that are not there, such as files, and of cells that cannot be loaded;
            empty if there are none.
        sample: some of the values that are there, as the modality's `load` takes them; empty for several columns.
        lists: the recipe's keys for cells that hold several values each, with the reasons; none where they do not.
        name: what its input may be called.
    """

    modality: str
    cls: type[Modality]
    columns: tuple[str, ...]
    options: Mapping[str, tuple[Any, str]]
    missing: str = ""
    sample: Sequence[Any] = ()
    lists: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    name: str = ""


def suggest(table: Table, columns: Sequence[str]) -> list[Suggestion]:
    """Modalities for some columns, those of one column first; columns that fit none are in no suggestion.

    A column goes to the first modality of one column that takes it, those that read files before others, and then to
    each that reads something else in the same values; or to one that takes the values that its cells hold, where these
    hold several. What is left is shown to the modalities of several columns, one after the other.
    """
    rows = np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).astype(np.int64)
    known = list(_modalities())
    single = [(name, cls) for name, cls in known if not cls.multiple_columns and _can_be_built(cls)]
    found = [each for column in columns if (each := _for_cells(table, column, rows, single)) is not None]
    found = [part for each in found for part in (each, *(() if each.lists else _beside(each, single)))]
    claimed = {column for each in found for column in each.columns}
    left = [column for column in columns if column not in claimed]
    for name, cls in known:
        if cls.multiple_columns:
            several = _for_columns(table, left, rows, name, cls)
            if several is not None:
                found.append(several)
                taken = set(several.columns)
                left = [column for column in left if column not in taken]
    return found


def suggest_encoder(suggestion: Suggestion, rows: int) -> tuple[str, EncoderSuggestion, frozenset[str]] | None:
    """The encoder that speaks up for a suggestion's column with the highest rank, if one does.

    Args:
        suggestion: of a modality of one column.
        rows: how many rows there are to learn from.

    Returns:
        Its name, what it proposes, and the modality's options that it sets itself; None to leave the modality's own
        choice. Of equal ranks the first name in alphabetical order counts.
    """
    found = []
    options = {name: value for name, (value, _) in suggestion.options.items()}
    for entry in registry.specs("encoder") if suggestion.sample else ():
        try:
            if needs(entry.spec):
                continue
            cls: type[Encoder] = registry.load(entry)
            proposal = cls.suggest(suggestion.modality.rpartition(":")[2], suggestion.sample, rows, options)
            if proposal is None or proposal.rank <= 0:
                continue
            component = Finder(None).component("encoder", entry.reference, proposal.options, ())
            if component is not None:
                settings = {*cls.modality_options(component.options), *cls.modality_defaults(component.options)}
                name = entry.reference if ambiguous(entry) else entry.spec.name
                found.append((-proposal.rank, name, proposal, frozenset(settings)))
        except Exception:  # whatever a plugin's code raises; it has nothing to propose
            continue
    if not found:
        return None
    return min(found, key=lambda each: each[:2])[1:]


def why_left_out(table: Table, column: str) -> str:
    """Why a column is in no suggestion, in a few words."""
    if column in table.unreadable:
        return f"it cannot be read ({table.unreadable[column]})"
    values = list(islice((value for value in table.iter_values(column) if value is not None), SAMPLE))
    if not values:
        return "it is empty"
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values) and (commas := numbers_with_commas(pa.array(texts))):
        return f"{commas.some_of(len(texts))}its numbers have {commas.what}, so they are texts"
    if len(texts) == len(values) and all(_DATE.fullmatch(text) for text in texts):
        return "its dates are texts; as 2024-05-31 they would be dates (ISO 8601)"
    if len(texts) == len(values) and all(_has_ending(text) for text in texts):
        return "files that are missing or damaged, or that no installed modality reads"
    first = values[0]
    if isinstance(first, Hashable) and len(values) > 1 and all(value == first for value in values):
        return f"it holds {shortened(str(first))} alone, as far as it was looked at"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "numbers that no installed modality would take, such as numbers of rows"
    if len(texts) < len(values):
        kind = "Python objects" if column in table.objects else shortened(str(table.column(column).type))
        return f"no installed modality reads such values ({kind})"
    if len(texts) > 20 and len(set(texts)) == len(texts):
        looked_at = f"{len(texts)} of its cells were looked at"
        return f"{looked_at}, and no two are alike, as names of rows are; type: text would read them"
    among = f" among the first {len(texts):,}" if len(texts) == SAMPLE else ""
    words = plural(len(set(texts)), "different word")
    return f"{words}{among}, rather a label than a text; type: text would read them"


def _has_ending(text: str) -> bool:
    """Whether a text ends as a file's name may, unlike a number."""
    return any(character.isalpha() for character in Path(text).suffix)


def _modalities() -> Iterator[tuple[str, type[Modality]]]:
    """The modalities that can be imported and have an encoder, those that read files first."""
    classes = []
    for entry in registry.specs("modality"):
        try:
            cls: Any = registry.load(entry)
        except MmregError:
            continue
        if cls.default_encoder is not None:
            classes.append((entry.spec.name if registry.row(entry)["status"] == "ok" else entry.reference, cls))
    yield from sorted(classes, key=lambda pair: not pair[1].paths)


def _can_be_built(cls: type[Modality]) -> bool:
    """Whether a modality needs no options."""
    try:
        cls()
    except (MmregError, TypeError, ValueError):
        return False
    return True


def _for_cells(
    table: Table, column: str, rows: NDArray[np.int64], known: Sequence[tuple[str, type[Modality]]]
) -> Suggestion | None:
    """What takes a column's cells; or the values in them, where these are files and their cells are not."""
    if (taken := _for_number_lists(table, column, rows, known)) is not None:
        return taken
    files = _for_column(table, column, rows, [each for each in known if each[1].paths])
    if files is not None and not (files.missing and any(isinstance(value, Path) for value in files.sample)):
        return files
    for cells, keys, files_alone in parted(table.select(rows), column):
        readers = [(name, cls) for name, cls in known if cls.paths or not files_alone]
        every = np.arange(len(cells.values))
        found = _for_number_lists(cells.values, column, every, known) or _for_column(
            cells.values, column, every, readers
        )
        if found is not None and (files is None or len(found.sample) > len(files.sample)):
            return replace(found, lists=keys)
    return files or _for_column(table, column, rows, known)


def _number_lists(table: Table, column: str, rows: NDArray[np.int64]) -> list[NDArray[Any]] | None:
    """A column's values as arrays, where each is a list of numbers as text; else None."""
    arrays: list[NDArray[Any]] = []
    for value in () if column in table.unreadable else iter_column(table, column, paths=False, rows=rows):
        if value is None:
            continue
        found = json_list(value) if isinstance(value, str) else None
        array = _as_numbers(found) if found is not None else None
        if array is None:
            return None
        arrays.append(array)
    return arrays if any(array.size for array in arrays) else None


def _as_numbers(value: list[Any]) -> NDArray[Any] | None:
    """A list from JSON as an array of numbers, NaN where one is null; None if it is something else."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and {type(each) for each in array.flat} <= {int, float, NoneType}:
            array = np.array(value, np.float64)
    except (ValueError, OverflowError):  # lists of differing lengths; an integer that fits no float
        return None
    return array if array.dtype.kind in "iuf" else None


def _for_number_lists(
    table: Table, column: str, rows: NDArray[np.int64], known: Sequence[tuple[str, type[Modality]]]
) -> Suggestion | None:
    """The first of these modalities that takes a column's lists of numbers as text; None if it holds other values."""
    arrays = _number_lists(table, column, rows)
    if arrays is None:
        return None
    sample = [array for array in arrays if array.size]
    for name, cls in known:
        try:
            options = cls.suggest(sample)
            if options is None:
                continue
            told = _cannot_load(_refused(cls, options, arrays), len(arrays))
            return Suggestion(name, cls, (column,), dict(options), told, sample, name=column)
        except Exception:  # whatever a plugin's code raises; it is not what it takes
            continue
    return None


def _for_column(
    table: Table, column: str, rows: NDArray[np.int64], known: Sequence[tuple[str, type[Modality]]]
) -> Suggestion | None:
    """The first of these modalities that takes a column's values."""
    samples: dict[bool, tuple[list[Any], list[Any], list[str]]] = {}
    for name, cls in known:
        try:
            if cls.paths not in samples:
                sample, broken = _present(table, column, rows, paths=cls.paths)
                is_there = {path: _is_there(path) for path in {value for value in sample if isinstance(value, Path)}}
                there = [value for value in sample if not isinstance(value, Path) or is_there[value]]
                samples[cls.paths] = sample, there, broken
            sample, there, broken = samples[cls.paths]
            options = cls.suggest(there) if 2 * len(there) >= len(sample) else None
            if options is None:
                continue
            missing = len(sample) - len(there)
            lacks = f"{missing} of the {plural(len(sample), 'file')} looked at are missing" if missing else ""
            bad = _cannot_load([*broken, *_refused(cls, options, there)], len(sample) + len(broken))
            damaged = _damaged(cls, options, there)
            if damaged is None:
                continue
            told = "; ".join(filter(None, [lacks, bad, damaged]))
            return Suggestion(name, cls, (column,), dict(options), told, there, name=column)
        except Exception:  # whatever a plugin's code raises; it is not what it takes
            continue
    return None


def _beside(chosen: Suggestion, known: Sequence[tuple[str, type[Modality]]]) -> Iterator[Suggestion]:
    """What other modalities read in the column of a suggestion."""
    for name, cls in known:
        try:
            proposal = cls.suggest_beside(chosen.modality.rpartition(":")[2], chosen.sample)
            if proposal is None or cls is chosen.cls:
                continue
            options, told = proposal
            missing = "; ".join(filter(None, [chosen.missing, told]))
            called = f"{chosen.name}_{name.rpartition(':')[2]}"
            yield Suggestion(name, cls, chosen.columns, dict(options), missing, chosen.sample, name=called)
        except Exception:  # whatever a plugin's code raises; it has nothing to propose
            continue


def _present(table: Table, column: str, rows: NDArray[np.int64], *, paths: bool) -> tuple[list[Any], list[str]]:
    """The values of those of the rows that have one, and why other rows' cells cannot become values."""
    values = [value for value in iter_column(table, column, paths=paths, rows=rows) if value is not None]
    broken = [value.cause for value in values if isinstance(value, Unreadable)]
    return [value for value in values if not isinstance(value, Unreadable)], broken


def _cannot_load(causes: Sequence[str], cells: int) -> str:
    """What is to be said of those of some cells that cannot be loaded; empty if all can."""
    if not causes:
        return ""
    return f"{len(causes)} of the {plural(cells, 'cell')} looked at cannot be loaded ({shortened(causes[0])})"


def _refused(cls: type[Modality], options: Mapping[str, tuple[Any, str]], sample: Sequence[Any]) -> list[str]:
    """Why a modality cannot load some of a column's arrays; of files see `_damaged`."""
    values = [value for value in sample if isinstance(value, np.ndarray)]
    return [cause for _, cause in _loaded(cls, options, values) if cause]


def _damaged(cls: type[Modality], options: Mapping[str, tuple[Any, str]], sample: Sequence[Any]) -> str | None:
    """What is to be said of files that a modality cannot load, of a few that are tried; None if it can load none."""
    files = list(dict.fromkeys(value for value in sample if isinstance(value, Path | bytes)))
    # At random, as every so many files may be alike.
    chosen = np.sort(np.random.default_rng(0).permutation(len(files))[:TRIED])
    until = time.monotonic() + SECONDS
    tried = list(takewhile(lambda _: time.monotonic() < until, _loaded(cls, options, [files[at] for at in chosen])))
    bad = [(file, cause) for file, cause in tried if cause]
    if not bad:
        return ""
    if len(bad) == len(chosen):
        return None
    file, cause = bad[0]
    first = f"{shortened(file.name)}: {shortened(cause, LONGEST)}" if isinstance(file, Path) else shortened(cause)
    return f"{len(bad)} of the {plural(len(tried), 'file')} tried cannot be loaded (first: {first})"


def _loaded(
    cls: type[Modality], options: Mapping[str, tuple[Any, str]], values: Sequence[Any]
) -> Iterator[tuple[Any, str]]:
    """Values that are loaded one by one, each with the reason why it cannot be; an empty one if it can."""
    if not values:
        return
    modality = cls(**{key: value for key, (value, _) in options.items()})
    modality.fit_values(iter(values))
    for value in values:
        try:
            modality.load(value)
        except ValueLoadError as error:
            yield value, str(error)
        else:
            yield value, ""


def _is_there(path: Path) -> bool:
    """Whether a modality may look at a path: a file or folder, not a long text, nor what is waited for forever."""
    return os.path.exists(path) and irregular(path) in ("", "a folder")  # noqa: PTH110 (refuses no name that a file cannot have)


def _for_columns(
    table: Table, columns: Sequence[str], rows: NDArray[np.int64], name: str, cls: type[Modality]
) -> Suggestion | None:
    """What a modality of several columns takes of these, if it takes any."""
    samples = {}
    for column in columns:
        with contextlib.suppress(MmregError):  # a column whose values cannot be read
            there, _ = _present(table, column, rows, paths=cls.paths)
            if there:
                samples[column] = there
    try:
        found = cls.suggest_columns(samples) if samples else None
        if found is None:
            return None
        names, options = found
        taken = {*names}
        together = tuple(column for column in samples if column in taken)
        return Suggestion(name, cls, together, dict(options), name=name) if together else None
    except Exception:  # whatever a plugin's code raises; it is not what it takes
        return None
