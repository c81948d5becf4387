"""Running the trainings of a grid: one after the other in this process, or several side by side in their own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from mmreg import runs
from mmreg.contract.callback import TRAINING, Callback, FollowedRun
from mmreg.contract.metrics import Epoch
from mmreg.errors import MmregError
from mmreg.experiment import Experiment
from mmreg.files import write_text
from mmreg.model.devices import available_devices, resolve_device
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.recipe.yaml import yaml_text
from mmreg.studies.compare.usage import measured, read_usage
from mmreg.training.train import train

ERROR = "mmreg error: "
"""What a process of its own writes before the message of a training that failed."""
POLL_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class Job:
    """One training of a grid.

    Attributes:
        variant: its variant's name.
        seed: its seed.
        plan: its resolved recipe.
        experiment: its table and modalities.
        folder: the folder of its run.
    """

    variant: str
    seed: int
    plan: Plan
    experiment: Experiment
    folder: Path

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Where a process of its own, or an error that is no `MmregError`, leaves its text."""
        return self.folder.with_suffix(".log")

    @property
    def anew(self) -> str:
        """What to do where its run is damaged."""
        return f"remove {self.folder}, and the same command trains it anew"

    def at_epoch(self, epoch: int) -> str:
        """What it is called while it runs."""
        return f"{self.title}, epoch {epoch}/{self.plan.recipe.form.training.last_epoch}"


def is_finished(folder: Path) -> bool:
    """Whether a training ended in a folder."""
    return runs.is_run(folder) and runs.has_ended(folder)


def device_slots(device: str | torch.device | None, jobs: int | None) -> list[str]:
    """The device of each of the trainings that run side by side.

    Without a number, that is one on a CPU (whose cores one training uses), and one for each accelerator of the kind.

    Raises:
        DeviceError: there is no such device here.
    """
    chosen = resolve_device(device)
    devices = [str(chosen)]
    if str(device or "auto") in ("auto", chosen.type):
        devices = [name for name in available_devices() if torch.device(name).type == chosen.type]
    return [devices[index % len(devices)] for index in range(jobs or len(devices))]


def train_one(recipe: Recipe | Path, folder: Path, device: str, callback: Callback | None = None) -> None:
    """Train, or go on with a training that was stopped, and keep what it used."""
    with measured(folder):
        train(recipe, folder, resume=True, device=device, callback=callback)


def run_jobs(jobs: Sequence[Job], slots: Sequence[str], callback: Callback) -> dict[Job, str]:
    """Train all of them, those that were stopped from where they were; why those that failed did."""
    only_here = sorted({reason for job in jobs for reason in _only_here(job.plan)})
    if not only_here:
        return _side_by_side(jobs, slots, callback)
    if len(slots) > 1:
        callback.on_message(f"one training at a time, as {' and '.join(only_here)}")
    return _one_by_one(jobs, slots[0], callback)


def _only_here(plan: Plan) -> list[str]:
    """Why another process could not train a plan; nothing if it can."""
    reasons = []
    if plan.recipe.tables:
        reasons.append("the table is in this process's memory")
    names = sorted({component.name for component in plan.components().values() if component.entry.cls is not None})
    if names:
        reasons.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} registered in this process")
    return reasons


class _Progress:
    """Tells those who follow the grid how far it is, and keeps why trainings failed."""

    def __init__(self, callback: Callback, total: int) -> None:
        self.callback, self.total = callback, total
        self.done = 0
        self.errors: dict[Job, str] = {}

    def tell(self, note: str) -> None:
        self.callback.on_progress(TRAINING, self.done, self.total, note)

    def end(self, job: Job, error: str | None) -> None:
        self.done += 1
        if error is not None:
            self.errors[job] = error
        self.tell(f"{job.title}: {'done' if error is None else f'failed: {error}'}")


class _Epochs(Callback):
    """Passes the epochs of a training in this process on to those who follow the grid."""

    def __init__(self, progress: _Progress, job: Job) -> None:
        self.progress, self.job = progress, job

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        self.progress.tell(self.job.at_epoch(epoch.number))


def _one_by_one(jobs: Sequence[Job], device: str, callback: Callback) -> dict[Job, str]:
    progress = _Progress(callback, len(jobs))
    for job in jobs:
        progress.tell(job.title)
        error = None
        try:
            train_one(job.plan.recipe, job.folder, device, _Epochs(progress, job))
        except MmregError as problem:
            error = str(problem)
        except Exception as problem:  # a component's own; the others go on
            job.log.parent.mkdir(parents=True, exist_ok=True)
            write_text(job.log, traceback.format_exc())
            error = f"{type(problem).__name__}: {problem} (see {job.log})"
        progress.end(job, error)
    return progress.errors


