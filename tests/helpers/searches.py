"""A table of numbers that is quick to train on, a recipe for it with a value left open, and what a search came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mmreg_tune import Tuning

RECIPE = """\
table: table.csv
split: split
target: {column: label}
modalities:
  numbers: {type: tabular, columns: [a, b], encoder: {name: tabular_mlp, dropout: 0.0}}
training:
  epochs: 3
  batch_size: 32
  optimizer: {name: AdamW, lr: {search: log, low: 1e-5, high: 0.1}}
"""


def write_rows(path: Path, other_test: bool = False) -> None:
    """Two numbers, whether their sum is above 0, and a split; or the same but for the targets of the test rows."""
    random = np.random.default_rng(0)
    lines = ["a,b,label,split"]
    for number, (a, b) in enumerate(random.normal(size=(180, 2))):
        split = ("train", "train", "train", "validation", "validation", "test")[number % 6]
        above = (a + b + random.normal(scale=0.3) > 0) != (other_test and split == "test")
        lines.append(f"{a:.4f},{b:.4f},{'above' if above else 'below'},{split}")
    path.write_text("\n".join(lines) + "\n")


def tune(recipe: Any, out: Path, count: int = 3, **options: Any) -> Tuning:
    """Search by this process, ending no trial early unless asked to."""
    from mmreg_tune import study  # needs optuna

    return study.tune(recipe, out, trials=count, device="cpu", **{"pruner": "none", **options})


def told(tuning: Any) -> list[tuple[Any, ...]]:
    """What there is of each trial but for the time it took."""
    return [(each.number, each.state, each.value, each.values, each.epochs, each.best_epoch) for each in tuning.trials]
