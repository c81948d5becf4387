"""What a matrix of missing rates finds, in words, tables, CSV, JSON, Markdown and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmreg.files import csv_text, markdown_table, write_json, write_text
from mmreg.messages import listed, plural
from mmreg.notebook import harmless, html_table
from mmreg.studies.compare.results import FailedTraining
from mmreg.studies.robustness.cells import Cell
from mmreg.studies.robustness.plotting import draw_matrix


@dataclass(repr=False)
class RobustnessMatrix:
    """The result of `run_matrix`.

    Attributes:
        metric: what is measured.
        more_is_better: its direction.
        rows: how many test rows.
        seeds: of the trainings.
        cells: operators first, then the best present modality, then each modality alone; by rate in training, in use.
        remedies: for each operator, what it does not use yet of what may help.
        failed: trainings that did not end.
        notes: what a reader should know.
    """

    metric: str
    more_is_better: bool
    rows: int
    seeds: tuple[int, ...]
    cells: Sequence[Cell]
    remedies: Mapping[str, Sequence[str]]
    failed: list[FailedTraining] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, name: str) -> list[Cell]:
        """The cells of an operator, of the best present modality, or of a modality alone."""
        return [cell for cell in self.cells if cell.name == name]

    @property
    def names(self) -> list[str]:
        """All that was measured, the operators first."""
        return list(dict.fromkeys(cell.name for cell in self.cells))

    @property
    def operators(self) -> list[str]:
        """The operators."""
        return list(dict.fromkeys(cell.name for cell in self.cells if cell.kind == "fusion"))

    def table(self, name: str) -> list[dict[str, str]]:
        """One matrix as rows of text: a row for each rate in training, a column for each in use."""
        rows: dict[float, dict[str, str]] = {}
        for cell in self.of(name):
            row = rows.setdefault(cell.training, {"training": f"{cell.training:g}"})
            row[f"use {cell.use:g}"] = self._text(cell)
        return list(rows.values())

    def _text(self, cell: Cell) -> str:
        text = _number(cell.mean)
        if cell.difference is None:
            return text
        mark = "*" if cell.is_below(self.more_is_better) else ""
        return f"{text} ({_number(cell.difference, '+')}{mark})"

    def title(self, name: str) -> str:
        """What a matrix is called."""
        compared = ", and less the best present modality" if name in self.operators else ""
        return f"{name}: {self.metric}{compared}"

    @property
    def conclusions(self) -> list[str]:
        """For each operator, whether it falls below the best present modality, where most, and what may help."""
        return [self._conclusion(name) for name in self.operators]

    @harmless
    def __repr__(self) -> str:
        return f"<RobustnessMatrix by {self.metric} of {listed(self.names)} on {plural(self.rows, 'test row')}>"

    @harmless
    def _repr_html_(self) -> str:
        found = [html_table(self.table(name), self.title(name)) for name in self.names]
        return "".join([*found, html_table({"conclusions": text} for text in self.conclusions)])

    def _conclusion(self, name: str) -> str:
        compared = [cell for cell in self.of(name) if cell.standard_error is not None]
        below = [cell for cell in compared if cell.is_below(self.more_is_better)]
        if not compared:
            return f"{name}: not compared, as no modality alone could be trained"
        if not below:
            return f"{name}: nowhere below its best present modality by more than a standard error"
        sign = 1 if self.more_is_better else -1
        worst = min(below, key=lambda cell: sign * (cell.difference or 0.0))
        told = (
            f"{_number(worst.difference or 0.0, '+')} with a standard error of {_number(worst.standard_error or 0.0)}"
        )
        where = (
            f"{len(below)} of {plural(len(compared), 'cell')}, most at (training {worst.training:g}, use {worst.use:g})"
        )
        remedies = self.remedies.get(name, ())
        helps = f"; what may help: {', or '.join(remedies)}" if remedies else ""
        return f"{name}: falls below its best present modality by more than a standard error in {where}: {told}{helps}"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "metric": self.metric,
            "more_is_better": self.more_is_better,
            "rows": self.rows,
            "seeds": list(self.seeds),
            "cells": [asdict(cell) | {"below": cell.is_below(self.more_is_better)} for cell in self.cells],
            "conclusions": self.conclusions,
            "failed": [dict(vars(training)) for training in self.failed],
            "notes": self.notes,
        }

    def to_csv(self) -> str:
        """A row a cell."""
        return csv_text(self.to_json()["cells"])

    def to_markdown(self) -> str:
        """A page with the conclusions and every matrix."""
        sections = [f"# Missing modalities by {self.metric}", _list(self.conclusions)]
        for name in self.names:
            sections += [f"## {self.title(name)}", markdown_table(self.table(name))]
        sections.append(
            f"Means over {plural(len(self.seeds), 'seed')}, on {plural(self.rows, 'test row')}. Down: the rate at "
            "which training and validation rows lack each modality; across: that at which these rows do. A row keeps "
            "one modality. One modality alone predicts rows without it by the training prior. `*`: below the best "
            "present modality by more than a standard error (bootstrap over these rows), which chance alone does in "
            "one of six cells where there is no difference."
        )
        if self.failed:
            failures = [f"{training.variant}, seed {training.seed}: {training.reason}" for training in self.failed]
            sections += ["## Failed", _list(failures)]
        if self.notes:
            sections += ["## Notes", _list(self.notes)]
        return "\n\n".join(sections) + "\n"

    def write(self, folder: str | Path) -> list[Path]:
        """Write robustness.csv, .json, .md, and with matplotlib installed .png; returns what was written."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"robustness.{ending}" for ending in ("csv", "json", "md", "png")]
        table, data, page, picture = written
        write_text(table, self.to_csv())
        write_json(data, self.to_json())
        write_text(page, self.to_markdown())
        return written if draw_matrix(self.cells, self.metric, picture) else written[:-1]


def _number(figure: float, sign: str = "") -> str:
    """Three decimals for shares and the like, four digits for larger numbers."""
    return f"{figure:{sign}.3f}" if abs(figure) < 10 else f"{figure:{sign}.4g}"


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
