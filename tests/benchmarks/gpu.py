"""How fast a GPU trains beside a bare loop: the same model, by hand, over tensors on the device, as one CUDA graph.

    python tests/benchmarks/gpu.py [--only seed_model,...] [--modes eager,...] [--seconds 4] [--rows N] [--kernels]
        [--out FILE]

Every scenario runs in one process: epochs of mmreg and as many steps of the bare loop take turns, and ratios are
medians over these rounds. `eager` is `training.compile: false`, `recorded` is `auto` (steps recorded as CUDA
graphs), and `compiled` is `true` (encoders compiled by torch.compile, too). `one_rank` and `sharded` are steps as one
of several processes takes them, of which there is one: gradients added up by NCCL (gloo on a CPU), and weights that
FSDP shares out. Beside `eager` they show what that costs, as neither records nor compiles.

Axes: B batch, R rows.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from setups import SEED_MODEL
from torch import nn

import mmreg
from mmreg import GRID, Encoder, Features, Signal, Spec, registry
from mmreg.data.prepared import fit_arrays
from mmreg.data.resident import ResidentValues
from mmreg.data.table import Table
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.model.devices import resolve_device, tuned
from mmreg.recipe.resolve import resolve
from mmreg.training.joining import joined
from mmreg.training.loop import Trainer
from mmreg.training.peers import Peers
from mmreg.training.rows import TrainingRows

KERNELS = 15
"""How many of them are kept."""
RANDOM = np.random.default_rng(0)
WORDS = [f"word{number}" for number in range(500)]
MODES: Mapping[str, Any] = {"eager": False, "recorded": "auto", "compiled": True, "one_rank": False, "sharded": False}
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
"""What torchrun tells the one process that it starts."""


class ResNet50(Encoder):
    """torchvision's ResNet-50 without its classifier."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.net = torchvision.models.resnet50(weights=None)
        self.net.fc = nn.Identity()
        self.net.to(memory_format=torch.channels_last)
        self.out_features = 2048

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        return None if spec.axes == GRID else "it takes pictures"

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.net(signal.values.contiguous(memory_format=torch.channels_last)))


@dataclass(frozen=True)
class Scenario:
    """What is trained: modalities, operator, and how many rows of which content."""

    modalities: Mapping[str, Any]
    fusion: str
    rows: int
    row: Callable[[], dict[str, Any]]
    batch_size: int = 64


def picture(side: int, channels: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (channels, side, side), dtype=np.uint8)


def sound(least: float, most: float, rate: int) -> np.ndarray:
    return RANDOM.standard_normal(int(RANDOM.uniform(least, most) * rate)).astype(np.float32)


DIGITS = {
    "image": {"size": 28, "channels": 1, "encoder": "image_cnn"},
    "audio": {"sample_rate": 8000, "encoder": "audio_cnn"},
}
PHOTOS = {
    "image": {"size": 224, "augment": ["crop", "flip"], "encoder": {"name": "resnet50"}},
    "text": {"encoder": "text_rnn"},
    "audio": {"sample_rate": 16000, "encoder": "audio_cnn"},
}


def digits() -> dict[str, Any]:
    return {"image": picture(28, 1), "audio": sound(0.3, 1.0, 8000)}


def sentence(least: int, most: int) -> str:
    return " ".join(RANDOM.choice(WORDS, RANDOM.integers(least, most + 1)))


SCENARIOS = {
    "seed_model": Scenario(SEED_MODEL, "concat", 6400, lambda: {"image": picture(32, 3), "text": sentence(12, 12)}),
    "digits_concat": Scenario(DIGITS, "concat", 6400, digits),
    "digits_product": Scenario(DIGITS, "product", 6400, digits),
    "photos": Scenario(
        PHOTOS,
        "concat",
        1024,
        lambda: {"image": picture(224, 3), "text": sentence(5, 30), "audio": sound(1.0, 2.0, 16000)},
    ),
}


def experiment_of(scenario: Scenario) -> Experiment:
    rows = [{**scenario.row(), "label": number % 10, "split": "train"} for number in range(scenario.rows)]
    return open_experiment(
        resolve(
            mmreg.Recipe(
                table=rows,
                split="split",
                target={"column": "label"},
                modalities=scenario.modalities,
                fusion=scenario.fusion,
                training={
                    "batch_size": scenario.batch_size,
                    "epochs": 10_000,
                    "max_steps": 10_000,
                    "optimizer": {"name": "Adam", "lr": 0.001},
                },
            )
        )
    )


