"""What MLflow calls to load a model that was saved as a run: no pickle, but the run's own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

import mmreg
from mmreg.errors import DataError
from mmreg.messages import plural


class RunModel:
    """A run as MLflow asks models.

    Args:
        run: the run.
    """

    def __init__(self, run: mmreg.Run) -> None:
        self.run = run

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Predict rows.

        Args:
            rows: a data frame with the columns that the recipe names, or what makes one; a missing column counts as
                absent.
            params: MLflow's, of which there are none.

        Returns:
            A row for each, with the columns of `Run.predict`.

        Raises:
            DataError: some rows have a value that cannot be read, and the recipe leaves such rows out.
        """
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        predicted = pd.DataFrame(self.run.predict_columns(frame))
        if len(predicted) != len(frame):
            lost = len(frame) - len(predicted)
            raise DataError(
                f"{lost} of {plural(len(frame), 'row has', 'rows have')} a value that cannot be read; look at on_bad"
            )
        return predicted


def _load_pyfunc(path: str) -> RunModel:
    """The model in a folder; the name is MLflow's."""
    return RunModel(mmreg.load(path))
