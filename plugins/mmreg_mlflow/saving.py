"""Saving a run as a model of MLflow, with its signature, an example, and what has to be installed for it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import ColSpec, Schema

import mmreg
from mmreg.errors import TableError
from mmreg_mlflow.loading import RunModel

LOADER = "mmreg_mlflow.loading"
LEFT_OUT = ("checkpoints", "profile")
"""Folders of a run that only its training needs."""


def save_model(run: mmreg.Run | str | Path, path: str | Path, *, input_example: Any, **options: Any) -> None:
    """Save a run as a model of MLflow, which needs the run's folder no longer.

    Args:
        run: a run, or what `mmreg.load` takes.
        path: the folder of the model, to be made.
        input_example: some rows as a data frame, a list of dicts or a dict of columns, by which the types of the
            columns are known; columns that the run does not read are left out.
        options: passed on to `mlflow.pyfunc.save_model`.

    Raises:
        TableError: the example has no row, or none of the run's columns.
    """
    with _arguments(run, input_example) as arguments:
        mlflow.pyfunc.save_model(str(path), **{**arguments, **options})


def log_model(run: mmreg.Run | str | Path, name: str, *, input_example: Any, **options: Any) -> Any:
    """Log a run as a model of the MLflow run that is active, or of a new one.

    Args:
        run: as for `save_model`.
        name: what the model is called.
        input_example: as for `save_model`.
        options: passed on to `mlflow.pyfunc.log_model`, such as `registered_model_name`.

    Returns:
        MLflow's `ModelInfo`; `mlflow.pyfunc.load_model(info.model_uri)` loads it.

    Raises:
        TableError: as for `save_model`.
    """
    with _arguments(run, input_example) as arguments:
        return mlflow.pyfunc.log_model(name=name, **{**arguments, **options})


@contextmanager
def _arguments(run: mmreg.Run | str | Path, example: Any) -> Iterator[dict[str, Any]]:
    """What MLflow is told of a run, for as long as a copy of what is needed of its folder is there."""
    run = run if isinstance(run, mmreg.Run) else mmreg.load(run)
    rows = _rows(run, example)
    with tempfile.TemporaryDirectory(prefix="mmreg-") as place:
        folder = Path(place) / "run"
        shutil.copytree(run.folder, folder, ignore=_unneeded(run.folder))
        yield {
            "loader_module": LOADER,
            "data_path": str(folder),
            "signature": _signature(rows, RunModel(run).predict(rows)),
            "input_example": rows,
            "pip_requirements": _requirements(run.folder),
        }


def _rows(run: mmreg.Run, example: Any) -> pd.DataFrame:
    """Rows with the columns that a run reads."""
    frame = example if isinstance(example, pd.DataFrame) else pd.DataFrame(example)
    inputs = run.recipe["modalities"].values()
    read = {column for given in inputs for column in given.get("columns") or [given["column"]]}
    columns = [column for column in frame.columns if column in read or column == run.recipe["key"]]
    if not len(frame) or not read & set(columns):
        raise TableError(f"the input example needs a row and some of the columns {', '.join(sorted(read))}")
    return frame[columns]


def _signature(rows: pd.DataFrame, predicted: pd.DataFrame) -> ModelSignature:
    """The types of columns; none has to be there, as any modality may be absent."""
    inferred = infer_signature(rows, predicted)
    inputs: list[Any] = [ColSpec(column.type, column.name, required=False) for column in inferred.inputs]
    return ModelSignature(Schema(inputs), inferred.outputs)


def _requirements(folder: Path) -> list[str]:
    """What has to be installed: mmreg, torch, and the distributions and packages of the run's components."""
    facts = json.loads((folder / "components.json").read_text(encoding="utf-8"))
    own = {each["distribution"] for each in facts["components"].values()} | {"mmreg", "torch", "pandas"}
    found = []
    for name in sorted(own - {"local"}):
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(name)
    return found


def _unneeded(folder: Path) -> Any:
    def ignored(place: str, names: list[str]) -> list[str]:
        return [name for name in names if name in LEFT_OUT] if Path(place) == folder else []

    return ignored
