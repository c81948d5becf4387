"""Which rows are for training, validation and test.

Axes: N rows, G groups, K classes, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmreg.contract.target_values import in_order
from mmreg.data.identity import value_codes
from mmreg.data.table import Table, concat_tables
from mmreg.errors import TableError
from mmreg.messages import listed, plural, shown

SPLITS = ("train", "validation", "test")
_NAMES = {"val": "validation", "valid": "validation", "dev": "validation", **{name: name for name in SPLITS}}
_DEFAULT = {"validation": 0.1, "test": 0.1}
FEW = 10
"""Validation rows below which one row more or less that is right changes a share of them by more than a tenth."""


def few_validation(count: int) -> list[str]:
    """What a person should know of weights that are chosen by so many validation rows; nothing where they are enough.

    Without any, nothing is chosen.
    """
    if not 0 < count < FEW:
        return []
    return [
        f"the weights are chosen by {plural(count, 'validation row')}, so mostly by chance; let there be {FEW} or more "
        "(a greater share, or more rows that the split column names so), or keep those of the last epoch "
        "(training.keep: last)"
    ]


def split_rows(
    table: Table | Mapping[str, Table],
    split: str | Mapping[str, Any] | None,
    target_values: Sequence[Any] | NDArray[Any] | None,
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """The rows of each split that has any, in the table's order.

    Args:
        table: the rows; or a table for each split: then the rows are those of `concat_tables(list(table.values()))`.
        split: a column that holds train, validation (val, valid, dev) or test; or the shares `validation` and `test`
            (0.1 each if not given), the rest being for training, with `by` (a column whose equal values stay together;
            rows without one stand alone), `stratify` (every class gets the same shares; None: where there are
            classes and no `by`) and a `seed` of its own; None for all these defaults. Where there is a table for each
            split, shares may be given for those that have none; their rows are taken from the training rows. With
            `folds` the test rows are those of the part `fold` of that many, and `validation` is a share of the others;
            rows that a `column` or a table says are for testing are then in no split.
        target_values: the rows' classes (N,); None if the target is no class.
        seed: of a random split that has none of its own. The same rows in the same order with the same seed are split
            the same.

    Raises:
        TableError: no row is left for training, the column holds other words, the shares leave nothing for training,
            or there are fewer groups than splits.
    """
    if isinstance(split, Mapping) and split.get("folds"):
        return _in_folds(table, {**_DEFAULT, **split}, target_values, seed)
    if isinstance(table, Table):
        if isinstance(split, str):
            return _by_column(table, split)
        return _at_random(table, {**_DEFAULT, **(split or {})}, target_values, seed)
    rows, joined = {}, 0
    for name, part in table.items():
        rows[_NAMES.get(name, name)] = np.arange(joined, joined + len(part))
        joined += len(part)
    if "train" not in rows:
        raise TableError(f"one of the tables must be for training, found {', '.join(table)}")
    if isinstance(split, str):
        raise TableError(f"split: {split!r} names a column, but there is a table for each split: {', '.join(rows)}")
    if split:
        twice = [name for name in rows if split.get(name)]
        if twice:
            raise TableError(f"split: gives a share for {', '.join(twice)}, for which there is a table; remove one")
        train = rows["train"]
        classes = None if target_values is None else np.asarray(target_values)[train]
        rows |= {name: train[part] for name, part in _at_random(table["train"], split, classes, seed).items()}
    return {name: rows[name] for name in SPLITS if name in rows}


def _by_column(table: Table, column: str) -> dict[str, NDArray[np.int64]]:
    cells = table.column(column)
    try:
        counts = pc.value_counts(cells).to_pylist()
    except pa.ArrowNotImplementedError as error:  # lists and the like
        raise TableError(
            f"{table.name}: the split column {column!r} holds {cells.type}, not names of splits"
        ) from error
    names = {item["values"]: _NAMES.get(str(item["values"]).strip().lower()) for item in counts}
    if None in names.values():
        by_count = sorted(counts, key=lambda item: -item["counts"])
        found = listed(
            f"{'nothing' if (value := item['values']) is None else shown(value)} in {plural(item['counts'], 'row')}"
            for item in by_count
        )
        raise TableError(
            f"{table.name}: the split column {column!r} must hold train, validation (or val, valid, dev) or test in "
            f"every row; found {found}"
        )
    of_value = np.array([SPLITS.index(str(name)) for name in names.values()], np.int64)
    of_row = of_value[pc.index_in(cells, pa.array(list(names), cells.type)).to_numpy()]
    rows = {name: np.flatnonzero(of_row == number) for number, name in enumerate(SPLITS)}
    if not len(rows["train"]):
        raise TableError(f"{table.name}: no row is for training: the split column {column!r} never holds train")
    return {name: part for name, part in rows.items() if len(part)}


def _at_random(
    table: Table, split: Mapping[str, Any], target_values: Sequence[Any] | NDArray[Any] | None, seed: int
) -> dict[str, NDArray[np.int64]]:
    shares = {name: float(split.get(name, 0)) for name in SPLITS[1:]}
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        raise TableError(f"split: shares of {shares} leave nothing for training; they must sum to less than 1")
    by, classes, generator = split.get("by"), _stratified(table, split, target_values), _generator(split, seed)
    if by is None:
        of_row = _draw_rows(classes, shares, generator)
    else:
        of_row = _draw_groups(_groups(table, by), classes, shares, generator, f"{table.name}: split by {by!r}")
    rows = {name: np.flatnonzero(of_row == number) for number, name in enumerate(SPLITS)}
    if not len(rows["train"]):
        raise TableError(f"{table.name}: no row is left for training out of {len(table):,}")
    return {name: part for name, part in rows.items() if len(part)}


def _stratified(
    table: Table, split: Mapping[str, Any], target_values: Sequence[Any] | NDArray[Any] | None
) -> NDArray[np.int64]:
    """The number of each row's class (N,), of which every split gets the same share; the same one if none is asked."""
    stratify = split.get("stratify")
    if stratify and target_values is None:
        raise TableError("split: stratify needs a target of classes or labels; leave it out")
    if stratify is None:
        stratify = split.get("by") is None
    return np.zeros(len(table), np.int64) if target_values is None or not stratify else _numbers(target_values)


