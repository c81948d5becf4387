"""What the processes that train together do for each other; here for one that trains by itself.

Axes: B batch, M modalities, R training rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg.contract.balance import BalanceBatch
from mmreg.contract.optimization import ParameterGroup
from mmreg.contract.task import Task
from mmreg.data.batches import Batch
from mmreg.errors import OptionError, TrainingError
from mmreg.model.inference import Predicted
from mmreg.model.model import Inputs, MultimodalModel
from mmreg.recipe.resolve import Plan
from mmreg.training.rows import AnyBatch

Value = TypeVar("Value")
Among = Callable[[Tensor, Tensor, Tensor], Tensor]
"""As `Task.loss_among`."""


@dataclass(frozen=True)
class Part:
    """A process's part of a batch.

    Attributes:
        places: (B,) of its rows among the training rows: its own, and after them those that it borrows.
        own: how many are its own. Those borrowed have no loss; they stand in for a modality, or for all rows, of which
            it has none, so that all processes go through the same encoders.
        rows: how many rows the batch has on all processes.
        weight: of all of these.
        borrowing: whether any process borrows a row of it.
    """

    places: NDArray[np.int64]
    own: int
    rows: int
    weight: float
    borrowing: bool = False

    @property
    def share(self) -> float:
        """The share of the batch's rows that are its own."""
        return self.own / self.rows


def part_of(
    batch: NDArray[np.int64], present: NDArray[np.bool_], weights: NDArray[np.floating[Any]], rank: int, size: int
) -> Part:
    """What one of several processes takes of a batch: every row is taken by one of them.

    Args:
        batch: (B,) the places of its rows.
        present: (R, M) which of the training rows have which modality.
        weights: (R,) of the training rows.
        rank: of the process.
        size: how many processes there are.
    """
    own = batch[rank::size]
    rows, columns = present[batch].nonzero()
    having = np.zeros((size, present.shape[1]), bool)  # which process has a row of which modality
    having[rows % size, columns] = True
    lacking = having.any(0) & ~having
    borrowed: list[int] = []
    for column in np.flatnonzero(lacking[rank]):
        if not present[borrowed, column].any():
            borrowed.append(int(batch[present[batch, column].argmax()]))
    if not len(own) and not borrowed:
        borrowed.append(int(batch[0]))
    places = np.concatenate([own, np.array(borrowed, np.int64)])
    borrowing = len(batch) < size or bool(lacking.any())
    return Part(places, len(own), len(batch), float(weights[batch].sum(dtype=np.float64)), borrowing)


def without_borrowed(batch: AnyBatch, own: int) -> AnyBatch:
    """A batch of which the first rows alone have a loss."""
    if len(batch.index) == own:
        return batch
    if isinstance(batch, Batch):
        assert batch.weights is not None
        weights = batch.weights.clone()
        weights[own:] = 0
        return replace(batch, weights=weights)
    return replace(batch, own=own)


