"""Tables of Hugging Face data sets: what the datasets library keeps as Arrow files, mapped into memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mmreg.errors import TableError
from mmreg.messages import near, one_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SAVED = ("dataset_dict.json", "state.json")
"""Files of what `save_to_disk` wrote: of several splits, and of one."""


def read(name: str) -> pa.Table:
    """The rows of a data set: pictures, sounds and videos as they are kept, not decoded; classes by their names.

    Args:
        name: `datasets://NAME:CONFIG#SPLIT`, where NAME is that of the Hub, a folder that `save_to_disk` wrote, or one
            that `load_dataset` takes. CONFIG and SPLIT may be left out where there is one.

    Raises:
        TableError: the datasets library is missing, or there is no such data set, configuration or split.
    """
    place, _, split = name.partition("://")[2].partition("#")
    if re.match(r"[^/]*:[^/]*@", place):
        raise TableError("datasets:// takes no user and password; credentials are read from the environment alone")
    try:
        import datasets
    except ImportError as error:
        raise TableError(
            "the package 'datasets' is needed, and is not installed: pip install \"mmreg[datasets]\""
        ) from error
    try:
        found = _loaded(datasets, place)
    except (OSError, ValueError, RuntimeError, ImportError, TypeError, KeyError) as error:
        raise TableError(f"the datasets library cannot load {place!r}: {one_line(error)}") from error
    return _arrow(datasets, _chosen(found, split))


def _loaded(datasets: Any, place: str) -> Dataset | DatasetDict:
    folder = Path(place).expanduser()
    if any((folder / each).is_file() for each in SAVED):
        return datasets.load_from_disk(str(folder))
    path, colon, config = place.rpartition(":")
    if not colon or "/" in config or "\\" in config:
        path, config = place, ""
    local = Path(path).expanduser()
    return datasets.load_dataset(str(local) if local.exists() else path, config or None)


def _chosen(found: Dataset | DatasetDict, split: str) -> Dataset:
    """The split that is meant."""
    if not isinstance(found, dict):
        if split and str(found.split or split) != split:
            raise TableError(f"the data set is of the split {found.split!s}, not {split!r}")
        return found
    if not split and len(found) == 1:
        return next(iter(found.values()))
    if split in found:
        return found[split]
    there = f"its splits are {', '.join(map(str, found))}"
    if not split:
        raise TableError(f"which split? Name it as in datasets://NAME#SPLIT; {there}")
    raise TableError(f"the data set has no split {split!r}{near(split, list(map(str, found)))}; {there}")


def _arrow(datasets: Any, rows: Dataset) -> pa.Table:
    """The rows as the library keeps them, which decodes nothing."""
    if getattr(rows, "_indices", None) is not None:  # rows that were chosen or shuffled
        rows = rows.flatten_indices()
    table = rows.data.table
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.ClassLabel):
            at = table.column_names.index(name)
            numbers = table.column(name)
            known = pc.if_else(pc.greater_equal(numbers, 0), numbers, None)  # -1 where there is none
            table = table.set_column(at, name, pa.array(feature.names, pa.string()).take(known.combine_chunks()))
    return table.replace_schema_metadata(None)
