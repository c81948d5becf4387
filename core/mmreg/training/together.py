"""Training by several processes, one a device: who takes which rows of a step, and what they tell each other.

Every process goes through the same steps with the same weights. Of the rows of each step it takes its share; losses are
sums over rows, divided by the weight of those of all processes, so gradients are added up. Whatever else depends on
other rows is computed of those of all processes as well: the statistics of batch norms, losses that compare rows, and
what a balance sees. torch.distributed carries it: `torchrun`, or `mmreg train --devices`, starts the processes.

Axes: B batch, M modalities, R training rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn.parallel import DistributedDataParallel

from mmreg.contract.balance import BalanceBatch
from mmreg.contract.task import Task
from mmreg.data.batches import in_batches
from mmreg.model.inference import Predicted, in_order
from mmreg.model.model import Inputs, MultimodalModel
from mmreg.training.peers import Among, Part, Peers, Value, part_of
from mmreg.training.shared_norms import share_statistics, statistics_of

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another in a step: the first ones may compile kernels."""
LONG = timedelta(days=14)
"""How long they wait where one does something for all, such as decoding a table or measuring the run."""
SLOW = 1.3
"""How many times as long as the others a process takes that is named."""
WORTH = 0.05
"""Seconds a step by which it takes longer: what is less may be chance."""