class Ours:
    """mmreg's own training."""

    def __init__(
        self, experiment: Experiment, prepared: Any, device: torch.device, mode: str, peers: Peers | None = None
    ) -> None:
        torch.manual_seed(0)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        rows = TrainingRows(
            prepared, experiment.targets, experiment.weights, experiment.splits["train"], np.zeros(0, np.int64)
        )
        self.told: list[str] = []
        experiment.plan.recipe.form.training.compile = MODES[mode]
        self.trainer = Trainer(
            experiment.plan,
            experiment.build_model().to(device if peers is None else peers.place(device)),
            experiment.modalities,
            rows,
            device,
            dtype,
            lambda step: None,
            tell=self.told.append,
            peers=peers,
        )
        self.epochs = self.trainer.epochs()

    def __call__(self) -> float:
        return float(next(self.epochs)[1]["train_seconds"])


@contextmanager
def peers_of(mode: str, device: torch.device) -> Iterator[Peers | None]:
    """The processes of a mode, of which this is the only one; None where a training knows of none."""
    if mode not in ("one_rank", "sharded"):
        yield None
        return
    from mmreg.training.sharding import Sharded

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ.setdefault("MASTER_PORT", str(port))
    os.environ.update(ALONE)
    with joined(device, Sharded if mode == "sharded" else None) as (peers, _):
        yield peers


