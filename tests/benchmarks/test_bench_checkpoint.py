"""How long a training waits for a checkpoint of 300 MB on a CPU, beside one of its steps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from harness import record
from torch import nn

from mmreg import runs
from mmreg.model.allocator import freed_memory_kept
from mmreg.recipe.training_form import Checkpoint
from mmreg.training.saving import Kept, Saver

ROUNDS, BATCH, WIDTH, LAYERS = 9, 64, 1024, 24


@pytest.mark.bench
@pytest.mark.usefixtures("two_threads")
def test_a_checkpoint_takes_a_training_no_longer_than_a_step(tmp_path: Path) -> None:
    (tmp_path / runs.CHECKPOINTS).mkdir()
    model = nn.Sequential(*(layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.randn(BATCH, WIDTH)

    def step() -> float:
        started = time.perf_counter()
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    step()
    ratios = []
    with freed_memory_kept(), Saver(tmp_path, Checkpoint(minutes=None)) as saver:  # as in a training
        for number in range(1, ROUNDS + 1):
            one = step()
            started = time.perf_counter()
            progress = {"step": number}
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": progress}
            saver.save(Kept(state=state), number)
            wait = time.perf_counter() - started
            ratios.append(wait / max(one, 0.02))
            print(f"step {1e3 * one:.0f} ms, checkpoint {1e3 * wait:.0f} ms")
            while saver.kept < number:  # written, by a thread that would meet the next step
                time.sleep(0.05)
                saver.raise_failure()
    record("checkpoint of 300 MB, the wait", "one step, or 20 ms", ratios, at_most=1)