class _Worker:
    """Trains one thing after the other, each in a process of its own, which ends when this one does.

    Args:
        device: where.
        threads: of each process.

    Attributes:
        job: what is being trained.
    """

    job: Job

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self._environment = {"OMP_NUM_THREADS": str(threads), **os.environ}  # which MKL goes by as well
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, job: Job) -> None:
        """Begin with a training."""
        self.job = job
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = job.folder.with_suffix(".yaml")
        write_text(recipe, yaml_text(job.plan.to_data()))
        job.log.write_bytes(b"")
        with job.log.open("ab") as log:
            self._train([str(recipe), str(job.folder), self.device], log)

    def _train(self, arguments: list[str], log: IO[bytes]) -> None:
        self.end()
        self._process = self._run(arguments, log, log)

    def _run(self, arguments: list[str], log: IO[bytes], stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mmreg.studies.compare", *arguments]
        return subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=stdout, stderr=log, env=self._environment
        )

    def code(self) -> int | None:
        """The exit code of the training's process; None while it trains."""
        assert self._process is not None
        return self._process.poll()

    def end(self) -> None:
        """Kill what has not ended."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError), self._process:  # which closes its pipes, and waits
                pass
            self._process = None


class _ForkingWorker(_Worker):
    """The same by forks of a process that has imported all, so that a start takes tenths of a second, not seconds."""

    _trained: int | None = None

    def _train(self, arguments: list[str], log: IO[bytes]) -> None:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = self._run([], log, subprocess.PIPE)
        assert self._process.stdin is not None
        self._trained = None
        with contextlib.suppress(OSError):  # `code` tells that the process has ended
            self._process.stdin.write(json.dumps([*arguments, str(self.job.log.absolute())]).encode() + b"\n")
            self._process.stdin.flush()

    def code(self) -> int | None:
        """See `_Worker`."""
        assert self._process is not None
        assert self._process.stdout is not None
        while select.select([self._process.stdout], [], [], 0)[0]:
            line = self._process.stdout.readline()
            if not line:
                self._kill()
                return self._process.wait()
            if self._trained is None:
                self._trained = int(line)
            else:
                self._trained = None
                return int(line)
        return None

    def end(self) -> None:
        """See `_Worker`."""
        if self._process is not None:
            self.code()  # which may have come to an end since
            self._kill()
        super().end()

    def _kill(self) -> None:
        if self._trained is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._trained, signal.SIGKILL)
            self._trained = None


def _side_by_side(jobs: Sequence[Job], slots: Sequence[str], callback: Callback) -> dict[Job, str]:
    progress = _Progress(callback, len(jobs))
    threads = max(1, _cores() // min(len(slots), len(jobs) or 1))
    waiting = list(jobs)
    # What CUDA has begun with, no fork can use.
    kinds = [_ForkingWorker if sys.platform == "linux" and slot == "cpu" else _Worker for slot in slots]
    free = [kind(slot, threads) for kind, slot in zip(kinds, slots, strict=True)]
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and free:
                busy.append(free.pop(0))
                busy[-1].start(waiting.pop(0))
            epochs = [worker.job.at_epoch(read_usage(worker.job.folder)["epochs"] or 0) for worker in busy]
            progress.tell("; ".join(epochs))
            time.sleep(POLL_SECONDS)
            for worker in list(busy):
                if (code := worker.code()) is not None:
                    busy.remove(worker)
                    free.append(worker)
                    progress.end(worker.job, None if code == 0 else reason_of_end(code, worker.job.log))
    finally:
        for worker in [*busy, *free]:
            worker.end()
    return progress.errors


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reason_of_end(code: int, log: Path) -> str:
    """Why a training's process failed, from its exit code and what it wrote last."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:  # such as that of a folder that somebody has removed meanwhile
        return f"its process ended with exit code {code}, and {log} cannot be read: {error.strerror}"
    _, marker, message = text.rpartition(ERROR)
    if marker:
        return message.strip()
    if code < 0:
        killed = "; perhaps there was too little memory: use fewer jobs" if code == -9 else ""
        return f"its process was ended by signal {-code}{killed} (see {log})"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'its process ended with exit code {code}'} (see {log})"
