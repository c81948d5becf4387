"""What was measured, as values: whose number it is stands in fields of its own, never in a composed name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MetricValue:
    """One number that was measured.

    Attributes:
        split: of which rows: "train", "validation" or "test".
        part: of what: a modality's or an operator's name; "" for the whole model.
        name: "loss", a metric's name, or that of a term which a component adds to the loss.
        value: the number.
    """

    split: str
    part: str
    name: str
    value: float

    @property
    def column(self) -> str:
        """Its column in a table for people, such as "validation_image_accuracy"."""
        return "_".join(filter(None, (self.split, self.part, self.name)))


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        number: from 1.
        step: optimizer steps done at its end.
        learning_rate: at its beginning.
        values: all that was measured.
    """

    number: int
    step: int
    learning_rate: float
    values: tuple[MetricValue, ...] = ()

    def get(self, split: str, name: str, part: str = "") -> float | None:
        """One of its numbers; None if it was not measured."""
        found = (each.value for each in self.values if (each.split, each.part, each.name) == (split, part, name))
        return next(found, None)

    def row(self) -> dict[str, Any]:
        """The epoch as a row of metrics.csv; of several columns with one name, the later ones are numbered."""
        row: dict[str, Any] = {"epoch": self.number, "step": self.step, "learning_rate": self.learning_rate}
        for each in self.values:
            column, number = each.column, 1
            while column in row:
                number += 1
                column = f"{each.column}_{number}"
            row[column] = each.value
        return row

    def to_plain(self) -> dict[str, Any]:
        """The epoch as plain data; `from_plain` reads it back."""
        return asdict(self)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Epoch:
        """The epoch that `to_plain` gave."""
        return cls(**{**data, "values": tuple(MetricValue(**each) for each in data["values"])})
