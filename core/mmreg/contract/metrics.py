"""What was measured, as values: whose number it is stands in fields of its own, never in a composed name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmreg.messages import cell

DASH = "\N{EN DASH}"
"""What stands in a table in the place of a figure that is undefined."""


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


def figure_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of a split, as `Run.evaluate` gives them, as the rows of a table for people.

    The whole model comes first, an interval beside its metric and a dash for one that is undefined; then each part of
    it, and what one answer for all rows would give.
    """
    metrics, rows = figures["metrics"], figures["rows"]
    whole: dict[str, Any] = {"part": "all", "rows": rows}
    for name, value in metrics.items():
        if not isinstance(value, float | None):
            continue
        whole[name] = DASH if value is None else value
        if name in metrics.get("intervals", {}):
            low, high = metrics["intervals"][name]
            whole[f"{name} 95% interval"] = f"{low:.3g} to {high:.3g}"
    parts = [{"part": name, **part} for name, part in metrics["modalities"].items()]
    if "baseline" in metrics:
        answer = metrics["baseline"]["prediction"]
        told = "the means" if isinstance(answer, list) else cell(answer)
        parts.append({"part": f"always {told}", "rows": rows, **numbers(metrics["baseline"])})
    return [whole, *parts]


def detail_rows(figures: Mapping[str, Mapping[str, Any]], column: str = "name") -> list[dict[str, Any]]:
    """Figures of each class, label or the like as the rows of a table for people: a dash where there is none.

    Args:
        figures: by the name of the class, such as a task's "per_class"; None where nothing can be told of it, as of a
            class that no row has.
        column: what the names are called.
    """
    return [
        {column: name, **{key: DASH if value is None else value for key, value in each.items()}}
        for name, each in figures.items()
    ]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of a split's metrics that are numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def by_target(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of a split, as `Run.evaluate` gives them, apart for each target by name.

    Under "" are those of all targets together; of a run with a single target these are all.
    """
    metrics = figures["metrics"]
    if "targets" not in metrics:
        return {"": figures}
    parts = metrics["modalities"]
    found: dict[str, Mapping[str, Any]] = {"": {**figures, "metrics": _together(metrics)}}
    for name in metrics["targets"]:
        own = of_target(metrics, name)
        own["modalities"] = {part: {"rows": each["rows"], **of_target(each, name)} for part, each in parts.items()}
        found[name] = {"split": figures["split"], "rows": own.pop("rows"), "metrics": own}
    return found


def _together(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those figures that are of no target by itself."""
    starts = tuple(f"{name}." for name in metrics["targets"])
    found = {key: each for key, each in metrics.items() if not key.startswith(starts)}
    found["modalities"] = {
        part: {key: each for key, each in own.items() if not key.startswith(starts)}
        for part, own in metrics["modalities"].items()
    }
    for key in ("targets", "intervals", "baseline"):
        found.pop(key, None)
    return found


def of_target(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What was measured of one of several targets, as its own task gives it, and its number of "rows"."""
    start = f"{name}."

    def own(figures: Mapping[str, Any]) -> dict[str, Any]:
        return {key.removeprefix(start): each for key, each in figures.items() if key.startswith(start)}

    found = {**own(metrics), **metrics.get("targets", {}).get(name, {})}
    if intervals := own(metrics.get("intervals", {})):
        found["intervals"] = intervals
    if baseline := own(metrics.get("baseline", {})):
        found["baseline"] = {"prediction": metrics["baseline"]["prediction"][name], **baseline}
    return found
