"""What an explanation holds, and the same as plain data and tables.

Axes: R rows, n modalities, Q independent estimates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg_explain.sampling import standard_error
from mmreg_explain.shapley import intershap


@dataclass(frozen=True)
class Explanation:
    """Which modality decided, of R rows.

    A row's Shapley values add up to `values` less `base`, and so do its interactions.

    Attributes:
        what: what is explained, such as "probability of the predicted class".
        modalities: the n names.
        key: what the rows' key is called.
        keys: (R) each row's.
        outputs: (R) the class, label or number that is explained of each row.
        values: (R,) what the model predicts with all that the row has.
        base: (R,) what it says of a row without any modality: the training prior.
        shapley: (R, n) each modality's share of the difference; 0 for one that the row lacks.
        interactions: (R, n, n) symmetric: what two modalities add only together, half on each side of the diagonal; and
            on it what each adds by itself.
        present: (R, n) bool, which row has which modality.
        exact: whether all subsets were asked; else these are means of Q estimates.
        errors: (R, n) the standard errors of `shapley`; None where it is exact.
        subsets: how many subsets of modalities were asked.
        estimates: (Q, n, n) each estimate's mean interactions over the rows.
    """

    what: str
    modalities: Sequence[str]
    key: str
    keys: Sequence[Any]
    outputs: Sequence[str]
    values: NDArray[np.float64]
    base: NDArray[np.float64]
    shapley: NDArray[np.float64]
    interactions: NDArray[np.float64]
    present: NDArray[np.bool_]
    exact: bool
    errors: NDArray[np.float64] | None
    subsets: int
    estimates: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def intershap(self) -> NDArray[np.float64]:
        """(R,) of each row, from 0 (each modality by itself) to 1 (only together); NaN where nothing has a share."""
        return intershap(self.interactions)

    @cached_property
    def overall_intershap(self) -> float:
        """That of the rows' mean interactions, as the paper defines it for a data set."""
        return float(intershap(self.interactions.mean(0)))

    @property
    def mean_intershap(self) -> float:
        """The mean of the rows' own, of those where anything has a share."""
        told = self.intershap[~np.isnan(self.intershap)]
        return float(told.mean()) if len(told) else math.nan

    @cached_property
    def decided(self) -> list[str]:
        """(R) for each row the modality with the largest Shapley value by size; "" where nothing has a share."""
        largest = np.abs(self.shapley).argmax(1)
        moved = np.abs(self.shapley).max(1) > 0
        return [self.modalities[k] if any_ else "" for k, any_ in zip(largest.tolist(), moved.tolist(), strict=True)]

    def overall(self) -> list[dict[str, Any]]:
        """For each modality its figures over all rows.

        They are: how many rows have it; the mean of its Shapley values and of their sizes; the share of these among all
        modalities; in how many rows it decided; and the standard error of the mean where it is estimated.
        """
        sizes = np.abs(self.shapley).mean(0)
        whole = sizes.sum()
        error = None if self.exact else standard_error(self.estimates.sum(-1))
        rows = []
        for k, name in enumerate(self.modalities):
            line = {
                "modality": name,
                "rows": int(self.present[:, k].sum()),
                "mean_size": float(sizes[k]),
                "share": float(sizes[k] / whole) if whole > 0 else None,
                "decided": self.decided.count(name),
                "mean": float(self.shapley[:, k].mean()),
            }
            rows.append(line if error is None else {**line, "standard_error": float(error[k])})
        return rows

    def pairs(self) -> list[dict[str, Any]]:
        """For each pair of modalities its mean interaction over the rows (both halves), and that of the sizes."""
        rows = []
        error = None if self.exact else standard_error(2 * self.estimates)
        for i, first in enumerate(self.modalities):
            for j in range(i + 1, len(self.modalities)):
                both = 2 * self.interactions[:, i, j]
                line = {
                    "first": first,
                    "second": self.modalities[j],
                    "mean": float(both.mean()),
                    "mean_size": float(np.abs(both).mean()),
                }
                rows.append(line if error is None else {**line, "standard_error": float(error[i, j])})
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """For each row what is explained, and each modality's share."""
        found = []
        for number, key in enumerate(self.keys):
            there = self.present[number].tolist()
            line: dict[str, Any] = {
                self.key: key,
                "output": self.outputs[number],
                "value": float(self.values[number]),
                "base": float(self.base[number]),
                "shapley": dict(zip(self.modalities, self.shapley[number].tolist(), strict=True)),
                "present": [name for name, has in zip(self.modalities, there, strict=True) if has],
                "decided": self.decided[number],
                "interactions": self.interactions[number].tolist(),
                "intershap": _finite(float(self.intershap[number])),
            }
            if self.errors is not None:
                line["standard_error"] = dict(zip(self.modalities, self.errors[number].tolist(), strict=True))
            found.append(line)
        return found

    def to_data(self) -> dict[str, Any]:
        """All of it as plain data, as `mmreg explain --out` writes it."""
        return {
            "what": self.what,
            "modalities": list(self.modalities),
            "exact": self.exact,
            "subsets": self.subsets,
            "overall": {
                "intershap": _finite(self.overall_intershap),
                "mean_intershap": _finite(self.mean_intershap),
                "modalities": self.overall(),
                "pairs": self.pairs(),
            },
            "rows": self.rows(),
        }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
