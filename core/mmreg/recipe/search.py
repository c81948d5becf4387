"""A recipe in which some values are left open, and the recipes that it becomes as they are filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmreg.errors import OptionError
from mmreg.messages import listed
from mmreg.recipe.ranges import Range, is_open
from mmreg.recipe.recipe import Recipe, fail_if, read_keys, read_overrides, set_key
from mmreg.recipe.yaml import yaml_text
from mmreg.registry import options
from mmreg.registry.options import KeyPath, Problem

FIXED = {"missing", "split", "key", "metrics", "callbacks"}
FIXED_OF_TRAINING = {"seed", "metric", "missing_rate"}
FIXED_OF_TARGET = {"column", "columns", "task", "weight"}
FIXED_ANYWHERE = {"on_bad"}
"""Keys that every trial has in common, as their figures could not be compared else."""


@dataclass(frozen=True)
class Choice:
    """Values of which one is chosen.

    Attributes:
        values: each as it stands in the recipe, with what is open within it, by what it is called: a component by its
            name and options.
    """

    values: Mapping[str, Any]


Pick = Callable[[str, Range | Choice], Any]
"""Chooses for an open key: a number of a range, or what the value of a choice is called."""


class SearchedRecipe:
    """A recipe in which values are left open where they stand, by ranges and choices; `mmreg tune` fills them in.

    A range is a mapping such as `{search: log, low: 1e-4, high: 1e-2}`, where search is log, uniform or int; a choice
    is one such as `{choice: [concat, {name: low_rank, rank: {search: int, low: 2, high: 16}}]}`.

    Args:
        data: the recipe as plain data; or give its keys as keywords, as for `Recipe`.
        name: what it is called in messages.
        folder: the folder that the table's path is relative to; the working directory if it is None.
        lines: the line of each key, for messages.
        keys: see `Recipe`.

    Raises:
        RecipeError: nothing is left open, or a range or choice is none; names every problem.

    Attributes:
        data: as given.
        ranges: every `Range` and `Choice` by its dotted key, those within a choice after it, by a key that names the
            value that they are within: `fusion(low_rank).rank`.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        /,
        *,
        name: str = "recipe",
        folder: Path | None = None,
        lines: Mapping[KeyPath, int] | None = None,
        **keys: Any,
    ) -> None:
        self.name, self.folder, self.lines = name, folder, dict(lines or {})
        self.data = {**(data or {}), **keys}
        self.ranges: dict[str, Range | Choice] = {}
        problems: list[Problem] = []
        for key, value in self.data.items():
            if key != "table":
                self._read(value, (key,), key, problems)
        self._fail_if(problems)
        if not self.ranges:
            raise OptionError(
                f"{name} leaves nothing open to search for; write a range where a value stands, such as "
                "lr: {search: log, low: 1e-4, high: 1e-2}, or fusion: {choice: [concat, low_rank]}"
            )

    @classmethod
    def read(
        cls, source: SearchedRecipe | Mapping[str, Any] | str | Path, overrides: Iterable[str] = ()
    ) -> SearchedRecipe:
        """Read one from a YAML file, or from its keys as a dict, with keys changed as for `mmreg.train`.

        Raises:
            RecipeError: the file is missing or no YAML, or a range is wrong.
        """
        changes = read_overrides(overrides)
        if isinstance(source, str | Path):
            data, lines = read_keys(Path(source), changes)
            return cls(data, name=str(source), folder=Path(source).parent, lines=lines)
        if isinstance(source, SearchedRecipe) and not changes:
            return source
        own = source if isinstance(source, SearchedRecipe) else cls(source)
        table = own.data.get("table")
        data = _copy({key: value for key, value in own.data.items() if key != "table"}) | {"table": table}
        for key, value in changes.items():
            set_key(data, key, value)
        return cls(data, name=own.name, folder=own.folder, lines=own.lines)

    @property
    def choices(self) -> list[str]:
        """The keys of the choices."""
        return [key for key, what in self.ranges.items() if isinstance(what, Choice)]

    def at(self, pick: Pick) -> Recipe:
        """The recipe with everything filled in.

        Args:
            pick: given a key and its range or choice, the number, or what the chosen value is called; asked in the
                order of the recipe, and of what is within a choice only where it is chosen.
        """
        data = {key: value if key == "table" else self._filled(value, key, pick) for key, value in self.data.items()}
        return Recipe(data, name=self.name, folder=self.folder, lines=self.lines)

    def corners(self) -> Iterator[tuple[str, Callable[[], Recipe]]]:
        """The recipe at both ends of every range and at every choice, the others at their first value.

        Yields:
            What is said of a place, such as "fusion: low_rank" (nothing of the first), and what makes the recipe there,
            or raises what is wrong with it; to be called before the next place is asked for.
        """
        explored: set[str] = set()
        places: list[tuple[str, dict[str, Any]]] = [("", {})]
        for told, chosen in places:
            met: dict[str, list[Any]] = {}
            yield told, partial(self.at, partial(_placed, chosen, met))
            for key, others in met.items():
                if key not in explored:
                    explored.add(key)
                    places += [(f"{key}: {other}", {**chosen, key: other}) for other in others]

    def _read(self, value: Any, path: KeyPath, key: str, problems: list[Problem]) -> None:
        """Find what is open in a value."""
        if not is_open(value):
            items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
            for step, each in items:
                self._read(each, (*path, step), f"{key}.{step}", problems)
            return
        if _is_fixed(path):
            problems.append(Problem(path, "is the same for all trials, whose figures could not be compared else"))
        elif "choice" in value and len(value) > 1:
            problems.append(Problem(path, "is a choice with keys of its own beside it; a choice stands alone"))
        elif "choice" in value:
            self._read_choice(value["choice"], path, key, problems)
        else:
            fields, wrong = options.validate(Range, value)
            problems += [Problem((*path, *each.path), each.message) for each in wrong]
            if not wrong:
                self.ranges[key] = Range.model_construct(**fields)

    def _read_choice(self, values: list[Any], path: KeyPath, key: str, problems: list[Problem]) -> None:
        names = [_called(each) for each in values]
        if len(set(names)) < len(names):
            names = [_called(each, whole=True) for each in values]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if len(values) < 2 or twice:
            why = f"{listed(twice)} stands there twice" if twice else f"found {len(values)}"
            problems.append(Problem(path, f"choice needs two different values at least; {why}"))
            return
        self.ranges[key] = Choice(dict(zip(names, values, strict=True)))
        for index, (name, each) in enumerate(zip(names, values, strict=True)):
            self._read(each, (*path, "choice", index), f"{key}({name})", problems)

    def _filled(self, value: Any, key: str, pick: Pick) -> Any:
        if is_open(value):
            what = self.ranges[key]
            picked = pick(key, what)
            return self._filled(what.values[picked], f"{key}({picked})", pick) if isinstance(what, Choice) else picked
        if isinstance(value, Mapping):
            return {step: self._filled(each, f"{key}.{step}", pick) for step, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, f"{key}.{step}", pick) for step, each in enumerate(value)]
        return value

    def _fail_if(self, problems: Iterable[Problem]) -> None:
        fail_if(self.name, self.lines, problems)


