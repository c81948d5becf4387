"""Trainings that one process does, or several together: `python trained_together.py FOLDER`, once for each process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
SPLIT = [*["train"] * 44, *["validation"] * 11, *["test"] * 5]
CNN = {"name": "image_cnn", "dropout": 0.0, "channels": [4, 8], "features": 8}
RNN = {"name": "text_rnn", "dropout": 0.0, "features": 8, "hidden_size": 8, "embedding_size": 8}
IMAGE = {"type": "image", "column": "image", "size": 12, "augment": "none"}
PLAIN = {**IMAGE, "encoder": {**CNN, "normalization": "group"}}
TEXT = {"type": "text", "column": "text", "token_dropout": 0.0, "encoder": RNN}
NUMBERS = {"type": "tabular", "columns": ["a", "b"], "encoder": {"name": "tabular_mlp", "dropout": 0.0}}
TRAINING = {"epochs": 2, "batch_size": 8, "optimizer": {"name": "SGD", "lr": 0.05}, "schedule": None}
BALANCES = ("own_losses", "ogm_ge", "agm", "mmpareto", "pmr", "reconboost", "gradient_blending")
IDLE = {**NUMBERS, "encoder": {"name": "with_idle", "dropout": 0.0}}
CASES: dict[str, dict[str, Any]] = {
    "three modalities, some absent": {},
    "a batch of fewer rows than processes": {"training": {"batch_size": 3}},
    "batch norms": {"modalities": {"whole": {**IMAGE, "column": "whole", "encoder": CNN}}},
    "batch norms of torch's": {
        "modalities": {
            "whole": {
                **IMAGE,
                "column": "whole",
                "size": 32,
                "encoder": {"name": "torchvision", "model": "resnet18", "weights": "none"},
            }
        },
        "training": {"epochs": 1, "batch_size": 22, "optimizer": {"name": "SGD", "lr": 0.001}},
    },
    "gradients added up over batches": {"training": {"accumulate": 3, "batch_size": 4}},
    "averaged, clipped": {"training": {"average": 0.9, "gradient_clip": 0.1}},
    "the mean of the best epochs": {"training": {"keep": "soup"}},
    "steps left out that are not finite": {
        "training": {"on_nonfinite": "skip", "optimizer": {"name": "AdamW", "lr": 0.01}, "accumulate": 2}
    },
    "frozen at first": {
        "modalities": {"image": {**PLAIN, "encoder": {**PLAIN["encoder"], "freeze": {"until_epoch": 1}}}, "text": TEXT}
    },
    "frozen for good": {
        "modalities": {"image": {**PLAIN, "encoder": {**PLAIN["encoder"], "freeze": True}}, "text": TEXT}
    },
    "modalities left out": {"training": {"modality_dropout": 0.3}},
    "rare classes more often": {"training": {"class_balance": 0.5}},
    "weights in another order of memory": {
        "modalities": {"image": {**PLAIN, "encoder": {**PLAIN["encoder"], "name": "channels_last"}}, "text": TEXT}
    },
    "a weight that nothing depends on": {"modalities": {"numbers": IDLE, "text": TEXT}},
    "decisions fused": {"fusion": "product"},
    "rows that are compared": {"target": {"columns": {"time": "time", "event": "event"}, "task": "survival"}},
    "no target": {"target": {"task": "contrastive"}, "fusion": None, "modalities": {"image": PLAIN, "text": TEXT}},
    "several targets": {
        "targets": {
            "label": {"column": "label", "task": "classification"},
            "lasts": {"columns": {"time": "time", "event": "event"}, "task": "survival"},
        }
    },
    **{f"balance {name}": {"training": {"balance": name}} for name in BALANCES},
}
"""Recipes by name, each with what is other than in `recipe`. Nothing in them draws at random for single rows."""
SHARDED = (
    *("three modalities, some absent", "a batch of fewer rows than processes", "batch norms"),
    *("gradients added up over batches", "averaged, clipped", "the mean of the best epochs", "frozen at first"),
    *("frozen for good", "steps left out that are not finite", "weights in another order of memory"),
    "a weight that nothing depends on",
    *("decisions fused", "no target"),
    *("balance own_losses", "balance gradient_blending"),
)
"""Those that are trained with shared out weights as well."""
QUICK = (
    *("three modalities, some absent", "a batch of fewer rows than processes", "batch norms"),
    *("gradients added up over batches", "steps left out that are not finite", "decisions fused"),
    *("rows that are compared", "no target", "balance own_losses"),
)
"""Those that are not slow."""
QUICK_SHARDED = ("three modalities, some absent", "batch norms", "decisions fused")
STOPPED_AT = 5
"""The step after which a training is stopped, to be gone on with."""


def write_table(folder: Path) -> Path:
    """A table of pictures, texts and numbers, some of them absent, with a label and a time."""
    random = np.random.default_rng(0)
    rows = []
    for row, split in enumerate(SPLIT):
        label = row % 3
        pixels = (random.random((12, 12, 3)) * 120).astype(np.uint8)
        pixels[:, :, label] += 100
        Image.fromarray(pixels).save(folder / f"{row}.png")
        words = random.choice(WORDS[label : label + 4], random.integers(1, 7))
        rows.append(
            {
                "split": split,
                "image": f"{row}.png" if random.random() > 0.4 else "",
                "whole": f"{row}.png",
                "text": " ".join(words) if random.random() > 0.4 else "",
                "a": round(label + random.normal(), 3),
                "b": round(random.normal(), 3),
                "label": "xyz"[label],
                "time": round(random.exponential() + 0.1, 3),
                "event": int(random.random() < 0.7),
            }
        )
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def stopped_recipe(folder: Path) -> dict[str, Any]:
    """A training that is stopped: single numbers that are learned, states of weights, a mean, frozen weights."""
    data = recipe(folder, "no target")
    data["modalities"]["text"] = {**TEXT, "encoder": {**RNN, "freeze": True}}
    data["training"] |= {"optimizer": {"name": "AdamW", "lr": 0.01}, "average": 0.8, "gradient_clip": 1.0}
    return data


def recipe(folder: Path, name: str) -> dict[str, Any]:
    """The recipe of a case, over the table in a folder."""
    case = CASES[name]
    modalities = case.get("modalities") or {"image": PLAIN, "text": TEXT, "numbers": NUMBERS}
    goal = {key: case[key] for key in ("target", "targets") if key in case}
    goal = goal or {"target": {"column": "label", "task": "classification"}}
    return {
        "table": str(folder / "table.csv"),
        "split": "split",
        **goal,
        "modalities": modalities,
        "fusion": case.get("fusion", "concat" if len(modalities) > 1 else None),
        "training": {**TRAINING, **case.get("training", {})},
    }


def train_all(folder: Path, out: Path, names: Sequence[str]) -> None:
    """Train cases, each into a folder of its own."""
    import torch

    import mmreg
    from mmreg import registry
    from mmreg_image.cnn import ImageCNN
    from mmreg_tabular.mlp import TabularMLP

    class WithIdle(TabularMLP):
        """A perceptron beside weights that it does not use."""

        def __init__(self, spec: Any, **options: Any) -> None:
            super().__init__(spec, **options)
            self.idle = torch.nn.Linear(3, 3)

    class ChannelsLast(ImageCNN):
        """Convolutions whose weights are in the order that is fast on GPUs."""

        def __init__(self, spec: Any, **options: Any) -> None:
            super().__init__(spec, **options)
            self.to(memory_format=torch.channels_last)

    registry.register("encoder", "with_idle", WithIdle)
    registry.register("encoder", "channels_last", ChannelsLast)
    torch.set_num_threads(1)
    for name in names:
        mmreg.train(recipe(folder, name), out / str(list(CASES).index(name)), device="cpu")


def train_sharded(folder: Path, out: Path, names: Sequence[str]) -> None:
    """Train cases with shared out weights, and others that are stopped, gone on with, and fail."""
    import mmreg
    from mmreg.errors import TrainingError
    from mmreg.training import sharding

    for name in names:
        mmreg.train(recipe(folder, name), out / str(list(CASES).index(name)), device="cpu", shard=True)
    sharding.BLOCK = 1
    told = {"layers": _told(lambda: mmreg.train(layers(folder), out / "layers", device="cpu", shard=True))}
    told["stopped"] = _told(lambda: train_and_stop(folder, out / "stopped"))
    for name, shard in (("stopped, sharded", True), ("stopped, not sharded", False)):
        if os.environ["RANK"] == "0":
            shutil.copytree(out / "stopped", out / name)
        mmreg.train(stopped_recipe(folder), out / name, device="cpu", shard=shard, resume=True)
    data = recipe(folder, "three modalities, some absent")
    data["training"]["optimizer"]["lr"] = 1e30
    try:
        mmreg.train(data, out / "fails", device="cpu", shard=True)
    except TrainingError as error:
        told["fails"] = str(error)
    (out / f"told-{os.environ['RANK']}.json").write_text(json.dumps(told))


def layers(folder: Path) -> dict[str, Any]:
    """A recipe whose encoder has layers."""
    encoder = {"name": "transformer", "dropout": 0.0, "hidden_size": 8, "num_heads": 2, "num_layers": 3}
    data = recipe(folder, "three modalities, some absent")
    return {**data, "modalities": {"numbers": NUMBERS, "text": {**TEXT, "encoder": encoder}}}


def train_and_stop(folder: Path, out: Path) -> None:
    import mmreg

    stop = mmreg.Stop()

    class AtStep(mmreg.Callback):
        def on_step(self, step: Any) -> None:
            stop.wanted = step.step == STOPPED_AT

    try:
        mmreg.train(stopped_recipe(folder), out, device="cpu", shard=True, callback=AtStep(), stop=stop)
    except mmreg.Stopped:
        return
    raise AssertionError("it was not stopped")


def _told(train: Callable[[], object]) -> dict[str, Any]:
    """How many numbers a training had on this process, of all, and in how many parts, as it kept its state last."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    from mmreg.training.loop import Trainer

    told: dict[str, Any] = {}
    state = Trainer.state

    def counted(trainer: Trainer) -> dict[str, Any]:
        kept = state(trainer)
        moments = [each for one in trainer.optimizer.state.values() for each in one.values() if each.numel() > 1]
        for name, tensors in {"weights": list(trainer.model.parameters()), "moments": moments}.items():
            assert all(isinstance(each, DTensor) for each in tensors)
            told[name] = [sum(each.to_local().numel() for each in tensors), sum(each.numel() for each in tensors)]
        told["parts"] = [name for name, each in trainer.model.named_modules() if isinstance(each, FSDPModule)]
        return kept

    Trainer.state = counted  # type: ignore[method-assign]
    try:
        train()
    finally:
        Trainer.state = state  # type: ignore[method-assign]
    return told


def start(
    size: int, arguments: list[str], env: dict[str, str] | None = None, stdin: int | None = None
) -> list[subprocess.Popen[str]]:
    """Start this Python with the same arguments in several processes that find each other."""
    from torch.distributed import TCPStore

    port = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False).port
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        **(env or {}),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]


def figures(out: Path) -> list[dict[str, float]]:
    """The figures of each epoch of a run."""
    with (out / "metrics.csv").open() as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


if __name__ == "__main__":
    asked = json.loads(sys.argv[3])
    train_all(Path(sys.argv[1]), Path(sys.argv[2]), asked["cases"])
    train_sharded(Path(sys.argv[1]), Path(sys.argv[2]) / "sharded", asked["sharded"])
