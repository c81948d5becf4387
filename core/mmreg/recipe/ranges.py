"""What stands in a recipe where a value is left open, for a search to find: a range of numbers, or a choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Gt
from pydantic import model_validator

from mmreg.recipe.keys import Closed
from mmreg.registry.options import KeyPath

Number = int | float
SEARCHES = ("log", "uniform", "int")


class Range(Closed):
    """A range of numbers, both ends included."""

    search: Literal["log", "uniform", "int"]
    """How numbers are drawn: log, evenly in their logarithm; uniform; or int, whole numbers."""
    low: Number
    """The least."""
    high: Number
    """The greatest."""
    step: Annotated[Number, Gt(0)] | None = None
    """Of uniform and int: only the numbers that are so far apart, from `low` on."""
    log: bool = False
    """Of int: whether whole numbers are drawn evenly in their logarithm."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, found {self.low} and {self.high}")
        logarithmic = self.search == "log" or self.log
        if logarithmic and self.low <= 0:
            raise ValueError(f"a logarithm needs numbers above 0, found low: {self.low}")
        if logarithmic and self.step is not None:
            raise ValueError("step goes with numbers that are drawn evenly, not in their logarithm; leave it out")
        if self.step is not None and not (self.high - self.low) / 1e6 <= self.step <= self.high - self.low:
            raise ValueError(f"step must leave from 2 to a million numbers from low to high, found {self.step}")
        if self.log and self.search != "int":
            raise ValueError("log: true is for whole numbers (search: int); of others say search: log")
        if self.search == "int" and not all(float(each).is_integer() for each in (self.low, self.high, self.step or 1)):
            raise ValueError("search: int needs whole numbers")
        return self

    @property
    def ends(self) -> tuple[Number, Number]:
        """The least and the greatest number, as they come to stand in a recipe."""
        return (int(self.low), int(self.high)) if self.search == "int" else (float(self.low), float(self.high))


def is_open(value: Any) -> bool:
    """Whether this stands for a value that is left open."""
    if not isinstance(value, Mapping):
        return False
    if set(value) == {"choice"} and isinstance(value["choice"], list):
        return True
    search = value.get("search")
    return isinstance(search, str) and (search in SEARCHES or "low" in value or "high" in value)


def open_keys(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The keys whose values are left open, outermost first of those within each other."""
    if is_open(value):
        yield path
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from open_keys(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from open_keys(each, (*path, index))