def _generator(split: Mapping[str, Any], seed: int) -> np.random.Generator:
    own_seed = split.get("seed")
    return np.random.default_rng(seed if own_seed is None else own_seed)


def _in_folds(
    table: Table | Mapping[str, Table],
    split: Mapping[str, Any],
    target_values: Sequence[Any] | NDArray[Any] | None,
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """The splits of one training of a cross-validation: its fold for testing, the others but a share for training."""
    joined = table if isinstance(table, Table) else concat_tables(list(table.values()))
    apart = np.zeros(len(joined), bool)
    if split.get("column") is not None:
        apart[_by_column(joined, split["column"]).get("test", [])] = True
    elif not isinstance(table, Table):
        names = np.repeat([_NAMES.get(name, name) for name in table], [len(part) for part in table.values()])
        apart = names == "test"
    pool, folds, by = np.flatnonzero(~apart), int(split["folds"]), split.get("by")
    if len(pool) < folds:
        raise TableError(f"{joined.name}: {folds} folds need as many rows at least, found {len(pool)}")
    what = f"{joined.name}: split by {by!r}"
    classes, generator = _renumbered(_stratified(joined, split, target_values)[pool]), _generator(split, seed)
    groups = None if by is None else _renumbered(_groups(joined, by)[pool])
    if groups is None:
        of_row = _deal(classes, folds, generator)
    else:
        of_row = _draw_groups(groups, classes, dict.fromkeys(map(str, range(1, folds)), 1 / folds), generator, what)
    held = of_row == split["fold"] - 1
    rows, rest = {"test": pool[held]}, np.flatnonzero(~held)
    shares = {"validation": float(split["validation"])}
    if groups is None:
        for_validation = _draw_rows(_renumbered(classes[rest]), shares, generator) == 1
    else:
        of_rest = _draw_groups(_renumbered(groups[rest]), _renumbered(classes[rest]), shares, generator, what)
        for_validation = of_rest == 1
    rows |= {"train": pool[rest[~for_validation]], "validation": pool[rest[for_validation]]}
    return {name: rows[name] for name in SPLITS if len(rows[name])}


def _deal(classes: NDArray[np.int64], folds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The number of each row's fold (N,): folds are of one size, and each class of one size in them, up to one row."""
    order = generator.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    of_row = np.zeros(len(classes), np.int64)
    of_row[order] = np.arange(len(classes)) % folds
    return of_row


def _renumbered(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same numbers as 0, 1, 2, ..., without those that there are none of."""
    return np.asarray(np.unique(numbers, return_inverse=True)[1].reshape(-1), np.int64)


def _draw_rows(
    classes: NDArray[np.int64], shares: Mapping[str, float], generator: np.random.Generator
) -> NDArray[np.int64]:
    """The number of each row's split (N,): every class has the same share of a split, up to one row.

    The first of each class's shuffled rows is for training, so that no class is missing there.
    """
    order = generator.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    first = np.ones(len(order), bool)
    first[1:] = np.diff(classes[order]) != 0
    pool = order[~first]
    of_row = np.zeros(len(classes), np.int64)
    for number, share in enumerate(shares.values(), 1):
        wanted = min(len(pool), max(1, round(share * len(classes)))) if share else 0
        # Evenly spaced places in the rows sorted by class.
        places = ((np.arange(wanted) + generator.random()) * len(pool) / max(wanted, 1)).astype(np.int64)
        of_row[pool[places]] = number
        pool = np.delete(pool, places)
    return of_row


def _draw_groups(
    groups: NDArray[np.int64],
    classes: NDArray[np.int64],
    shares: Mapping[str, float],
    generator: np.random.Generator,
    what: str,
) -> NDArray[np.int64]:
    """The number of each row's split (N,), the same for all rows of a group.

    In random order, each group goes where most is still missing, class by class.
    """
    num_groups, num_classes = int(groups.max()) + 1, int(classes.max()) + 1
    wanted = np.array([1 - sum(shares.values()), *shares.values()])
    used = np.flatnonzero(wanted)
    if num_groups < len(used):
        raise TableError(f"{what}: {len(used)} splits need as many groups at least, found {num_groups}")
    counts = np.zeros((num_groups, num_classes))
    np.add.at(counts, (groups, classes), 1)
    totals = counts.sum(0)
    missing = wanted[used, None] * totals  # (S, K)
    of_group = np.zeros(num_groups, np.int64)
    for group in generator.permutation(num_groups):
        split = int(np.argmax((missing * counts[group] / totals).sum(1)))
        missing[split] -= counts[group]
        of_group[group] = split
    sizes = counts.sum(1)
    for split in range(len(used)):  # a large group may have filled what was left for this split
        if not (of_group == split).any():
            giver = np.argmax(np.bincount(of_group, minlength=len(used)))
            candidates = np.flatnonzero(of_group == giver)
            of_group[candidates[np.argmin(sizes[candidates])]] = split
    return np.asarray(used[of_group[groups]])


def _groups(table: Table, column: str) -> NDArray[np.int64]:
    """The number of each row's group (N,); a row without a value is a group of its own."""
    codes = value_codes(table, column, paths=False)
    alone = np.flatnonzero(codes < 0)
    codes[alone] = codes.max(initial=0) + 1 + np.arange(len(alone))
    return np.asarray(np.unique(codes, return_inverse=True)[1].reshape(-1), np.int64)


def _numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """A number for each class (N,): 0, 1, 2, ... in the order of their first rows."""
    if isinstance(values, np.ndarray) and values.dtype == np.int64:  # so that no row becomes a Python object
        smallest = values.min(initial=0)
        return in_order(values - smallest, int(values.max(initial=0) - smallest) + 1)[1]
    numbers: dict[Any, int] = {}
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    return np.asarray([numbers.setdefault(str(value), len(numbers)) for value in listed], np.int64)
