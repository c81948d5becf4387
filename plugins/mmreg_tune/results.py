"""What a search came to: its trials, how much each value matters, and the best recipe; as tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmreg
from mmreg.files import csv_text, markdown_table, write_text
from mmreg.messages import cell, plural
from mmreg_tune.storage import RESULTS

SHOWN = 10
"""Trials that a terminal shows."""


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: from 0.
        state: "finished", "pruned" (ended early, as others had done better by then), "failed" or "running".
        value: of the metric on the validation rows; of a trial that was pruned, after its last epoch; None where
            nothing was measured.
        values: what the open keys were.
        epochs: how many it trained.
        best_epoch: the one with the best weights; None where the recipe keeps others.
        seconds: that it took.
        reason: why it failed.
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, Any]
    epochs: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    reason: str = ""


def table_of(trials: Sequence[TrialResult], metric: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Trials as the rows of a table.

    Args:
        trials: in the table's order.
        metric: what they are judged by.
        keys: those that were left open.
    """
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            f"validation {metric}": trial.value,
            **{key: trial.values.get(key) for key in keys},
            "epochs": trial.epochs,
            "best epoch": trial.best_epoch,
            "seconds": None if trial.seconds is None else round(trial.seconds, 1),
            "reason": trial.reason or None,
        }
        for trial in trials
    ]


@dataclass
class Tuning:
    """What a search came to.

    Attributes:
        folder: where it is kept.
        metric: by which trials are judged, on the validation rows.
        more_is_better: its direction.
        trials: all of them, in order.
        importance: of each open key the share of what the trials' figures differ by (PED-ANOVA, Watanabe et al. 2023);
            empty where too few trials have finished.
        recipe: with the best trial's values, as `mmreg.train` takes it.
    """

    folder: Path
    metric: str
    more_is_better: bool
    trials: list[TrialResult]
    importance: Mapping[str, float]
    recipe: mmreg.Recipe
    keys: Sequence[str] = field(default=(), repr=False)

    @property
    def ranked(self) -> list[TrialResult]:
        """The trials that have finished, the best first."""
        finished = [trial for trial in self.trials if trial.state == "finished"]
        return sorted(finished, key=lambda trial: trial.value or 0.0, reverse=self.more_is_better)

    @property
    def best(self) -> TrialResult:
        """The best trial: the first one of those with the best figure."""
        return self.ranked[0]

    @property
    def summary(self) -> str:
        """How many trials there are, by what became of them."""
        states = [trial.state for trial in self.trials]
        told = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
        return f"{plural(len(states), 'trial')}: {', '.join(told)}"

    def table(self, trials: Sequence[TrialResult] | None = None) -> list[dict[str, Any]]:
        """Trials as the rows of a table; all of them in order, if they are not given."""
        return table_of(self.trials if trials is None else trials, self.metric, self.keys)

    def shown(self) -> list[dict[str, Any]]:
        """The best trials as the rows of a table, without columns that say nothing."""
        return [
            {key: value for key, value in row.items() if key not in ("state", "reason")}
            for row in self.table(self.ranked[:SHOWN])
        ]

    def importance_table(self) -> list[dict[str, Any]]:
        """How much each open key matters, as the rows of a table."""
        return [{"key": key, "importance": share} for key, share in self.importance.items()]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "metric": self.metric,
            "more_is_better": self.more_is_better,
            "best": self.best.number,
            "trials": [{**vars(trial), "values": dict(trial.values)} for trial in self.trials],
            "importance": dict(self.importance),
        }

    def write(self) -> list[Path]:
        """Write best.yaml, trials.csv, importance.csv and tune.md into the folder; their paths."""
        best = (
            f"# Trial {self.best.number} of {plural(len(self.trials), 'trial')}: the best by {self._figure(self.best)}."
        )
        texts = {
            "best.yaml": f"{best}\n{mmreg.Recipe(mmreg.validate(self.recipe)['recipe']).to_yaml()}",
            RESULTS: csv_text(self.table()),
            "importance.csv": csv_text(self.importance_table(), ["key", "importance"]),
            "tune.md": self.markdown(),
        }
        for name, text in texts.items():
            write_text(self.folder / name, text)
        return [self.folder / name for name in texts]

    def markdown(self) -> str:
        """All of it as a page."""
        grown: list[TrialResult] = []
        for trial in self.trials:
            if trial.state == "finished" and (not grown or self._is_better(trial, grown[-1])):
                grown.append(trial)
        values = [{"key": key, "value": self.best.values.get(key)} for key in self.keys if key in self.best.values]
        parts = [
            "# Search",
            f"{self.summary}. The best is trial {self.best.number}, by {self._figure(self.best)}. Validation rows "
            "chose it, so that its figure is too good: train `best.yaml`, whose test rows no trial has looked at.",
            "## Best values",
            markdown_table(values),
            "## Importance",
            markdown_table(self.importance_table()) or "Too few trials have finished to tell.",
            "## How the best grew",
            markdown_table({"after trial": each.number, f"validation {self.metric}": each.value} for each in grown),
            "## Trials",
            markdown_table(self.table()),
        ]
        return "\n\n".join(parts) + "\n"

    def _figure(self, trial: TrialResult) -> str:
        return f"validation {self.metric} {cell(trial.value)}"

    def _is_better(self, one: TrialResult, other: TrialResult) -> bool:
        assert one.value is not None
        assert other.value is not None
        return one.value > other.value if self.more_is_better else one.value < other.value
