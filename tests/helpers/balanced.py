"""Trainings in float64 with a balance, and the same without one, a step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import toys
from numpy.typing import NDArray
from torch import Tensor

import mmreg
from mmreg import Encoder, Features, Signal, Spec, registry
from mmreg.data.batches import Batch
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.model.inference import transform
from mmreg.model.seeding import Draws
from mmreg.recipe.resolve import resolve
from mmreg.training.loop import Trainer
from mmreg.training.rows import TrainingRows

CPU = torch.device("cpu")
CLASSES = 3
SIZES = {"a": 4, "b": 3, "c": 5, "d": 2}


class Exact(toys.Numbers):
    """Numbers in float64.

    Args:
        size: how many.
    """

    transform_options = frozenset()
    unaugmented: ClassVar[Mapping[str, Any] | None] = {}
    default_encoder = "smooth"

    def __init__(self, *, size: int = 4) -> None:
        super().__init__(size=size)

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        pass

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        return Signal(signal.values.double())


class Smooth(Encoder):
    """Two linear maps with a smooth function between them.

    Args:
        features: the size of the result.
    """

    def __init__(self, spec: Spec, *, features: int = 6) -> None:
        super().__init__()
        size = spec.size("C")
        assert size is not None
        self.first, self.second = torch.nn.Linear(size, 5), torch.nn.Linear(5, features)
        self.out_features = features

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.second(self.first(signal.values).tanh()))


def register() -> None:
    """Make the components known; harmless when repeated."""
    registry.register("modality", "exact", Exact)
    registry.register("encoder", "smooth", Smooth)


def table(
    names: str, task: str = "classification", rows: int = 24, absent: Mapping[str, Sequence[int]] | None = None
) -> Any:
    """Rows of numbers, of which a tells the target best; some lack what `absent` says."""
    draws = np.random.default_rng(0)
    found = []
    for row in range(rows):
        kind = row % CLASSES if row < CLASSES else int(draws.integers(CLASSES))
        target: Any = kind
        if task == "multilabel":
            target = ";".join("xyz"[: kind + 1])
        elif task == "regression":
            target = float(kind + draws.normal())
        cells: dict[str, Any] = {
            name: (draws.normal(size=SIZES[name]) + kind / (place + 1)).tolist() for place, name in enumerate(names)
        }
        cells |= {name: None for name, rows_without in (absent or {}).items() if row in rows_without}
        weight = 0.0 if row == 5 else int(draws.integers(1, 8)) / 4  # whose sums are exact
        found.append({**cells, "label": target, "weight": weight, "split": "train" if row < rows - 4 else "validation"})
    return found


def trainer(
    balance: Any,
    names: str = "ab",
    task: str = "classification",
    fusion: Any = "concat",
    absent: Mapping[str, Sequence[int]] | None = None,
    encoders: Mapping[str, Any] | None = None,
    **training: Any,
) -> Trainer:
    """A training in float64 that has not begun."""
    register()
    recipe = mmreg.Recipe(
        table=table(names, task, absent=absent),
        split="split",
        target={"column": "label", "task": task, "weight": "weight"},
        modalities={
            name: {"type": "exact", "size": SIZES[name], "encoder": (encoders or {}).get(name, "smooth")}
            for name in names
        },
        fusion=fusion,
        training={
            "batch_size": 8,
            "epochs": 2,
            "balance": balance,
            "optimizer": {"name": "SGD", "lr": 0.1},
            **training,
        },
    )
    experiment = open_experiment(resolve(recipe))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    fit_arrays(prepared, experiment.modalities, train)
    rows = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation)
    model = experiment.build_model().double()
    return Trainer(experiment.plan, model, experiment.modalities, rows, CPU, torch.float32, lambda step: None)


def batches(one: Trainer, *places: Sequence[int]) -> list[Any]:
    """The training rows at these places, a batch each."""
    return list(one.rows.training_batches([np.asarray(each) for each in places], None, CPU))


def gradients(one: Trainer, group: Sequence[Any], seed: int = 0) -> dict[str, Tensor]:
    """The gradients of one step, which does not move the weights, by weight."""
    one.model.train()
    one.model.zero_grad()
    weight = sum(each.weight for each in group)
    one.step.gradients(group, [Draws(seed + index) for index in range(len(group))], weight, 0.5)
    return {name: each.grad.clone() for name, each in one.model.named_parameters() if each.grad is not None}


def inputs(one: Trainer, batch: Any) -> Batch:
    """A batch as the model gets it."""
    found = transform(batch.to(CPU), one.modalities)
    assert isinstance(found, Batch)
    return found


def vectors(one: Trainer, batch: Any) -> tuple[dict[str, Tensor], Tensor, Batch]:
    """What each encoder gives for a batch, zeros where a row lacks it; who has what; and the batch."""
    given = inputs(one, batch)
    found = {}
    for name in one.modalities:
        encoder = one.model.encoder_of(name)
        whole = torch.zeros(given.size, encoder.out_features, dtype=torch.float64)
        if name in given.signals:
            rows = given.rows[name]
            rows = torch.arange(given.size) if rows is None else rows
            whole = whole.index_copy(0, rows, encoder(given.signals[name]).pooled)
        found[name] = whole
    return found, given.present, given