def _placed(chosen: Mapping[str, Any], met: dict[str, list[Any]], key: str, what: Range | Choice) -> Any:
    """What is chosen for a key, or else its first value; the others that it may have are kept."""
    first, *others = what.values if isinstance(what, Choice) else what.ends
    met[key] = others
    return chosen.get(key, first)


def _is_fixed(path: KeyPath) -> bool:
    """Whether a key is one that all trials have in common."""
    if path[0] in ("target", "targets"):
        own = path[1:] if path[0] == "target" else path[2:]
        return not own or own[0] in FIXED_OF_TARGET
    if path[0] == "training":
        return len(path) == 1 or path[1] in FIXED_OF_TRAINING
    return path[0] in FIXED or path[-1] in FIXED_ANYWHERE


def _called(value: Any, whole: bool = False) -> str:
    """What a value of a choice is called: a component by its name and options, and else by how YAML spells it.

    Args:
        value: the value.
        whole: whether the options of a component that are open are told as well.
    """
    if isinstance(value, str):
        return value
    if is_open(value):
        values = value.get("choice")
        return f"{value.get('low')}..{value.get('high')}" if values is None else "|".join(map(_called, values))
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        told = {key: each for key, each in value.items() if key != "name" and (whole or not is_open(each))}
        inner = ", ".join(f"{key}={_called(each, whole)}" for key, each in told.items())
        return f"{value['name']}({inner})" if inner else str(value["name"])
    return yaml_text(value, flow=True)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value
