"""Keeping a training while it goes on: its state is copied between two steps, and written by a thread of its own."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mmreg import runs
from mmreg.errors import TrainingError
from mmreg.files import write_text
from mmreg.messages import listed
from mmreg.recipe.training_form import Checkpoint
from mmreg.training.checkpoint import BEST_WEIGHTS, save_checkpoint
from mmreg.training.nonfinite import REMEDY, NonFiniteError, bad_tensors
from mmreg.training.soup import epoch_weights

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""A type of as many bytes, which numpy has too."""


@dataclass(frozen=True)
class Kept:
    """What is written of a training, in this order; None for what stays as it is.

    Attributes:
        best: the best weights.
        epochs: the weights of epochs, by number, that a soup may be made of.
        metrics: the text of metrics.csv.
        timings: that of timings.csv.
        state: as `Trainer.state` gives it. Last, as a kill between two writes makes a training that goes on repeat the
            epoch with all of its files.
        wanted: the epochs whose weights are still wanted once the state is written; those of others go.
    """

    best: Mapping[str, Tensor] | None = None
    epochs: Mapping[int, Mapping[str, Tensor]] | None = None
    metrics: str | None = None
    timings: str | None = None
    state: dict[str, Any] | None = None
    wanted: tuple[int, ...] | None = None

    def then(self, newer: Kept) -> Kept:
        """This, with what a newer one has in its place."""
        changes = {each.name: value for each in fields(newer) if (value := getattr(newer, each.name)) is not None}
        if self.epochs is not None or newer.epochs is not None:
            epochs = {**(self.epochs or {}), **(newer.epochs or {})}
            wanted = epochs if newer.wanted is None else newer.wanted
            changes["epochs"] = {number: weights for number, weights in epochs.items() if number in wanted}
        return replace(self, **changes)