class Bare:
    """The same model over tensors on the device, a step at a time: all but `index` stays in place, so it is captured.

    Encoders, heads and the modalities' transforms are the same modules; what is left out is everything around them.
    """

    def __init__(self, experiment: Experiment, prepared: Any, device: torch.device, scenario: Scenario) -> None:
        self.device, self.batch_size = device, scenario.batch_size
        self.modalities = experiment.modalities
        self.values = {name: ResidentValues(part, device) for name, part in prepared.items()}
        self.lengths = {
            name: None if values.lengths is None else int(values.lengths.max()) for name, values in self.values.items()
        }
        self.targets = torch.from_numpy(experiment.targets).to(device)
        model = experiment.build_model().to(device)
        self.encoders = nn.ModuleDict({name: model.encoder_of(name) for name in model.modalities})
        self.is_product = scenario.fusion == "product"
        if self.is_product:
            self.heads = nn.ModuleDict({name: model.root.heads[name] for name in model.modalities})
        else:
            self.heads = nn.ModuleDict({"all": model.head})
        parameters = [*self.encoders.parameters(), *self.heads.parameters()]
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.Adam(parameters, lr=0.001, fused=on_gpu or None, capturable=on_gpu)
        self.index = torch.zeros(self.batch_size, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.rows = scenario.rows
        self.generators = {name: torch.Generator(device) for name in self.values}
        self.replay = self.captured() if on_gpu else self.step
        self.seed = 0

    def step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            features = []
            for name, values in self.values.items():
                signal = values.gather(self.index, self.lengths[name])
                signal = self.modalities[name].transform(signal, training=True, generator=self.generators[name])
                features.append(self.encoders[name](signal).pooled)
            targets = self.targets.index_select(0, self.index)
            if self.is_product:
                logits = [head(each) for head, each in zip(self.heads.values(), features, strict=True)]
                loss = sum(nn.functional.cross_entropy(each.float(), targets) for each in logits)
            else:
                loss = nn.functional.cross_entropy(self.heads["all"](torch.cat(features, 1)).float(), targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.copy_(loss.detach())

    def captured(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators.values():
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    def __call__(self) -> float:
        started = time.perf_counter()
        total = torch.zeros((), device=self.device)
        order = torch.randperm(self.rows, device=self.device)
        steps = self.rows // self.batch_size
        for number in range(steps):
            self.index.copy_(order[number * self.batch_size : (number + 1) * self.batch_size])
            self.replay()
            total += self.loss
        total.item()
        return (time.perf_counter() - started) * self.rows / (steps * self.batch_size)


def profiled(epoch: Callable[[], float]) -> tuple[float, list[str]]:
    """The share of an epoch's time in which the GPU computes or copies, and the kernels that take most of it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds = epoch()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy, end = 0.0, -math.inf
    for begin, until in sorted((event.time_range.start, event.time_range.end) for event in kernels):
        busy += max(0.0, until - max(begin, end))
        end = max(end, until)
    spent: Counter[str] = Counter()
    for event in kernels:
        spent[event.name] += event.time_range.elapsed_us()
    calls = Counter(event.name for event in kernels)
    most = [f"{each / busy:6.1%} {calls[name]:7,} x {name[:110]}" for name, each in spent.most_common(KERNELS)]
    return busy / 1e6 / seconds, most


def peak(build: Callable[[], Any], runs: int) -> tuple[Any, float]:
    """What is built, and the memory that it takes at most while it runs, in bytes."""
    gc.collect()
    if not torch.cuda.is_available():
        built = build()
        for _ in range(runs):
            built()
        return built, math.nan
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    built = build()
    most = 0
    for _ in range(runs):
        built()
        most = max(most, torch.cuda.max_memory_allocated())  # an epoch begins to count anew
    return built, most - before


def measure(name: str, device: torch.device, seconds: float, modes: list[str]) -> Iterator[dict[str, Any]]:
    scenario = SCENARIOS[name]
    experiment = experiment_of(scenario)
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    fit_arrays(prepared, experiment.modalities, experiment.splits["train"])
    bare, bare_memory = peak(lambda: Bare(experiment, prepared, device, scenario), 3)
    for mode in modes:
        torch.compiler.reset()
        started = time.perf_counter()
        with peers_of(mode, device) as peers:
            ours, memory = peak(partial(Ours, experiment, prepared, device, mode, peers), 4)
            first = time.perf_counter() - started
            rounds, began = [], time.perf_counter()
            while len(rounds) < 3 or time.perf_counter() - began < seconds:
                rounds.append((bare(), ours()))
            busy, kernels = profiled(ours) if device.type == "cuda" else (math.nan, [])
        ratios = [theirs / own for theirs, own in rounds]
        own = statistics.median(own for _, own in rounds)
        yield {
            "scenario": name,
            "mode": mode,
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "rows_per_second": scenario.rows / own,
            "bare_rows_per_second": scenario.rows / statistics.median(theirs for theirs, _ in rounds),
            "memory_ratio": memory / bare_memory,
            "busy": busy,
            "kernels": kernels,
            "seconds_of_the_first_epochs": first,
            "told": ours.told,
        }
        del ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rows", type=int, help="of each scenario, in the place of its own number")
    parser.add_argument("--kernels", action="store_true", help="print the kernels that take most of the time")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for name in given.only.split(","):
        if given.rows is not None and given.rows < SCENARIOS[name].batch_size:
            parser.error(f"--rows must be at least {SCENARIOS[name].batch_size}, the rows of a step of {name}")
    device = resolve_device()
    registry.register("encoder", "resnet50", ResNet50)
    print(torch.cuda.get_device_name() if device.type == "cuda" else "no GPU here: these figures say nothing")
    figures: list[dict[str, Any]] = []
    with tuned(device, torch.bfloat16, deterministic=False):
        for name in given.only.split(","):
            if given.rows is not None:
                SCENARIOS[name] = replace(SCENARIOS[name], rows=given.rows)
            for each in measure(name, device, given.seconds, given.modes.split(",")):
                figures.append(each)
                if given.out is not None:
                    given.out.write_text(json.dumps(figures, indent=1))
                print(
                    f"{each['scenario']:15} {each['mode']:9} {each['ratio']:5.2f} of the bare loop "
                    f"({each['lowest']:.2f} to {each['highest']:.2f}), {each['rows_per_second']:8,.0f} rows/s, memory "
                    f"{each['memory_ratio']:.2f}, busy {each['busy']:.2f}, first epochs "
                    f"{each['seconds_of_the_first_epochs']:.0f} s {' '.join(each['told'])}",
                    *(each["kernels"] if given.kernels else []),
                    sep="\n",
                    flush=True,
                )
            gc.collect()


if __name__ == "__main__":
    main()
