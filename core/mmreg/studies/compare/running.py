"""Running the trainings of a grid: one after the other in this process, or several side by side in their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
import yaml

from mmreg import runs
from mmreg.contract.callback import TRAINING, Callback, FollowedRun
from mmreg.contract.metrics import Epoch
from mmreg.errors import MmregError
from mmreg.files import write_text
from mmreg.model.devices import available_devices, resolve_device
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.studies.compare.results import Failure
from mmreg.studies.compare.usage import free_memory, read_usage, resident_memory, start_measuring, write_usage
from mmreg.training.train import train

ERROR = "mmreg error: "
"""What a process of its own writes before the message of a training that failed."""
POLL_SECONDS = 0.2
SPARE = 1.1
"""How much more memory than the largest training so far took has to be free before another one starts beside others."""


@dataclass(frozen=True)
class Job:
    """One training of a grid.

    Attributes:
        variant: its variant's name.
        seed: its seed.
        plan: its resolved recipe.
        folder: the folder of its run.
    """

    variant: str
    seed: int
    plan: Plan
    folder: Path

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Where a process of its own, or an error that is no `MmregError`, leaves its text."""
        return self.folder.with_suffix(".log")


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
    count = jobs or len(devices)
    return [devices[index % len(devices)] for index in range(count)]


def is_finished(folder: Path) -> bool:
    """Whether a training ended there: its weights are written last."""
    return runs.is_run(folder) and (folder / runs.REPORT).is_file() and (folder / runs.WEIGHTS).is_file()


def train_one(recipe: Recipe | Path, folder: Path, device: str, callback: Callback | None = None) -> None:
    """Train, or go on with a training that was stopped, and keep what it used."""
    start_measuring()
    try:
        train(recipe, folder, resume=True, device=device, callback=callback)
    finally:
        write_usage(folder)


def run_jobs(jobs: Sequence[Job], slots: Sequence[str], callback: Callback) -> list[Failure]:
    """Train all of them, those that were stopped from where they were; the ones that failed, and why."""
    only_here = {reason for job in jobs for reason in _only_here(job.plan)}
    if only_here and len(slots) > 1:
        callback.on_message(f"one training at a time, as {' and '.join(sorted(only_here))}")
    for job in jobs:
        _remove_leftovers(job.folder)
    if only_here:
        return _in_this_process(jobs, slots[0], callback)
    return _Processes(jobs, slots, callback).run()


def _only_here(plan: Plan) -> list[str]:
    """Why another process could not train a plan; nothing if it can."""
    reasons = []
    if plan.recipe.tables:
        reasons.append("the table is in this process's memory")
    names = sorted({component.name for component in plan.components().values() if component.entry.cls is not None})
    if names:
        reasons.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} registered in this process")
    return reasons


def _remove_leftovers(folder: Path) -> None:
    """Empty a folder whose training was killed while it wrote the first files, so that it is no unknown folder."""
    if folder.is_dir() and not runs.is_run(folder):
        for path in folder.iterdir():
            if path.name == runs.RECIPE or path.suffix == ".tmp":
                path.unlink()


class _Epochs(Callback):
    """Passes the epochs of a training in this process on to those who follow the grid."""

    def __init__(self, callback: Callback, job: Job, done: int, total: int) -> None:
        self.callback, self.job, self.done, self.total = callback, job, done, total

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        self.callback.on_progress(TRAINING, self.done, self.total, _with_epoch(self.job, epoch.number))


def _with_epoch(job: Job, epoch: int) -> str:
    return f"{job.title}, epoch {epoch}/{job.plan.recipe.form.training.epochs}"


def _ended(job: Job, error: str | None) -> str:
    return f"{job.title}: {'done' if error is None else f'failed: {error}'}"


