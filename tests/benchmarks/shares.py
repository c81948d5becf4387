"""What a process holds of a model that several train: `python shares.py`, in the environment of torchrun.

    torchrun --nproc-per-node 4 tests/benchmarks/shares.py [--shard] [--width 1024] [--layers 8] [--steps 3]

Prints, as JSON, the bytes of weights, gradients and optimizer's state of each process, counted tensor by tensor, and
how much larger it is in memory after these steps than before the model was made.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import resource
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve
from mmreg.training.joining import joined
from mmreg.training.loop import Trainer
from mmreg.training.rows import TrainingRows

ROWS = 32
PAGE = resource.getpagesize()


def recipe_of(width: int, layers: int) -> Recipe:
    """A transformer of a few words, whose weights are what takes memory."""
    draws = random.Random(0)
    rows = [
        {"text": " ".join(draws.choices("abcdefgh", k=4)), "label": number % 2, "split": "train"}
        for number in range(ROWS)
    ]
    encoder = {"name": "transformer", "hidden_size": width, "num_heads": 8, "num_layers": layers, "dropout": 0.0}
    training = {"batch_size": ROWS, "epochs": 1000, "max_steps": 1000, "optimizer": {"name": "AdamW", "lr": 1e-5}}
    return Recipe(
        table=rows,
        split="split",
        target={"column": "label"},
        modalities={"text": {"encoder": encoder}},
        training={**training, "schedule": None},
    )


def own_bytes(tensors: list[Tensor]) -> int:
    """What this process has of them."""
    own = [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
    return sum(each.numel() * each.element_size() for each in own)


def resident() -> int:
    """Bytes of this process that are in memory, without what has been freed and may be used again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measured(trainer: Trainer, steps: int) -> dict[str, int]:
    """Train some steps; what is held of weights, gradients and state then."""
    epochs, found = trainer.epochs(), dict[str, int]()

    def look(*_: Any) -> None:
        weights = list(trainer.model.parameters())
        found["weights"] = own_bytes(weights)
        found["gradients"] = own_bytes([each.grad for each in weights if each.grad is not None])

    trainer.step.on_gradients = look
    for _ in range(steps):
        next(epochs)
    state = trainer.optimizer.state.values()
    found["state"] = own_bytes([value for each in state for value in each.values() if value.dim()])
    trainer.peers.settle()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    shared = None
    if given.shard:
        from mmreg.training.sharding import Sharded as shared
    with joined("cpu", shared) as (peers, device):
        experiment = open_experiment(resolve(recipe_of(given.width, given.layers)))
        assert isinstance(experiment.table, Table)
        prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
        fit_arrays(prepared, experiment.modalities, experiment.splits["train"])
        rows = TrainingRows(
            prepared, experiment.targets, experiment.weights, experiment.splits["train"], experiment.splits["train"][:0]
        )
        before = resident()
        torch.manual_seed(0)
        model = experiment.build_model()
        total = sum(each.numel() * each.element_size() for each in model.parameters())
        trainer = Trainer(
            experiment.plan, model, experiment.modalities, rows, device, torch.float32, lambda step: None, peers=peers
        )
        del model
        found = {**measured(trainer, given.steps), "grown": resident() - before}
        told = {"model": total, "processes": peers.size, "shard": given.shard, "each": peers.from_all(found)}
        if peers.leads:
            print(json.dumps(told), flush=True)
    peers.wait()


if __name__ == "__main__":
    main()
    os._exit(0)
