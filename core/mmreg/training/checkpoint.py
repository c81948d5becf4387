"""A training's states in files, the last two: each whole or not there, checked, and read without running anything."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from mmreg import runs
from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.errors import RunError
from mmreg.files import keep_under, replacing
from mmreg.messages import one_line

TRAINING = "training"
"""The key of a state by which it names the training that it is of."""
BEST_WEIGHTS = "best_weights"
"""The key of the checksum of the best weights at that time; empty where there were none."""
FROZEN_WEIGHTS = "frozen_weights"
"""The key of the checksum of the weights that stay as they are; empty where there are none."""


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
            keep_under(path, folder / runs.EARLIER_CHECKPOINT)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a state in a run's folder to go on from, or something in its place that tells why not."""
    return any(os.path.lexists(folder / name) for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT))


def load_checkpoint(
    folder: Path,
    parts: Sequence[str] = (),
    training: str = "",
    take: Callable[[dict[str, Any]], None] = lambda state: None,
) -> tuple[dict[str, Any], str]:
    """Read the last state that `save_checkpoint` wrote, or the one before if that is damaged, into host memory.

    Args:
        folder: the run's.
        parts: the names of the model's parts, by which the composed names of an earlier release are told apart.
        training: what identifies the training; a state that names another one is refused. Any one is taken without.
        take: takes a state over; one that it cannot take is as good as damaged.

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
            if training and state.get(TRAINING, training) != training:
                problems.append(f"{path} is of another training")
                continue
            take(state)
        except (MemoryError, torch.OutOfMemoryError):
            raise  # it says nothing of the file
        except Exception as error:  # torch raises many kinds for a damaged file
            what = one_line(error)
            if type(error).__name__ == "UnpicklingError":  # torch goes on about how to run what the file holds
                what = "or holds more than tensors and plain data"
            problems.append(f"{path} is damaged ({what})")
        else:
            done = f"of epoch {state['progress']['epoch']}, step {state['progress']['step']:,}"
            from_here = f"; going on from the one before, {done}"
            return state, f"the checkpoint {problems[0]}{from_here}" if problems else ""
    raise RunError(f"the checkpoint {' and '.join(problems)}; train anew with --overwrite")


def forget_earlier(folder: Path) -> None:
    """Remove the state before the last one, and its best weights: a training that is over needs the last one alone.

    They stay where that is damaged or gone, as the training can be made longer from them.
    """
    with contextlib.suppress(Exception):  # of as many kinds as there are ways to be damaged
        _expect_whole(runs.run_file(folder, runs.CHECKPOINT))
        for name in (runs.EARLIER_CHECKPOINT, runs.EARLIER_BEST):
            (folder / name).unlink(missing_ok=True)


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
    _expect_whole(file)
    if not isinstance(file, Path):
        file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _expect_whole(file: Path | IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:  # torch writes a checksum of every part into its files, but reads none
        damaged = archive.testzip()
    if damaged is not None:
        raise RunError(f"{damaged} does not fit its checksum")


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
