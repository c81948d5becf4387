"""How many rows a batch has where the recipe leaves it open: as many as make a training faster and fit into memory."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.capacity import free_memory, peak_memory
from mmreg.contract.interfaces import Modality
from mmreg.data.lengths import ragged_bytes
from mmreg.model.model import MultimodalModel
from mmreg.model.seeding import random_state_kept
from mmreg.recipe.resolve import Plan
from mmreg.training.parameters import Freezing, parameter_groups, trained_weights
from mmreg.training.rows import TrainingRows
from mmreg.training.step import TrainingStep

FIRST = 16
"""Rows of the first batch that is tried; each further one has twice as many."""
LARGEST = 4096
"""Rows that are enough for any device."""
STEPS_AN_EPOCH = 32
"""Steps that an epoch keeps at least, as fewer of them teach less."""
GAIN = 1.1
"""By what factor twice as many rows have to raise the rows a second."""
STEPS = 3
"""Steps that are timed for each size, of which the fastest counts."""
SECONDS = 20.0
"""Seconds that all trials may take together, as far as that can be foreseen."""
SHARE = 0.5
"""The share of free memory that a batch may take."""


@dataclass(frozen=True)
class Trial:
    """What a step with so many rows took.

    Attributes:
        seconds: of the fastest step.
        memory: the bytes that it needed beyond those in use before.
    """

    seconds: float
    memory: float


def best_batch_size(try_rows: Callable[[int], Trial | None], rows: int, free: float) -> int:
    """The size from which on more rows a batch are no faster, do not fit, or leave too few steps.

    Args:
        try_rows: tries steps with so many rows; None where the memory does not suffice.
        rows: how many training rows there are.
        free: bytes of memory that are free.
    """
    most = max(min(LARGEST, rows // STEPS_AN_EPOCH), FIRST)
    best, speed, spent, size = 1, 0.0, 0.0, FIRST
    while size <= most:
        trial = try_rows(size)
        if trial is None and not speed and size > 1:
            size = most = size // 2
            continue
        if trial is None or size / trial.seconds < GAIN * speed:
            break
        best, speed = size, size / trial.seconds
        spent += STEPS * trial.seconds
        # Twice as many rows take about twice as much.
        if 2 * trial.memory > SHARE * free or spent + 2 * STEPS * trial.seconds > SECONDS:
            break
        size *= 2
    return min(best, rows)


def find_batch_size(
    plan: Plan,
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    rows: TrainingRows,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """The batch size for a training, by steps on copies of the model with the longest training rows.

    Neither the model nor any random state changes.

    Args:
        plan: the resolved recipe.
        model: on its device.
        modalities: by name, fitted.
        rows: what to learn from.
        device: where to compute.
        dtype: the dtype of the forward pass.
    """
    lengths = ragged_bytes(rows.prepared, rows.train)
    longest_first = np.arange(len(rows.train)) if lengths is None else np.argsort(-lengths, kind="stable")

    def try_rows(size: int) -> Trial | None:
        try:
            return _trial(plan, copy.deepcopy(model), modalities, rows, longest_first[:size], device, dtype)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
                return None
            raise
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()

    with random_state_kept(device):
        return best_batch_size(try_rows, len(rows.train), _free(device))


def _trial(
    plan: Plan,
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    rows: TrainingRows,
    chosen: NDArray[np.int64],
    device: torch.device,
    dtype: torch.dtype,
) -> Trial:
    """A few steps with the training rows at these places, which change the model that is given."""
    weights = trained_weights(plan)
    optimizer = plan.optimizer.build().build(parameter_groups(model, weights))
    step = TrainingStep(model, modalities, optimizer, plan.recipe.form.training, STEPS, device, dtype)
    model.train()
    Freezing(model, weights).begin(0)
    before = _in_use(device)
    seconds = []
    for number in range(STEPS):
        started = time.perf_counter()
        group = list(rows.training_batches([chosen], None, device))
        step(group, number, group[0].weight).loss.item()  # which waits for the device
        seconds.append(time.perf_counter() - started)
    return Trial(min(seconds), _peak(device) - before)


def _free(device: torch.device) -> float:
    """Bytes of memory that are free for this process where it computes."""
    if device.type != "cuda":
        return free_memory(swap=False)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + unused)


def _in_use(device: torch.device) -> float:
    """Bytes of memory in use; the greatest number so far is counted from here on, where that can be."""
    if device.type != "cuda":
        return peak_memory()
    torch.cuda.reset_peak_memory_stats(device)
    return float(torch.cuda.memory_allocated(device))


def _peak(device: torch.device) -> float:
    """The most bytes in use since `_in_use`."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_memory()
