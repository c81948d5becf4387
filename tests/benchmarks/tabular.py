"""Encoders of tabular data beside scikit-learn's gradient boosting, on the tables that scikit-learn ships.

Run as a script: `python tests/benchmarks/tabular.py tabm,tabular_mlp 5` (encoders, number of seeds; then names of
tables, if not all).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmreg

SETS = ("breast_cancer", "wine", "digits", "diabetes")
EPOCHS, BATCH = 60, 32


def score(encoder: str, numbers: NDArray[np.float64], targets: Sequence[Any], split: Sequence[str], seed: int) -> float:
    """The accuracy (or R²) on test rows of a run on these columns (N, C)."""
    columns = [f"c{number}" for number in range(numbers.shape[1])]
    table = {name: column.tolist() for name, column in zip(columns, numbers.T, strict=True)}
    task, metric = ("regression", "r2") if isinstance(targets[0], float) else ("classification", "accuracy")
    recipe = {
        "table": {**table, "y": list(targets), "split": list(split)},
        "split": "split",
        "target": {"column": "y", "task": task},
        "modalities": {"facts": {"type": "tabular", "columns": columns, "encoder": encoder}},
        "training": {"epochs": EPOCHS, "batch_size": BATCH, "seed": seed},
    }
    with tempfile.TemporaryDirectory() as folder:
        mmreg.train(recipe, Path(folder) / "run", device="cpu")
        report = json.loads((Path(folder) / "run" / "report.json").read_text())
    return float(report["test"]["metrics"][metric])


def main() -> None:
    """Print the mean and the standard error over seeds, a line a set."""
    from sklearn import datasets
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.model_selection import train_test_split

    encoders, seeds = sys.argv[1].split(","), range(int(sys.argv[2]))
    for name in sys.argv[3].split(",") if len(sys.argv) > 3 else SETS:
        data = getattr(datasets, f"load_{name}")()
        classes = name != "diabetes"
        targets: list[Any] = [f"class {value}" if classes else float(value) for value in data.target]
        found: dict[str, list[float]] = {"boosting": [], **{encoder: [] for encoder in encoders}}
        for seed in seeds:
            rows = np.arange(len(targets))
            kept, test = train_test_split(
                rows, test_size=0.2, random_state=seed, stratify=data.target if classes else None
            )
            strata = data.target[kept] if classes else None
            _, validation = train_test_split(kept, test_size=0.15, random_state=seed, stratify=strata)
            boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
            fitted = boosting(random_state=seed).fit(data.data[kept], data.target[kept])  # it chooses by no other rows
            found["boosting"].append(float(fitted.score(data.data[test], data.target[test])))
            split = np.full(len(targets), "train", object)
            split[validation], split[test] = "validation", "test"
            for encoder in encoders:
                found[encoder].append(score(encoder, data.data, targets, split.tolist(), seed))
        told = [f"{each} {np.mean(of):.3f} ± {np.std(of, ddof=1) / len(of) ** 0.5:.3f}" for each, of in found.items()]
        print(f"{name}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