class _Joined(Peers):
    """Several processes that train together, in torch.distributed's default group."""

    trains_alone = False

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # Apart from the gradients', which are on their way while others are asked for.
        self._rows = dist.new_group()
        self._wishes = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._patient = dist.new_group(backend="gloo", timeout=LONG)
        self._local = int(os.environ.get("LOCAL_RANK", self.rank))
        self._undo: Callable[[], None] = lambda: None
        self._model: nn.Module | None = None
        self._wrapped: DistributedDataParallel | None = None
        self._suspect: int | None = None  # the slow process of the last epoch
        self._named: int | None = None  # that which was told of
        self._idle: list[nn.Parameter] | None = None  # weights that nothing depends on; None before it is known

    def parts(
        self,
        order: Sequence[NDArray[np.int64]],
        rows: Callable[[], tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]],
    ) -> list[Part] | None:
        present, weights = rows()
        return [part_of(batch, present, weights, self.rank, self.size) for batch in order]

    def forward(self, model: nn.Module) -> Callable[..., Any]:
        self._undo()
        self._idle = None
        self._model, self._undo = model, share_statistics(model, self._rows)
        # Gradients are where they are added up, and not copied there and back: a quarter less CPU time of a step
        # with many weights, which are there once.
        wrapped = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
        wrapped.register_comm_hook(None, lambda state, bucket: _added(bucket.buffer()))
        self._wrapped = wrapped
        return wrapped

    def adding_up(self, forward: Callable[..., Any], last: bool) -> AbstractContextManager[object]:
        assert isinstance(forward, DistributedDataParallel)
        return nullcontext() if last and self._idle is not None else forward.no_sync()

    def own_statistics(
        self, model: MultimodalModel, inputs: Inputs, part: Part | None
    ) -> AbstractContextManager[object]:
        # By all processes or none, as the fastest way to normalise sums something else over them.
        return nullcontext() if part is None or not part.borrowing else statistics_of(model, inputs, part.own)

    def with_idle(self, loss: Tensor) -> Tensor:
        return loss + sum(weight.sum() * 0 for weight in self._idle) if self._idle else loss

    def added_up(self) -> None:
        """Add up the gradients of a first step by hand: it shows which weights nothing depends on.

        Each process waits for the gradients of all weights of the others, so these are given zeros from then on.
        """
        if self._idle is not None or self._model is None:
            return
        weights = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._idle = [weight for weight in weights if weight.grad is None]
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            dist.all_reduce(weight.grad)

    def total(self, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed, group=self._rows)
        return summed

    def most(self, wish: int) -> int:
        told = torch.tensor(wish)
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self._wishes)
        return int(told)

    def slow(self) -> str:
        own = 0.0
        if self._wrapped is not None:  # which times some of its steps, without what it waits for the others' gradients
            facts = self._wrapped._get_ddp_logging_data()  # type: ignore[no-untyped-call]
            own = 1e-9 * sum(float(facts.get(f"avg_{way}_compute_time", 0)) for way in ("forward", "backward"))
        rank, told = slow_process(self.from_all(own))
        before, self._suspect = self._suspect, rank
        if rank is None or rank != before or rank == self._named:  # one epoch may be chance
            return ""
        self._named = rank
        return told

    def from_first(self, find: Callable[[], Value]) -> Value:
        found: list[Any] = [find() if self.leads else None]
        dist.broadcast_object_list(found, 0, group=self._patient)
        value: Value = found[0]
        return value

    def from_all(self, value: Value) -> list[Value]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._patient)
        return values

    def to_first(self, value: Value) -> list[Value] | None:
        values: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, values, 0, group=self._patient)
        return values

    def batches_of(
        self, rows: int, batch_size: int, order: Sequence[NDArray[np.int64]] | None
    ) -> Sequence[NDArray[np.int64]] | None:
        if order is None:
            order = in_batches(np.arange(rows), batch_size)
        return order[self.rank :: self.size]

    def predicted(self, own: Predicted, order: Sequence[NDArray[np.int64]] | None) -> Predicted:
        places = np.sort(np.concatenate([np.empty(0, np.int64), *(order or ())]))
        told = [pair for pair in self.from_all((places, own)) if len(pair[0])]
        return in_order([places for places, _ in told], [each for _, each in told])

    def among(self, task: Task, part: Part | None) -> Among:
        if part is None or not _compares(task):
            return task.loss_among
        return lambda scores, targets, present: self._loss_among(task, part, scores, targets, present)

    def _loss_among(self, task: Task, part: Part, scores: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        losses = task.loss_among(*(self._rows_of_all(each, part) for each in (scores, targets, present)))
        own = losses[self._own(part)]
        return torch.cat([own, own.new_zeros(len(scores) - part.own)])

    def whole(self, batch: BalanceBatch, task: Task, part: Part | None) -> BalanceBatch:
        if part is None:
            return batch

        def whole(rows: Tensor) -> Tensor:
            return self._rows_of_all(rows, part)

        def joint(kept: Tensor) -> Tensor:
            own = torch.zeros_like(batch.present)
            own[: part.own] = kept[self._own(part)]
            return whole(batch.joint(own))

        targets = whole(batch.targets)
        return BalanceBatch(
            {name: whole(vector) for name, vector in batch.vectors.items()},
            {name: whole(logits) for name, logits in batch.logits.items()},
            whole(batch.present),
            targets,
            whole(batch.weights),
            batch.prior,
            lambda scores: task.loss(scores, targets),
            joint,
        )

    def _own(self, part: Part) -> slice:
        """Where this process's own rows are among those of all."""
        first = sum(self._sizes(part)[: self.rank])
        return slice(first, first + part.own)

    def _sizes(self, part: Part) -> list[int]:
        """How many rows of a batch are each process's own."""
        return [len(range(rank, part.rows, self.size)) for rank in range(self.size)]

    def _rows_of_all(self, rows: Tensor, part: Part) -> Tensor:
        """The own rows of all processes, one process after the other; gradients go back to where rows come from."""
        sizes = self._sizes(part)
        wide = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        padded = nn.functional.pad(wide[: part.own], (*(0, 0) * (rows.dim() - 1), 0, max(sizes) - part.own))
        found = all_gather(padded.contiguous(), self._rows)  # type: ignore[no-untyped-call]
        return torch.cat([each[:size] for each, size in zip(found, sizes, strict=True)]).to(rows.dtype)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        if self._local:
            self.wait()
        yield
        if not self._local:
            self.wait()

    def wait(self) -> None:
        dist.barrier(group=self._patient)

    @contextmanager
    def alone(self) -> Iterator[None]:
        self._undo()
        try:
            yield
        finally:
            if self._model is not None:
                self._undo = share_statistics(self._model, self._rows)

    def end(self) -> None:
        self._undo()
        self._model = None


def slow_process(seconds: Sequence[float]) -> tuple[int | None, str]:
    """Which process takes so much longer for a step that the others wait for it, and what to say of it.

    Args:
        seconds: of each process for forward and backward passes of its rows; 0 where it is not known.
    """
    rank = int(np.argmax(seconds))
    others = [each for other, each in enumerate(seconds) if other != rank]
    usual = float(np.median(others)) if others and min(seconds) > 0 else math.inf
    if seconds[rank] <= max(SLOW * usual, usual + WORTH):
        return None, ""
    return rank, (
        f"process {rank} takes {seconds[rank] / usual:.1f} times as long for its rows of a step as the others "
        f"({seconds[rank]:.3g} s instead of {usual:.3g} s), which wait for it; see what else runs there"
    )


def _compares(task: Task) -> bool:
    """Whether a row's loss depends on other rows."""
    return any(each.compares_rows or not each.needs_target for each in task.target_tasks.values())


def _added(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """The gradients of all processes added up, as losses are divided by the weight of all their rows already."""
    work = dist.all_reduce(gradients, async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future
