"""The tabular modality: numbers, categories and dates of several columns become two vectors a row.

Axes: B batch, N numbers, C categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from numpy.typing import NDArray
from torch import Tensor

from mmreg import VECTOR, Modality, Signal, Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg.messages import listed
from mmreg_tabular.cells import Kind, plain, row_of
from mmreg_tabular.columns import OTHER, CategoryColumn, Column, ColumnFit, column_of, migrated_column
from mmreg_tabular.scaling import Scaling
from mmreg_tabular.suggesting import suggested

BadCells = Literal["refuse", "empty"]

CELLS, MOST_ROWS = 1 << 18, 4096
"""Cells and rows that are learned from at a time."""


class Tabular(Modality):
    """Several columns together: numbers, categories (truth values among them), and dates.

    What a column holds is seen in the training rows: numbers if all of its cells are (as text, too), dates if all are,
    else categories. Numbers are scaled; dates become the time since 1970 and their places in the year, the week and the
    day, as far as the training rows differ in these; of categories those that training has not seen, or seldom, count
    as one. An empty cell is not filled in: encoders are told of it. A row whose columns are all empty is absent.

    Args:
        kinds: what a column holds, where that is not what it looks like: `{floor: category}`.
        scaling: of numbers: by `quantile` to a normal distribution, which outliers do not disturb; `standard` for a
            mean of 0 and a deviation of 1; or `none`.
        min_frequency: how often a category must occur in the training rows to be one of its own.
        max_categories: how many categories a column has at most, the most frequent ones.
        bad_cells: what a cell is that is not of its column's kind, such as an infinite number or a date that is none:
            `refuse` for a bad cell as of any input, or `empty` to go on with the row's other columns.
        category_dropout: the share of categories that training replaces by the unknown one, at random, so that the
            model knows what to make of categories that it does not know.

    Raises:
        OptionError: `kinds` names a column that is not read; from `fit_values`: a column holds something else.
    """

    version: ClassVar[int] = 2
    multiple_columns: ClassVar[bool] = True
    transform_options: ClassVar[frozenset[str]] = frozenset({"category_dropout"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"category_dropout": 0.0}
    default_encoder = "tabular_mlp"

    def __init__(
        self,
        *,
        kinds: dict[str, Kind] | None = None,
        scaling: Scaling = "quantile",
        min_frequency: Annotated[int, Ge(1)] = 1,
        max_categories: Annotated[int, Ge(1), Le(1_000_000)] = 10_000,
        bad_cells: BadCells = "refuse",
        category_dropout: Annotated[float, Ge(0), Lt(1)] = 0.02,
    ) -> None:
        self.kinds = dict(kinds or {})
        self.scaling: Scaling = scaling
        self.min_frequency, self.max_categories = min_frequency, max_categories
        self.bad_cells: BadCells = bad_cells
        self.category_dropout = category_dropout
        self._columns: dict[str, Column] | None = None

    @classmethod
    def suggest_columns(
        cls, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
        """Numbers, dates, truth values, and texts that are short and come again; no names of rows."""
        return suggested(columns)

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn what each column holds, its scale or its categories."""
        if unknown := [name for name in self.kinds if name not in self.columns]:
            raise OptionError(f"kinds: names {listed(unknown)}, but the columns are {listed(self.columns, 20)}")
        fits = {name: ColumnFit(name, self.kinds.get(name), len(self.columns)) for name in self.columns}
        rows = (row for row in values if isinstance(row, Mapping))
        while some := list(islice(rows, max(1, min(CELLS // len(fits), MOST_ROWS)))):
            for name, fit in fits.items():
                fit.add([plain(row.get(name)) for row in some])
        self._take(
            {name: fit.column(self.scaling, self.min_frequency, self.max_categories) for name, fit in fits.items()}
        )

    def _take(self, columns: dict[str, Column]) -> None:
        self._columns = columns
        sizes = [column.size for column in columns.values() if isinstance(column, CategoryColumn)]
        self._first = np.concatenate([[0], np.cumsum(sizes)])[: len(sizes)].astype(np.int64)
        self._empty = torch.from_numpy(self._first)  # the category of each column's empty cells
        self._categories = int(sum(sizes))
        self._numbers = sum(column.width for column in columns.values() if not isinstance(column, CategoryColumn))

    def _fitted(self) -> dict[str, Column]:
        if self._columns is None:
            raise MmregError("tabular: what the columns hold is not known yet; call fit_values or load_state first")
        return self._columns

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:
        """A row's numbers (N,) float32, NaN where a cell is empty, and categories (C,) int32.

        Raises:
            ValueLoadError: a cell is not of its column's kind; names the column.
        """
        row = row_of(value)
        numbers: list[float] = []
        categories: list[int] = []
        for name, column in self._fitted().items():
            try:
                found = column(row.get(name))
            except ValueLoadError as error:
                if self.bad_cells == "refuse":
                    raise ValueLoadError(
                        f"{name}: {error} (with bad_cells: empty in its recipe, a run goes on without it)"
                    ) from error
                found = column(None)
            if isinstance(found, int):
                categories.append(found)
            else:
                numbers += found
        arrays: dict[str, NDArray[Any]] = {}
        if self._numbers:
            arrays["numbers"] = np.array(numbers, np.float32)
        if self._categories:
            # A column's categories have numbers of their own, after those of the columns before it.
            arrays["categories"] = (np.array(categories, np.int64) + self._first).astype(np.int32)
        return arrays

    def notes_in_use(self, arrays: Iterator[dict[str, Tensor]]) -> Sequence[str]:
        """Which columns of categories have values, and none that training has seen."""
        columns = [(name, each) for name, each in self._fitted().items() if isinstance(each, CategoryColumn)]
        if not any(column.names for _, column in columns):
            return ()
        known, unknown = np.zeros(len(columns), bool), np.zeros(len(columns), bool)
        for given in arrays:
            numbers = given["categories"].numpy() - self._first
            known |= (numbers > OTHER).any(0)
            unknown |= (numbers == OTHER).any(0)
            if known.all():
                return ()
        unseen = [name for at, (name, each) in enumerate(columns) if each.names and unknown[at] and not known[at]]
        if not unseen:
            return ()
        of = f"column {unseen[0]!r} has" if len(unseen) == 1 else f"columns {listed(map(repr, unseen))} have"
        return (f"{of} no category that training knows, so that it tells the model nothing",)

    def transform(
        self, signal: Signal[dict[str, Tensor]], *, training: bool, generator: torch.Generator | None = None
    ) -> Signal[dict[str, Tensor]]:
        """Numbers (B, N) with zeros where they are missing, which of them are, and categories (B, C) int64."""
        self._fitted()
        given, found = signal.values, {}
        if "numbers" in given:
            missing = given["numbers"].isnan()
            found["numbers"] = given["numbers"].masked_fill(missing, 0)
            found["missing"] = missing.float()
        if "categories" in given:
            categories = given["categories"].long()
            if training and self.category_dropout > 0:
                draws = torch.rand(categories.shape, generator=generator, device=categories.device)
                self._empty = self._empty.to(categories.device)
                dropped = (draws < self.category_dropout) & (categories != self._empty)
                categories = torch.where(dropped, self._empty + OTHER, categories)
            found["categories"] = categories
        return signal.replace(found)

    @property
    def stored(self) -> Mapping[str, Spec]:
        """Numbers and categories, of which one may be missing."""
        return self._specs("int32", {"numbers": self._numbers_spec()})

    @property
    def spec(self) -> Mapping[str, Spec]:
        """Numbers with their absence, and categories."""
        return self._specs("int64", {"numbers": self._numbers_spec(), "missing": self._numbers_spec()})

    def _numbers_spec(self) -> Spec:
        self._fitted()
        return Spec(VECTOR, (self._numbers,))

    def _specs(self, dtype: str, numbers: Mapping[str, Spec]) -> Mapping[str, Spec]:
        found = dict(numbers) if self._numbers else {}
        if self._categories:
            found["categories"] = Spec(VECTOR, (len(self._first),), dtype, self._categories)
        return found

    def state(self) -> dict[str, Any]:
        """What was learned of each column."""
        return {"columns": {name: column.state() for name, column in self._fitted().items()}}

    @classmethod
    def migrate(cls, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        """Version 1 had a category for each spelling of a truth value."""
        return {"columns": {name: migrated_column(facts) for name, facts in state["columns"].items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._take({name: column_of(facts) for name, facts in state["columns"].items()})
