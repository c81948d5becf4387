"""A table predicted by an engine's workers: shards of its rows, each predicted as `Run.predict_columns` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmreg.contract.engine import Engine
from mmreg.data.prepared import OnBad
from mmreg.data.table import Table
from mmreg.registry.elsewhere import compute_elsewhere
from mmreg.runs.run import Run

SHARD_ROWS = 256
"""About how many rows a shard has; always whole batches, so that the same rows share one as where all are at hand."""


def predict_elsewhere(
    engine: Engine,
    run: Run,
    table: Any,
    *,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> dict[str, list[Any]]:
    """What `Run.predict_columns` gives, computed by an engine's workers, each of which loads the run once.

    Args:
        engine: what has the workers; all of them can read the run's folder, and the files that cells name.
        run: the run.
        table: as `Run.predict_columns` takes it.
        batch_size: rows at a time; the recipe's if not given.
        device: where each worker computes.
        precision: in which it does; the run's if not given.
        progress: told the rows done, their number, and "predicting".

    Raises:
        EngineError: the workers cannot be reached, or fail.
        DataError: a shard has cells that cannot be loaded and the policy is to stop.
    """
    opened: Table = run.open_table(table).absolute()
    run.with_columns(opened)  # it says what is wrong with the whole table
    size = batch_size or run.batch_size
    rows = size * max(1, SHARD_ROWS // size)
    starts = range(0, len(opened), rows)
    shards = (opened.select(np.arange(first, min(first + rows, len(opened)))) for first in starts)
    worker = _Predicting(run.folder.resolve(), size, device, precision, run.on_bad)
    results = compute_elsewhere(engine, worker, shards, len(starts), accelerator=device.partition(":")[0] != "cpu")
    columns: dict[str, list[Any]] = {}
    for first, part in zip(starts, results, strict=True):
        if not columns or not any(columns.values()):
            columns = part
        elif any(part.values()):  # a shard whose rows are all left out knows no more than their keys
            for name, values in columns.items():
                values.extend(part[name])
        if progress is not None:
            progress(min(first + rows, len(opened)), len(opened), "predicting")
    return columns


class _Predicting:
    """Predicts shards of a table by the run in a folder, which is loaded for the first of them."""

    def __init__(self, folder: Path, batch_size: int, device: str, precision: str | None, on_bad: OnBad | None) -> None:
        self._folder, self._batch_size, self._device = folder, batch_size, device
        self._precision, self._on_bad = precision, on_bad
        self._run: Run | None = None

    def __call__(self, shard: Table) -> dict[str, list[Any]]:
        if self._run is None:
            from mmreg.runs.loading import load

            self._run = load(self._folder, self._device, self._precision, self._on_bad)
        return self._run.predict_columns(shard, batch_size=self._batch_size, cached=False)
