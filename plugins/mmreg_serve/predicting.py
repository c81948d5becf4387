"""Predictions for the rows of several requests at once, each answered by itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmreg import Run
from mmreg.errors import MmregError
from mmreg.messages import shortened
from mmreg_serve.refusal import Refused
from mmreg_serve.requests import Request
from mmreg_serve.shares import shares

logger = logging.getLogger("mmreg")

Answer = list[dict[str, Any]]
"""Of each row of a request its prediction, its modalities, and their shares if they were asked for."""


class Predictor:
    """Answers requests by a run; to be called from one thread at a time.

    Args:
        run: what predicts.
        batch_rows: rows at a time.
    """

    def __init__(self, run: Run, batch_rows: int) -> None:
        self.run = run
        self.batch_rows = batch_rows

    def __call__(self, requests: Sequence[Request]) -> list[Answer | Refused]:
        """The answer to each request. One that cannot be answered changes nothing for the others."""
        try:
            return self._together(requests)
        except Exception as error:
            if len(requests) > 1:  # which of them it is, is seen one by one
                return [self([request])[0] for request in requests]
            if isinstance(error, MmregError):
                return [Refused(422, shortened(str(error), 500))]
            logger.exception("mmreg serve: a request could not be answered")
            return [Refused(500, f"the prediction failed: {type(error).__name__}")]

    def _together(self, requests: Sequence[Request]) -> list[Answer | Refused]:
        prepared = self.run.prepare([row for request in requests for row in request.rows], on_bad="absent").prepared
        bad = _bad_cells(prepared)
        answers: list[Answer | Refused] = []
        rows: list[int] = []  # of the requests that can be answered
        explained: list[int] = []  # those of them whose shares are asked for
        first = 0
        for request in requests:
            own = range(first, first + len(request.rows))
            first = own.stop
            causes = [f"row {row - own.start + 1}, {bad[row]}" for row in own if row in bad]
            if causes:
                answers.append(Refused(422, "\n".join(causes[:10])))
                continue
            explained += range(len(rows), len(rows) + len(own)) if request.shares else []
            answers.append([{} for _ in own])
            rows += own
        told = self._told(prepared, np.array(rows, np.int64), explained) if rows else []
        parts = iter(told)
        return [answer if isinstance(answer, Refused) else [next(parts) for _ in answer] for answer in answers]

    def _told(self, prepared: Mapping[str, Any], rows: Any, explained: list[int]) -> Answer:
        """What is answered of some rows."""
        predicted = self.run.predict_rows(prepared, rows, self.batch_rows)
        columns = self.run.task.predictions(predicted.scores)
        columns |= {name: values.tolist() for name, values in predicted.extras.items()}
        had = {
            name: np.any([prepared[part].present[rows] for part in parts], 0).tolist()
            for name, parts in self.run.inputs.items()
        }
        told = [
            {
                "prediction": {name: _plain(values[at]) for name, values in columns.items()},
                "modalities": [name for name, present in had.items() if present[at]],
            }
            for at in range(len(rows))
        ]
        if explained:
            for at, more in zip(explained, shares(self.run, prepared, rows[explained], self.batch_rows), strict=True):
                told[at] |= more
        return told


def _bad_cells(prepared: Mapping[str, Any]) -> dict[int, str]:
    """Of each row with cells that cannot be loaded, the first one: its column, and why."""
    found: dict[int, str] = {}
    for values in prepared.values():
        for cell in values.bad:
            found.setdefault(cell.row, f"column {cell.column}: {shortened(cell.cause, 300)}")
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
