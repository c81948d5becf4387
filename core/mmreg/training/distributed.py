"""Training by several processes, one a device: who takes which rows of a step, and what they tell each other.

Every process goes through the same steps with the same weights. Of the rows of each step it takes its share; losses are
sums over rows, divided by the weight of those of all processes, so gradients are added up. Whatever else depends on
other rows is computed of those of all processes as well: the statistics of batch norms, losses that compare rows, and
what a balance sees. torch.distributed carries it: `torchrun`, or `mmreg train --devices`, starts the processes.

Axes: B batch, M modalities, R training rows.
"""

from __future__ import annotations

import atexit
import copy
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from mmreg.contract.balance import BalanceBatch
from mmreg.contract.optimization import ParameterGroup
from mmreg.contract.task import Task
from mmreg.data.batches import Batch, in_batches
from mmreg.errors import DeviceError, OptionError, PeerLostError, TrainingError
from mmreg.layers import MaskedBatchNorm, masked_batch_norm
from mmreg.messages import listed, one_line, plural
from mmreg.model.devices import available_devices, resolve_device
from mmreg.model.inference import Predicted, in_order
from mmreg.model.model import Inputs, MultimodalModel
from mmreg.recipe.resolve import Plan
from mmreg.training.rows import AnyBatch

ARRIVAL = timedelta(minutes=2)
"""How long a process looks for the others at the start, of which torch takes up to twice as long; those that torchrun
starts have been waited for by it."""
NAMED = timedelta(seconds=20)
"""How long the name of the first one's machine may be unknown."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for another in a step: the first ones may compile kernels."""
LONG = timedelta(days=14)
"""How long they wait where one does something for all, such as decoding a table or measuring the run."""
SLOW = 1.3
"""How many times as long as the others a process takes that is named."""
WORTH = 0.05
"""Seconds a step by which it takes longer: what is less may be chance."""
STARTED, PLACE = ("RANK", "WORLD_SIZE"), ("MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torchrun tells a process which one it is, and where the first one is."""
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
        return nullcontext() if part is None or not part.borrowing else _statistics_of(model, inputs, part.own)

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


def leads() -> bool:
    """Whether this process is the first of those that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(
    device: str | torch.device | None, shared: Callable[[torch.device], _Joined] | None = None
) -> Iterator[tuple[Peers, torch.device]]:
    """The processes that train together, and the device of this one; the process alone if nobody has started more.

    Args:
        device: where to compute, by name; of a kind with several devices each process takes one of its own.
        shared: makes processes of which each has a share of the weights alone, given this one's device.

    Raises:
        OptionError: there is no other process that could have the rest, or the environment does not say who they are.
        TrainingError: the others are not found.
        DeviceError: there is no such device, or there are fewer than processes.
        PeerLostError: another process has ended before.
    """
    if not _is_one_of_several():
        if shared is not None:
            raise OptionError(
                "sharding is for several processes, each with a share of the weights, and this is one by itself; start "
                "them by mmreg train --devices N --shard, or by torchrun"
            )
        yield Peers(), resolve_device(device)
        return
    own = _own_device(device)
    with _ended_by_signals():
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
            store, rank, size = _found_each_other()
            dist.init_process_group(
                backend,
                store=store,
                rank=rank,
                world_size=size,
                timeout=PATIENCE,
                device_id=own if own.type == "cuda" else None,
            )
            atexit.register(dist.destroy_process_group)  # not before, as another training may follow
        peers = _Joined() if shared is None else shared(own)
    try:
        yield peers, own
    except RuntimeError as error:
        if "finished reduction in the prior iteration" in str(error):
            raise TrainingError(
                "a weight has a gradient in some steps and none in others, by what is in the batch, which several "
                "processes cannot train: freeze it, or have its component always use it (multiplied by zero)"
            ) from error
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise PeerLostError("another process of this training has ended") from error
        raise
    finally:
        peers.end()


def _is_one_of_several() -> bool:
    """Whether this process was started as one of several (or of one), as torchrun does.

    Raises:
        OptionError: the environment says a part of it.
    """
    given = [name for name in STARTED if name in os.environ]
    if not given or (given == ["WORLD_SIZE"] and os.environ["WORLD_SIZE"] == "1"):
        return False
    missing = [name for name in (*STARTED, *PLACE) if not os.environ.get(name)]
    numbers = [name for name in (*STARTED, PLACE[1]) if name not in missing and not os.environ[name].isdecimal()]
    if missing or numbers or int(os.environ["RANK"]) >= int(os.environ["WORLD_SIZE"]):
        what = f"lacks {listed(missing)}" if missing else f"must have a number in {listed(numbers or STARTED)}"
        raise OptionError(
            f"the environment has {' and '.join(f'{name}={os.environ[name]}' for name in given)}, as of one of several "
            f"processes, and {what}: RANK counts them from 0 to WORLD_SIZE - 1. Start them by mmreg train --devices N "
            "or torchrun, which set all of these; to train by this process alone, unset them"
        )
    return True


def _found_each_other() -> tuple[Any, int, int]:
    """Where the processes tell each other things, this one's number, and how many they are.

    Raises:
        TrainingError: they do not find each other.
    """
    try:
        _wait_for_name(os.environ["MASTER_ADDR"])
        store, rank, size = next(rendezvous("env://", timeout=ARRIVAL))
    except (dist.DistError, socket.gaierror) as error:
        place = ":".join(os.environ[name] for name in PLACE)
        raise TrainingError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has not found the others at {place} "
            "(MASTER_ADDR:MASTER_PORT); see that all have been started within two minutes, that this is the address of "
            f"the first one's machine, and that the port is free there ({one_line(error)[:200]})"
        ) from error
    return store, rank, size


def _wait_for_name(host: str) -> None:
    """Wait until a machine's name is known, as torch does without an end."""
    ends = time.monotonic() + min(NAMED, ARRIVAL).total_seconds()
    while True:
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror:
            if time.monotonic() > ends:
                raise
            time.sleep(1)
        else:
            return


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A block that signals end at once: while it waits for processes that never come, Python hears of none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _own_device(device: str | torch.device | None) -> torch.device:
    """The device of this process among those of its machine."""
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    name = "auto" if device is None else str(device)
    best = resolve_device(name)
    if best.type == "cpu" or (":" in name and here == 1):
        return best
    if ":" in name:
        raise DeviceError(
            f"{plural(here, 'process', 'processes')} cannot share {name}; name {best.type!r}, for one each"
        )
    there = [each for each in available_devices() if each.startswith(best.type)]
    if local >= len(there):
        raise DeviceError(
            f"{plural(here, 'process', 'processes')} need as many devices, and this machine has {listed(there)}; start "
            "fewer, or train on the CPU by --device cpu"
        )
    found = torch.device(there[local])
    if found.type == "cuda":
        torch.cuda.set_device(found)
    return found


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


def _compares(task: Task) -> bool:
    """Whether a row's loss depends on other rows."""
    return any(each.compares_rows or not each.needs_target for each in task.target_tasks.values())


def _added(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """The gradients of all processes added up, as losses are divided by the weight of all their rows already."""
    work = dist.all_reduce(gradients, async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


def share_statistics(model: nn.Module, peers: Any) -> Callable[[], None]:
    """Let the batch norms of a model, in training, take their statistics of the values of several processes.

    Each process has to call every one of them as often as the others.

    Args:
        model: with batch norms of torch's, or of `mmreg.layers`.
        peers: the processes, a torch.distributed group.

    Returns:
        What undoes it.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    for module in model.modules():
        kind = type(module)
        if isinstance(module, MaskedBatchNorm) or kind in _SHARED:
            changed.append((module, kind))
            module.__class__ = _SHARED.get(kind, kind)
            module.peers = peers

    def undo() -> None:
        for module, kind in changed:
            module.__class__ = kind
            vars(module).pop("peers", None)
        changed.clear()

    return undo


@contextmanager
def _statistics_of(model: MultimodalModel, inputs: Inputs, own: int) -> Iterator[None]:
    """A block in which batch norms take the statistics of a batch's first rows alone, those of this process."""
    rows = torch.arange(len(inputs.present), device=inputs.present.device) < own
    norms = {module for module in model.modules() if "peers" in vars(module)}
    encoders: dict[nn.Module, dict[int, Tensor]] = {}
    for name, given in inputs.signals.items():
        there, segments = inputs.rows[name], inputs.segments.get(name)
        of_values = rows if there is None else rows[there]
        of_values = of_values if segments is None else of_values[segments.rows]
        encoders.setdefault(model.encoder_of(name), {})[id(given)] = of_values

    def enter(encoder: nn.Module, arguments: tuple[Any, ...]) -> None:
        found = encoders[encoder]  # by the signal, as several modalities may share an encoder
        for module in encoder.modules():
            if module in norms:
                vars(module)["own"] = found.get(id(arguments[0]), next(iter(found.values())))

    hooks = [encoder.register_forward_pre_hook(enter) for encoder in encoders]
    for module in norms:
        vars(module)["own"] = rows
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in norms:
            vars(module).pop("own")


class _Shared(nn.modules.batchnorm._BatchNorm):
    """A batch norm of torch's whose statistics, in training, are of several processes."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        if not self.training:
            return super().forward(values)
        self._check_input_dim(values)  # type: ignore[no-untyped-call]
        return masked_batch_norm(self, values, None, vars(self)["peers"], vars(self).get("own"))


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


class _Shared3d(_Shared, nn.BatchNorm3d):
    pass


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Shared1d,
    nn.BatchNorm2d: _Shared2d,
    nn.BatchNorm3d: _Shared3d,
}
"""What takes the place of torch's own."""
