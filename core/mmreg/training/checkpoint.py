"""A training's state in a file: written whole or not at all, and read without running anything it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.errors import RunError
from mmreg.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain data; a kill leaves the previous checkpoint as it was.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own, raised while it closes what it could not write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, into host memory.

    Args:
        path: the file.
        parts: the names of the model's parts, by which the composed names of an earlier release are told apart.

    Raises:
        RunError: the file is damaged or holds more than tensors and plain data.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"the checkpoint {path} cannot be read ({error}); train anew with --overwrite") from error
    history = state["progress"]["history"]
    state["progress"]["history"] = [each if "values" in each else _epoch_of_row(each, parts) for each in history]
    return state


def _epoch_of_row(row: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """An epoch from a row of metrics.csv, as mmreg 0.1.0 kept it."""
    values = []
    for column, value in row.items():
        split, _, rest = column.partition("_")
        if split in ("train", "validation"):
            own = [part for part in parts if rest.startswith(f"{part}_")]
            part = max(own, key=len, default="")
            values.append(MetricValue(split, part, rest.removeprefix(f"{part}_") if part else rest, value))
    return Epoch(row["epoch"], row["step"], row["learning_rate"], tuple(values)).to_plain()
