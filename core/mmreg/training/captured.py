"""Steps that are recorded once as a graph of the device, and then repeated by a single call.

A step of a small model is some thousand calls from Python, each far longer than what it makes the device do. Recorded,
they are one. All that changes from step to step is then in tensors that the graph reads: which rows, how far the
training is, learning rates, and the seeds of each component's own generator. So every step gives what it would give
unrecorded, bit for bit; the first one is done both ways, in case a component goes by something that no graph can see.

Axes: B batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.data.batches import Batch, Rows
from mmreg.data.resident import IndexedBatch
from mmreg.layers import GLOBAL_DRAWS
from mmreg.messages import one_line
from mmreg.model.nodes import ModelNode
from mmreg.model.seeding import Draws
from mmreg.regions import region
from mmreg.training.recorded_draws import OwnDraws, WatchedDraws, default_generator_kept
from mmreg.training.step import Losses, TrainingStep

WARM_UP = 2
"""Steps of a shape before it is recorded: libraries choose their kernels and optimizers make their state in them."""
MOST = 24
"""Shapes that are recorded; steps of any others run as they are."""
TOLERANCE = 0.1
"""How far weights may be from those of the unrecorded step, beside how far they moved: a device may add up in any
order, but another mask of dropout, say, moves them elsewhere."""


class Recorder(Protocol):
    """Records what a function makes a device do."""

    def __call__(
        self, function: Callable[[], Losses], generators: Sequence[torch.Generator]
    ) -> tuple[Losses, Callable[[], None]]:
        """Record a function, and do not run it yet.

        Args:
            function: what it returns stays in place, and is written anew by every replay.
            generators: those that it draws from.

        Returns:
            What it returns, and what replays it.
        """


class CapturedStep:
    """Steps like those of a `TrainingStep`, recorded where that can be.

    Args:
        step: what is recorded.
        record: how; None for nothing.
        tell: told why steps are not recorded, if so.
    """

    def __init__(self, step: TrainingStep, record: Recorder | None, tell: Callable[[str], None]) -> None:
        self.step, self._record, self._tell = step, record, tell
        self._whole = _is_capturable(step)
        self._rates = torch.zeros(len(step.optimizer.param_groups), device=step.device)
        self._recordings: dict[Hashable, _Recording] = {}
        self._seen: Counter[Hashable] = Counter()
        self._drew: set[tuple[int, str]] = set()
        self._phase: Hashable = None
        self._is_sound = False

    def begin_epoch(self) -> None:
        """Forget recordings of a model that computes otherwise by now, as where weights are no longer frozen."""
        phase = _phase(self.step)
        if phase != self._phase:
            self._recordings.clear()
            self._seen.clear()  # the steps before a recording also show which components draw
            self._is_sound = False
        self._phase = phase

    def __call__(self, rows: Sequence[Rows], number: int, weight: float) -> Losses:
        """See `TrainingStep`."""
        group = [batch for batch in rows if isinstance(batch, IndexedBatch)]
        assert len(group) == len(rows)
        shape = tuple(batch.shape for batch in group)
        seeds = [self.step.seed(number, index) for index in range(len(group))]
        packet = self._packet(group, number, weight)
        recording = self._recordings.get(shape)
        if recording is None or not self._is_sound:
            if recording is not None:
                self._compare(recording, group, packet, seeds, number)
            losses = self._unrecorded(group, packet, seeds, number)
            self._seen[shape] += 1
            if self._seen[shape] == WARM_UP and self._record is not None and len(self._recordings) < MOST:
                self._recorded(self._record, shape, group, packet)
            return losses
        return self._replayed(recording, packet, seeds, number)

    def _replayed(self, recording: _Recording, packet: Tensor, seeds: Sequence[int], number: int) -> Losses:
        recording.packet.copy_(packet, non_blocking=True)
        for draws, seed in zip(recording.draws, seeds, strict=True):
            draws.begin(seed)
        with region("recorded step"):
            recording.replay()
        if not self._whole:
            for parameter, gradient in recording.gradients:
                parameter.grad = gradient
            self.step.update(recording.losses.loss, number)
        elif isinstance(recording.bad, Tensor):
            self.step.guard.bad = recording.bad.clone()  # the next replay writes to the same place
        return recording.losses

    def _compare(
        self, recording: _Recording, group: Sequence[IndexedBatch], packet: Tensor, seeds: Sequence[int], number: int
    ) -> None:
        """See whether a step that is not the recorded one moves the weights as it does unrecorded; undoes both."""
        weights = [parameter.detach() for parameter in self.step.model.parameters() if parameter.requires_grad]
        before = _State(self.step)
        start = [each.clone() for each in weights]
        self._unrecorded(group, packet, seeds, number)
        expected = [each.clone() for each in weights]
        before.restore()
        self._replayed(recording, packet, seeds, number)
        self._is_sound = _distance(weights, expected) <= TOLERANCE * _distance(expected, start)
        before.restore()
        if not self._is_sound:
            self._stop("a component goes by something that changes from step to step on the host")

    def _packet(self, group: Sequence[IndexedBatch], number: int, weight: float) -> Tensor:
        """All that is this step's own, in host memory; float64 holds every row's number."""
        rates = [float(each["lr"]) for each in self.step.optimizer.param_groups]
        scalars = [weight or 1.0, number / self.step.steps, *rates]
        packet = torch.from_numpy(np.concatenate([*(batch.numbers for batch in group), scalars]))
        return packet.pin_memory() if self.step.device.type == "cuda" else packet

    def _unrecorded(self, group: Sequence[IndexedBatch], packet: Tensor, seeds: Sequence[int], number: int) -> Losses:
        here = packet.to(self.step.device, non_blocking=True)
        if self._record is None:
            return self._updated(self._run(group, here, [Draws(seed) for seed in seeds]), number)
        draws: list[WatchedDraws] = []
        for seed in seeds:
            draws.append(WatchedDraws(seed, self.step.device, draws[-1] if draws else None))
        before = _host_state()
        losses = self._updated(self._run(group, here, draws), number)
        for index, watched in enumerate(draws):
            self._drew |= {(index, name) for name in watched.drew()}
        if before != _host_state() or any(watched.drew_on_host for watched in draws):
            self._stop("a component draws random numbers on the host")
        return losses

    def _updated(self, losses: Losses, number: int) -> Losses:
        """The losses of a step, once the weights have moved by them."""
        if not self._whole:
            self.step.update(losses.loss, number)
        return losses

    def _run(self, group: Sequence[IndexedBatch], packet: Tensor, draws: Sequence[Draws]) -> Losses:
        """One step, by what the packet on the device says; all but the update where that cannot be recorded."""
        sources, begin = [], 0
        numbers = packet.long()
        for batch in group:
            end = begin + len(batch.numbers)
            sources.append(_Numbered(batch, numbers[begin:end]))
            begin = end
        weight, progress, *_ = scalars = packet[begin:].float()
        self._rates.copy_(scalars[2:])
        losses = self.step.gradients(sources, draws, weight, progress)
        if self._whole:
            with self._rates_on_device():
                self.step.update(losses.loss, 0)  # a recorded step has nobody who follows its number
        return losses

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Learning rates that the optimizer reads from the device; schedules and checkpoints see numbers as ever."""
        groups = self.step.optimizer.param_groups
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate

    def _recorded(self, record: Recorder, shape: Hashable, group: Sequence[IndexedBatch], packet: Tensor) -> None:
        """Record a shape, if that can be."""
        device = self.step.device
        own = packet.to(device)
        draws = [
            OwnDraws(device, [name for at, name in sorted(self._drew) if at == index]) for index in range(len(group))
        ]
        generators = [each for one in draws for each in one.generators.values()]
        try:
            with GLOBAL_DRAWS, default_generator_kept(device):
                losses, replay = record(lambda: self._run(group, own, draws), generators)
        except Exception as error:  # of many kinds: what a component does need not be possible in a graph
            self.step.optimizer.zero_grad(set_to_none=True)
            self._stop(one_line(error))
            return
        gradients = [(each, each.grad) for each in self.step.model.parameters() if each.grad is not None]
        self.step.optimizer.zero_grad(set_to_none=True)
        self._recordings[shape] = _Recording(own, draws, losses, replay, gradients, self.step.guard.bad)

    def _stop(self, reason: str) -> None:
        self._record = None
        self._recordings.clear()
        self._tell(f"steps are not recorded: {reason}")