class Saver:
    """Writes what is kept of a training, one thing after the other, while the training goes on.

    What comes while something is being written waits, and gives way to what is newer: the training waits for copies
    alone. At the end of the `with` all of it is written.

    Args:
        folder: the run's, held for writing.
        every: how often the state is to be kept within an epoch.
        step: the step at which the training begins.
        weights: the names of the model's parameters; a state in which one is not finite is refused.
        check: raises where the folder is no longer the one that is held.
        known: what each state says besides, by key.
        best: the checksum of the best weights so far.
        clock: gives seconds.

    Attributes:
        step: the step at which something was to be kept last.
        kept: the step whose state was written last; 0 before there is one.
    """

    def __init__(
        self,
        folder: Path,
        every: Checkpoint,
        step: int = 0,
        weights: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
        known: Mapping[str, str] | None = None,
        best: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.every, self._weights, self._check, self._clock = folder, every, weights, check, clock
        self._known, self._best = known or {}, best
        self.step, self._since = step, clock()
        self.kept = step
        self._changed = threading.Condition()
        self._waiting: tuple[Kept, Callable[[], None]] | None = None
        self._writing = self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mmreg-checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.raise_failure()

    def is_due(self, step: int) -> bool:
        """Whether the state is to be kept at this step; it is not while an earlier one is still being written."""
        steps, minutes = self.every.steps, self.every.minutes
        due = steps is not None and step - self.step >= steps
        due = due or (minutes is not None and step > self.step and self._clock() - self._since >= 60 * minutes)
        return due and not self._writing and self._waiting is None

    def save(self, kept: Kept, step: int) -> None:
        """Copy what is to be kept at a step, and have it written.

        Raises:
            OSError, TrainingError: something could not be written before.
        """
        self.raise_failure()
        self.step, self._since = step, self._clock()
        copied, ready = copied_to_host(kept)
        with self._changed:
            if self._waiting is not None:
                copied = self._waiting[0].then(copied)
            self._waiting = copied, ready
            self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raise the error that has ended the writing, if one has."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._ended)
                if self._waiting is None:
                    return
                (kept, ready), self._waiting, self._writing = self._waiting, None, True
            try:
                ready()
                self._check()
                self._write(kept)
            except BaseException as error:  # raised in the training, whatever it is
                self._failure = self._cause(error)
                return
            finally:
                del kept, ready  # whose memory the next copy gets, instead of pages that are new to this process
                self._writing = False

    def _write(self, kept: Kept) -> None:
        for tensors in (kept.best, *(kept.epochs or {}).values(), kept.state and kept.state["model"]):
            if bad := self._spoilt(tensors or {}):
                raise NonFiniteError(f"the weights are no longer finite numbers ({listed(bad, 3)}); {REMEDY}")
        runs.own_folder(self.folder, runs.CHECKPOINTS)
        if kept.best is not None:
            # The ones before stay: they are those that the last state speaks of, until the next one is written.
            self._best = runs.write_weights(self.folder / runs.BEST, kept.best, self.folder / runs.EARLIER_BEST)
        for number, weights in (kept.epochs or {}).items():
            runs.write_weights(self.folder / epoch_weights(number), weights)
        if kept.metrics is not None:
            write_text(self.folder / runs.METRICS, kept.metrics)
        if kept.timings is not None:
            write_text(self.folder / runs.TIMINGS, kept.timings)
        if kept.state is not None:
            save_checkpoint(self.folder, {**kept.state, **self._known, BEST_WEIGHTS: self._best})
            self.kept = kept.state["progress"]["step"]
        if kept.wanted is not None:
            wanted = {epoch_weights(number) for number in kept.wanted}
            for path in self.folder.glob(epoch_weights("*")):
                if path.relative_to(self.folder).as_posix() not in wanted:
                    path.unlink()

    def _cause(self, error: BaseException) -> BaseException:
        """What is wrong where a file could not be written: the folder itself may be gone."""
        if isinstance(error, FileNotFoundError):
            try:
                self._check()
            except TrainingError as gone:
                return gone
        return error

    def _spoilt(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """The weights that are not finite, and the buffers that hold NaN; infinity may be meant there."""
        return [name for name in bad_tensors(tensors) if name in self._weights or bool(tensors[name].isnan().any())]


def copied_to_host(kept: Kept) -> tuple[Kept, Callable[[], None]]:
    """A copy whose tensors are in host memory, and what waits until they are there.

    From a CUDA device they are copied by a stream of its own into pinned memory; what the device does next waits for
    the copies, but this process does not.
    """
    copier = _Copier()
    copied = Kept(*(copier.copy(getattr(kept, each.name)) for each in fields(kept)))
    return copied, copier.end()


def _copied_by_one_thread(tensor: Tensor) -> Tensor:
    """A copy of a tensor in host memory.

    Torch has each of its threads copy a part of a tensor, and waits for them all: where other processes have the cores,
    hundreds of tensors took 20 times as long as by one thread, which copies 300 MB in 30 ms of processor time.
    """
    bits = BITS.get(tensor.dtype.itemsize)  # as numpy lacks some of torch's types
    plain = type(tensor) is Tensor and not (tensor.is_complex() or tensor.is_neg() or tensor.is_quantized)
    if bits is None or not plain or not tensor.numel():
        return tensor.clone()
    return torch.from_numpy(np.array(tensor.view(bits).numpy())).view(tensor.dtype)


class _Copier:
    """Copies tensors within plain data; those that are the same memory are copied once."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._copies: dict[tuple[Any, ...], Tensor] = {}

    def copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
            if key not in self._copies:
                self._copies[key] = self._copied(value.detach())
            return self._copies[key]
        if isinstance(value, dict):
            made = copy.copy(value)  # with what a state_dict knows besides its keys
            made.update({key: self.copy(each) for key, each in value.items()})
            return made
        if isinstance(value, list | tuple):
            return type(value)(self.copy(each) for each in value)
        return value

    def _copied(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "cpu":
            return _copied_by_one_thread(tensor)
        if tensor.device.type != "cuda":
            return tensor.to("cpu", copy=True)
        if tensor.device not in self._streams:
            self._streams[tensor.device] = torch.cuda.Stream(tensor.device)  # type: ignore[no-untyped-call]
            self._streams[tensor.device].wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._streams[tensor.device]):
            return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)

    def end(self) -> Callable[[], None]:
        """What comes next on the devices waits for the copies; waiting for them here is what is returned."""
        events = []
        for device, stream in self._streams.items():
            torch.cuda.current_stream(device).wait_stream(stream)
            events.append(stream.record_event())

        def wait() -> None:
            for event in events:
                event.synchronize()

        return wait
