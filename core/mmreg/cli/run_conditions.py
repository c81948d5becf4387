"""What `mmreg runs` filters and sorts by: names of a run's figures and of its recipe's keys, compared with values."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmreg.errors import MmregError, OptionError, RunError
from mmreg.messages import near, one_line, shown
from mmreg.run_files.facts import RECIPE, run_file
from mmreg.run_files.figures import SPLITS
from mmreg.run_files.summary import RunSummary

CONDITION = re.compile(r"\s*(?P<name>[^=!<>]+?)\s*(?P<sign>==|!=|>=|<=|=|>|<)\s*(?P<value>.*?)\s*", re.DOTALL)
SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
NOTHING = object()
"""What stands under a name that a run has nothing under."""


class Named:
    """What stands under names in one run: what is listed of it, a figure, or a key of its recipe.

    Args:
        summary: the run.
        listed: what is listed of it, by column.
    """

    def __init__(self, summary: RunSummary, listed: Mapping[str, Any]) -> None:
        self.summary, self.listed = summary, listed

    def get(self, name: str) -> Any:
        """What stands there; `NOTHING` where nothing does."""
        if name in self.listed and self.listed[name] is not None:
            return self.listed[name]
        if name in self.summary.metrics:
            return self.summary.metrics[name]
        split, _, rest = name.partition(".")
        figures = self.summary.report.get(split)
        if split in SPLITS and isinstance(figures, Mapping):
            within = _under(figures.get("metrics"), rest)
            return _under(figures, rest) if within is NOTHING else within
        told = _under(self.summary.report, name)
        if told is not NOTHING and not isinstance(told, Mapping):
            return told
        if name == "fusion":  # a single modality has none; to know that, its recipe need not be read
            return self.summary.fusion
        return _plain(_under(self.recipe, name))

    @cached_property
    def recipe(self) -> Any:
        """Its recipe, read when a name asks for it, as that takes the longest; None where it cannot be read."""
        return read_recipe_data(self.summary.folder, careless=True)

    def names(self) -> list[str]:
        """Names that a wrong one may have meant."""
        return [*self.listed, *self.summary.metrics, *_paths(self.recipe)]


def read_recipe_data(folder: Path, *, careless: bool = False) -> Any:
    """A run's recipe as plain data; of a damaged one None, where `careless`.

    Raises:
        RecipeError, RunError: it cannot be read.
    """
    from mmreg.recipe.yaml import read_yaml  # pydantic, which a plain listing does without

    try:
        path = run_file(folder, RECIPE)
        return read_yaml(path.read_text(encoding="utf-8"), str(path))[0]
    except (MmregError, OSError, ValueError) as error:
        if careless:
            return None
        if isinstance(error, ValueError) and not isinstance(error, MmregError):  # such as bytes that are no text
            raise RunError(f"{folder / RECIPE} cannot be read: {one_line(error)}") from error
        raise


@dataclass(frozen=True)
class Condition:
    """A comparison of what stands under a name.

    Attributes:
        name: such as "accuracy", "test.f1", "status" or "training.optimizer.lr".
        sign: one of `SIGNS`.
        value: a number, a text, true, false or None.
    """

    name: str
    sign: str
    value: Any

    def holds(self, found: Any) -> bool:
        """Whether it is so; never where there is nothing to compare, or things of different kinds."""
        if found is NOTHING:
            return False
        if isinstance(found, list | tuple):
            among = self.value in found
            return among if self.sign in ("=", "==") else not among if self.sign == "!=" else False
        if self.sign in ("=", "==", "!="):
            return SIGNS[self.sign](found, self.value)
        texts = isinstance(found, str) and isinstance(self.value, str)
        comparable = texts or (is_number(found) and is_number(self.value))
        return SIGNS[self.sign](found, self.value) if comparable else False


def is_number(value: Any) -> bool:
    """Whether it is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_condition(text: str) -> Condition:
    """A condition as it is typed, such as "accuracy>0.8" or "fusion=concat".

    Raises:
        OptionError: it is none.
    """
    parts = CONDITION.fullmatch(text)
    if parts is None:
        raise OptionError(
            f"--where {shown(text)} is no condition; write a name, one of {' '.join(SIGNS)} and a value, such as "
            '"accuracy>0.8" or "fusion=concat"'
        )
    value = parts["value"]
    try:
        number = float(value)
    except ValueError:
        return Condition(parts["name"], parts["sign"], WORDS.get(value, value.strip("'\"")))
    return Condition(parts["name"], parts["sign"], number)


def filtered(runs: Iterable[Named], conditions: Sequence[Condition]) -> list[Named]:
    """The runs that all conditions hold for.

    Raises:
        OptionError: no run has anything under the name of one, or all have numbers and it compares with a text.
    """
    kept = list(runs)
    for condition in conditions:
        check_name(condition.name, kept, "--where")
        there = [value for run in kept if (value := run.get(condition.name)) is not NOTHING and value is not None]
        if isinstance(condition.value, str) and there and all(map(is_number, there)):
            raise OptionError(
                f"--where: {condition.name} is a number, and {shown(condition.value)} is none; compare it with one, by "
                f"one of {' '.join(SIGNS)}"
            )
    return [run for run in kept if all(condition.holds(run.get(condition.name)) for condition in conditions)]


def ordered(runs: Sequence[Named], name: str, *, reverse: bool) -> list[Named]:
    """Runs by what stands under a name: numbers from the smallest, then texts, and those without it at the end.

    Raises:
        OptionError: no run has anything under the name.
    """
    check_name(name, runs, "--sort")
    found = [(run, run.get(name)) for run in runs]
    having = [(run, value) for run, value in found if value is not NOTHING and value is not None]
    having.sort(key=lambda pair: _sortable(pair[1]), reverse=reverse)
    return [run for run, _ in having] + [run for run, value in found if value is NOTHING or value is None]


def check_name(name: str, runs: Sequence[Named], option: str) -> None:
    """Make sure that a name means something in one of the runs, if there are any.

    Raises:
        OptionError: it does not.
    """
    if runs and all(run.get(name) is NOTHING for run in runs):
        known = {known: None for run in runs for known in run.names()}
        raise OptionError(f"{option}: no run has anything under the name {shown(name)}{near(name, known)}")


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _under(data: Any, path: str) -> Any:
    """What stands under a dotted path; the longest key is tried first, as a key may hold dots."""
    if not isinstance(data, Mapping):
        return NOTHING
    if path in data:
        return data[path]
    first, dot, rest = path.partition(".")
    while dot:
        if first in data:
            within = _under(data[first], rest)
            if within is not NOTHING:
                return within
        more, dot, rest = rest.partition(".")
        first = f"{first}.{more}"
    return NOTHING


def _plain(value: Any) -> Any:
    """A component by its name alone, without options and the distribution that brings it."""
    if isinstance(value, Mapping):
        return _plain(value["name"]) if "name" in value else NOTHING
    return value.removeprefix("mmreg:") if isinstance(value, str) else value


def _paths(data: Any, path: str = "") -> list[str]:
    if not isinstance(data, Mapping):
        return [path] if path else []
    return [each for key, value in data.items() for each in _paths(value, f"{path}.{key}" if path else str(key))]