@dataclass(frozen=True)
class _Recording:
    """A recorded step, and what it reads and writes."""

    packet: Tensor
    draws: list[OwnDraws]
    losses: Losses
    replay: Callable[[], None]
    gradients: Sequence[tuple[Tensor, Tensor]]
    bad: bool | Tensor | None


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Between two sets of weights."""
    squares = [(mine - theirs).double().square().sum() for mine, theirs in zip(one, other, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


class _State:
    """All that a step changes, in host memory."""

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        weights = [*step.model.parameters(), *step.model.buffers()]
        self._weights = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in weights]
        self._optimizer = [
            (own, {key: each.to("cpu", copy=True) if isinstance(each, Tensor) else each for key, each in own.items()})
            for own in step.optimizer.state.values()
        ]
        self._scaler = step.scaler.state_dict()

    def restore(self) -> None:
        """Put it back in its place."""
        with torch.no_grad():
            for tensor, before in self._weights:
                tensor.copy_(before)
            for own, state in self._optimizer:
                for key, before in state.items():
                    if isinstance(before, Tensor):
                        own[key].copy_(before)
                    else:
                        own[key] = before
        if self._step.scaler.is_enabled():
            self._step.scaler.load_state_dict(self._scaler)


@dataclass(frozen=True)
class _Numbered:
    """A batch of a given shape, whose numbers are on the device."""

    batch: IndexedBatch
    numbers: Tensor

    @property
    def index(self) -> NDArray[np.int64]:
        return self.batch.index

    @property
    def size(self) -> int:
        return self.batch.size

    @property
    def weight(self) -> float:
        return self.batch.weight

    def to(self, device: torch.device) -> Batch:
        return self.batch.gather(self.numbers)


class CudaRecorder:
    """Records CUDA graphs, which share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, function: Callable[[], Losses], generators: Sequence[torch.Generator]
    ) -> tuple[Losses, Callable[[], None]]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            losses = function()
        return losses, graph.replay


def make_capturable(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer that can do so keep all of its state on the device."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True


def with_own_flags(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's saved state with the other one's choice of kernels, as that may be on another device."""
    kernels = ("capturable", "fused", "foreach")
    groups = [
        {**saved, **{key: own[key] for key in kernels if key in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def _is_capturable(step: TrainingStep) -> bool:
    """Whether the optimizer can be recorded too, which takes one that leaves all decisions to the device."""
    groups = step.optimizer.param_groups
    decides_on_host = step.scaler.is_enabled() or step.guard.waits
    return not decides_on_host and all(group.get("capturable") or group.get("fused") for group in groups)


def _phase(step: TrainingStep) -> Hashable:
    """What a recording takes as it is, and an epoch may change: what is trained, and how losses are weighted."""
    nodes = [module for module in step.model.modules() if isinstance(module, ModelNode)]
    return (
        tuple(parameter.requires_grad for parameter in step.model.parameters()),
        tuple(module.training for module in step.model.modules()),
        tuple((node.joint_loss, tuple(node.own_losses.items())) for node in nodes),
        tuple(step.model.blended.items()),
    )


def _host_state() -> Any:
    """The random states of Python and NumPy, which no recording could follow."""
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, bytes(np.asarray(keys)), rest