def _in_this_process(jobs: Sequence[Job], device: str, callback: Callback) -> list[Failure]:
    failed = []
    for done, job in enumerate(jobs):
        callback.on_progress(TRAINING, done, len(jobs), job.title)
        error = None
        try:
            train_one(job.plan.recipe, job.folder, device, _Epochs(callback, job, done, len(jobs)))
        except MmregError as problem:
            error = str(problem)
        except Exception as problem:  # a component's own; the others go on
            job.log.parent.mkdir(parents=True, exist_ok=True)
            write_text(job.log, traceback.format_exc())
            error = f"{type(problem).__name__}: {problem} (see {job.log})"
        if error is not None:
            failed.append(Failure(job.variant, job.seed, error))
        callback.on_progress(TRAINING, done + 1, len(jobs), _ended(job, error))
    return failed


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    slot: str
    log: IO[bytes]


class _Processes:
    """Trainings in processes of their own, so many at a time as there are slots and memory allows."""

    def __init__(self, jobs: Sequence[Job], slots: Sequence[str], callback: Callback) -> None:
        self.jobs, self.callback = jobs, callback
        self.waiting = list(jobs)
        self.free = list(slots)
        self.width = min(len(slots), len(jobs))
        self.running: list[_Running] = []
        self.failed: list[Failure] = []
        self.done = 0
        self.largest = 0

    def run(self) -> list[Failure]:
        try:
            while self.waiting or self.running:
                while self.waiting and self.free and self._has_memory():
                    self._start(self.waiting.pop(0), self.free.pop(0))
                self._report()
                time.sleep(POLL_SECONDS)
                for one in [one for one in self.running if one.process.poll() is not None]:
                    self._end(one)
        finally:
            for one in self.running:
                one.process.kill()
                one.process.wait()
                self._close(one)
        return self.failed

    def _has_memory(self) -> bool:
        """Whether as much is free as the largest training so far took, beyond what those under way will still take."""
        free = free_memory()
        if not self.running or free is None:
            return True
        growth = sum(max(0, self.largest - resident_memory(one.process.pid)) for one in self.running)
        return free >= growth + SPARE * self.largest

    def _start(self, job: Job, slot: str) -> None:
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = job.folder.with_suffix(".yaml")
        write_text(recipe, yaml.safe_dump(job.plan.to_data(), sort_keys=False, allow_unicode=True))
        threads = str(max(1, _cores() // self.width))
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **os.environ}
        command = [sys.executable, "-m", "mmreg.studies.compare", str(recipe), str(job.folder), slot]
        log = job.log.open("wb")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        self.running.append(_Running(job, process, slot, log))

    def _end(self, one: _Running) -> None:
        self.running.remove(one)
        self.free.append(one.slot)
        self._close(one)
        self.done += 1
        self.largest = max(self.largest, read_usage(one.job.folder)["process_bytes"] or 0)
        error = None if one.process.returncode == 0 else _reason(one.process.returncode, one.job.log)
        if error is not None:
            self.failed.append(Failure(one.job.variant, one.job.seed, error))
        self.callback.on_progress(TRAINING, self.done, len(self.jobs), _ended(one.job, error))

    def _close(self, one: _Running) -> None:
        one.log.close()
        assert one.process.stdin is not None
        with contextlib.suppress(OSError):
            one.process.stdin.close()

    def _report(self) -> None:
        texts = [_with_epoch(one.job, read_usage(one.job.folder)["epochs"] or 0) for one in self.running]
        self.callback.on_progress(TRAINING, self.done, len(self.jobs), "; ".join(texts))


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(code: int, log: Path) -> str:
    """Why a training's process ended, from what it wrote last."""
    text = log.read_text(encoding="utf-8", errors="replace")
    _, marker, message = text.rpartition(ERROR)
    if marker:
        return message.strip()
    if code < 0:
        killed = "; perhaps there was too little memory: use fewer jobs" if code == -9 else ""
        return f"its process was ended by signal {-code}{killed} (see {log})"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'its process ended with exit code {code}'} (see {log})"
