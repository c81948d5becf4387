"""A training's states in files, the last two: each whole or not there, checked, and read without running anything."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from mmreg import runs
from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.errors import RunError
from mmreg.files import replacing
from mmreg.messages import one_line


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain data into a run's folder, and keep the checkpoint before.

    Raises:
        OSError: it cannot be written, as on a full disk; what is there stays.
    """
    path = folder / runs.CHECKPOINT
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            write_state(file, state)
        if path.is_file():
            _keep(path, folder / runs.EARLIER_CHECKPOINT)


def _keep(path: Path, earlier: Path) -> None:
    """Give a file a second name, in the place of what has it."""
    try:
        with replacing(earlier) as temporary:
            os.link(path, temporary)
    except OSError:  # a file system without second names: for a moment there is the earlier checkpoint alone
        os.replace(path, earlier)  # noqa: PTH105 (atomic on every platform)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a state in a run's folder to go on from."""
    return any((folder / name).is_file() for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT))


def load_checkpoint(folder: Path, parts: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """Read the last state that `save_checkpoint` wrote, or the one before if that is damaged, into host memory.

    Args:
        folder: the run's.
        parts: the names of the model's parts, by which the composed names of an earlier release are told apart.

    Returns:
        The state, and what a person should know of it; empty if nothing is odd.

    Raises:
        RunError: both are damaged, or hold more than tensors and plain data.
    """
    problems = []
    for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT):
        path = runs.run_file(folder, name)
        if not path.is_file():
            problems.append(f"{path} is gone")
            continue
        try:
            state = read_state(path)
            history = state["progress"]["history"]
            history = [each if "values" in each else _epoch_of_row(each, parts) for each in history]
            state["progress"]["history"] = history
        except MemoryError:
            raise  # it says nothing of the file
        except Exception as error:  # torch raises many kinds for a damaged file
            problems.append(f"{path} is damaged ({one_line(error)})")
        else:
            done = f"of epoch {state['progress']['epoch']}, step {state['progress']['step']:,}"
            from_here = f"; going on from the one before, {done}"
            return state, f"the checkpoint {problems[0]}{from_here}" if problems else ""
    raise RunError(f"the checkpoint {' and '.join(problems)}; train anew with --overwrite")


def write_state(file: IO[bytes], state: Mapping[str, Any]) -> None:
    """Write tensors and plain data to an open file."""
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's own, raised while it closes what it could not write
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read_state(file: Path | IO[bytes]) -> Any:
    """What `write_state` wrote, into host memory; runs nothing that the file holds.

    Raises:
        Exception: of many kinds: the file is damaged, or holds more than tensors and plain data.
    """
    with zipfile.ZipFile(file) as archive:  # torch writes a checksum of every part into its files, but reads none
        damaged = archive.testzip()
    if damaged is not None:
        raise RunError(f"{damaged} does not fit its checksum")
    if not isinstance(file, Path):
        file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


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
