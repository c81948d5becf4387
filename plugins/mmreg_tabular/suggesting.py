"""Which columns of a table `mmreg init` takes for numbers, dates and categories, by a sample of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmreg.errors import ValueLoadError
from mmreg.messages import listed, plural, shortened
from mmreg_tabular.cells import Kind, category, date, kinds_of, number, plain

LONGEST_CATEGORY = 60
"""Characters up to which texts are taken for categories."""
FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
"""How names of files end, which are no categories."""
ID = re.compile(r"(?i:(^|[^a-z])id)$|[a-z]I[dD]$")
"""How columns are called that name something by numbers: "id", "user_id", "userId"."""
MOSTLY = 0.9
"""So many dates, or numbers, in a column of texts make it one of them; the others are bad cells."""


def suggested(columns: Mapping[str, Sequence[Any]]) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
    """The columns that `tabular` is to read, and its options with the reasons; None for no columns.

    Args:
        columns: for each column some of its values.
    """
    taken: list[str] = []
    kinds: dict[str, tuple[Kind, str]] = {}
    bad: dict[str, str] = {}
    for name, values in columns.items():
        found = _kind(name, [plain(value) for value in values])
        if found is not None:
            taken.append(name)
            kind, why, wrong = found
            kinds |= {name: (kind, why)} if why else {}
            bad |= {name: f"{len(wrong)} of {len(values):,} in {name}, such as {wrong[0]}"} if wrong else {}
    options: dict[str, tuple[Any, str]] = {}
    if kinds:
        reason = listed((f"{name} holds {why}" for name, (_, why) in kinds.items()), 5)
        options["kinds"] = {name: kind for name, (kind, _) in kinds.items()}, reason
    if bad:
        options["bad_cells"] = "empty", f"cells that are none of their column's kind: {listed(bad.values(), 5)}"
    return (taken, options) if taken else None


def _kind(name: str, values: Sequence[Any]) -> tuple[Kind, str, list[str]] | None:
    """What a column is, why that has to be said, and cells of it that are bad; None if it is not to be read."""
    try:
        kinds = [kinds_of(value) for value in values]
        names = {category(value) for value in values}
    except ValueLoadError:
        return None
    if len(names) < 2:  # nothing can be learned from it
        return None
    possible = set.intersection(*map(set, kinds))
    if "number" in possible:
        _, wrong = _read(number, values)
        if len(wrong) == len(values):
            return None
        if not ID.search(name) or not all(isinstance(value, int) for value in values):
            return None if _counts_up(values) else ("number", "", wrong)
        # Numbers by which something is called are no amounts; those of rows tell nothing of other rows.
        return ("category", "numbers that are names", []) if _come_again(names, values) else None
    dates = sum("date" in each for each in kinds)
    if dates == len(values):
        return "date", "", []
    if dates >= MOSTLY * len(values):
        others = plural(len(values) - dates, "other cell")
        return "date", f"{plural(dates, 'date')}, and {others}", _read(date, values)[1]
    texts = [value for value in values if isinstance(value, str)]
    if sum(FILE.search(text) is not None for text in texts) > len(values) / 2:
        return None
    short = all(len(text) <= LONGEST_CATEGORY for text in texts)
    told_apart = _come_again(names, values) or any(isinstance(value, bool) for value in values)
    if short and told_apart:
        return "category", "", []
    numbers, wrong = _read(number, values)
    # Whole ones may be names among others, as postal codes are.
    if len(numbers) >= MOSTLY * len(values) and any(found % 1 for found in numbers):
        return "number", f"{plural(len(numbers), 'number')}, and {plural(len(wrong), 'other cell')}", wrong
    return None


def _come_again(names: set[str], values: Sequence[Any]) -> bool:
    return len(names) <= max(2, len(values) // 2)


def _read(read: Callable[[Any], float], values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """What values are read as, and those that are refused, for messages."""
    found, wrong = [], []
    for value in values:
        try:
            found.append(read(value))
        except ValueLoadError:
            wrong.append(shortened(str(value)))
    return found, wrong


def _counts_up(values: Sequence[Any]) -> bool:
    """Whether whole numbers only number the rows: the sample is in even steps."""
    whole = len(values) > 2 and all(isinstance(value, int) for value in values)
    steps = {after - before for before, after in pairwise(values)} if whole else set()
    return whole and min(steps) > 0 and max(steps) - min(steps) <= 1