class Peers:
    """The processes that train a model together; this is one that trains by itself.

    Attributes:
        rank: which of them this is, from 0; the first one leads: it alone writes.
        size: how many there are.
        trains_alone: whether none of it needs another process.
        shards: whether each has a share of the weights alone.
    """

    rank = 0
    size = 1

    trains_alone = True
    shards = False

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def place(self, device: torch.device) -> torch.device:
        """Where a model is before it is trained, given this process's device."""
        return device

    def trained(
        self, model: MultimodalModel, groups: Sequence[ParameterGroup]
    ) -> tuple[MultimodalModel, list[ParameterGroup]]:
        """The model that is trained in the place of one, with its parameters in the place of that one's."""
        return model, list(groups)

    def copied(self, model: MultimodalModel) -> MultimodalModel:
        """A copy of a model; `trained` gives one like it."""
        return copy.deepcopy(model)

    def whole_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of a model, of those that this process has; all ask for them, and the first has use of them."""
        return weights

    def own_weights(self, model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What a model of this process takes of whole weights."""
        return weights

    def whole_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of an optimizer, of those of all processes, for the first one."""
        return optimizer.state_dict()

    def own_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an optimizer of this process takes of a whole state."""
        return state

    def whole_model(self, trained: MultimodalModel, model: MultimodalModel, device: torch.device) -> MultimodalModel:
        """The model that was given to `trained`, with the weights of what came of it, on a device of the first one."""
        return trained

    def parts(
        self,
        order: Sequence[NDArray[np.int64]],
        rows: Callable[[], tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]],
    ) -> list[Part] | None:
        """What this process takes of each batch; None for all of it. `rows` gives what `part_of` is to know of them."""
        return None

    def forward(self, model: nn.Module) -> Callable[..., Any]:
        """What is called in the place of a model, so that its gradients come to be those of all processes."""
        return model

    def adding_up(self, forward: Callable[..., Any], last: bool) -> AbstractContextManager[object]:
        """A context for one of the batches of a step, whose last one adds up the gradients of all processes."""
        return nullcontext()

    def own_statistics(
        self, model: MultimodalModel, inputs: Inputs, part: Part | None
    ) -> AbstractContextManager[object]:
        """A context for one of the batches of a step, in which batch norms take no statistics of borrowed rows."""
        return nullcontext()

    def with_idle(self, loss: Tensor) -> Tensor:
        """The same loss, from which a gradient goes back to every weight."""
        return loss

    def added_up(self) -> None:
        """After the batches of a step: gradients are those of all processes from here on."""

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        return tensor

    def any(self, wish: bool) -> bool:
        """Whether one of them wishes something."""
        return bool(self.most(int(wish)))

    def most(self, wish: int) -> int:
        """The greatest of what they wish."""
        return wish

    def slow(self) -> str:
        """What to say of one that the others wait for; empty if there is none."""
        return ""

    def from_first(self, find: Callable[[], Value]) -> Value:
        """What the first of them finds."""
        return find()

    def from_all(self, value: Value) -> list[Value]:
        """What each of them has."""
        return [value]

    def batches_of(
        self, rows: int, batch_size: int, order: Sequence[NDArray[np.int64]] | None
    ) -> Sequence[NDArray[np.int64]] | None:
        """Which of the batches of some rows this process predicts; None for all, as they come."""
        return order

    def predicted(self, own: Predicted, order: Sequence[NDArray[np.int64]] | None) -> Predicted:
        """The predictions of all rows, of those of each process's batches."""
        return own

    def settle(self) -> None:
        """Hold no more of a model than between two steps."""

    def own_rows(self, rows: int) -> NDArray[np.int64]:
        """Which of some rows this process predicts: those that follow on those of the one before."""
        return np.arange(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def to_first(self, value: Value) -> list[Value] | None:
        """What each of them has, for the first one; None for the others."""
        return [value]

    def among(self, task: Task, part: Part | None) -> Among:
        """The loss of rows that are compared with those of all processes."""
        return task.loss_among

    def whole(self, batch: BalanceBatch, task: Task, part: Part | None) -> BalanceBatch:
        """A batch with the rows of all processes."""
        return batch

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """A block that the first process of each machine goes through before the others there."""
        yield

    def wait(self) -> None:
        """Wait until all of them are here."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which this process computes by itself."""
        yield

    def end(self) -> None:
        """Leave the model as it was."""


def check_plan(peers: Peers, plan: Plan) -> None:
    """Refuse what several processes cannot train.

    Raises:
        OptionError: names it.
    """
    if peers.size > 1 and plan.balance is not None and not plan.balance.cls.among_processes:
        raise OptionError(
            f"training.balance: {plan.balance.entry.reference} goes by the rows of one process alone, and so cannot be "
            "trained by several; choose another balance, or leave --devices out"
        )
    if not peers.shards:
        return
    if plan.balance is not None and plan.balance.cls.modulates:
        raise OptionError(
            f"training.balance: {plan.balance.entry.reference} changes the gradients of whole encoders, and with "
            "--shard a process has a share of them; choose another balance, or leave --shard out"
        )
    toy = plan.optimizer.build().build([ParameterGroup([nn.Parameter(torch.ones(2, 2))])])
    if isinstance(toy, torch.optim.Adafactor):
        raise OptionError(
            f"training.optimizer: {plan.optimizer.entry.reference} keeps rows and columns of whole weights, and with "
            "--shard a process has a share of them; choose another one, or leave --shard out"
        )
    if plan.recipe.form.training.batch_size == "auto":
        raise OptionError(
            "training.batch_size: auto tries steps with the whole model on one device, which --shard is for where that "
            "does not fit; give a number, or leave --shard out"
        )


def check_same(peers: Peers, facts: Mapping[str, str]) -> None:
    """Refuse a training whose processes are not about the same thing.

    Args:
        peers: the processes.
        facts: what has to be the same, by what it is called.

    Raises:
        TrainingError: something differs; names it, and the first process whose is another.
    """
    told = peers.from_all(dict(facts))
    for rank, other in enumerate(told):
        for name, value in told[0].items():
            if other.get(name) != value:
                raise TrainingError(
                    f"process {rank} has another {name} than process 0 ({other.get(name)} instead of {value}); start "
                    "all processes with the same command, files and versions"
                )
