"""Runs cases in processes forked from this one, which has everything imported, and sees when one dies or hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import selectors
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fuzzing.cases import BLOCK, BYTES, SECONDS, Case, Kind, Verdict
from fuzzing.ground import Ground
from fuzzing.oracle import Judge

PATIENCE = 3 * SECONDS
"""Time by the clock that a case may take, waiting included."""


@dataclass(frozen=True)
class Batch:
    """Cases of one kind that a process runs one after the other, or one case that is given."""

    kind: str
    numbers: range
    case: Case | None = None


@dataclass
class _Worker:
    pid: int
    batch: Batch
    folder: Path
    case: Case | None = None
    since: float = field(default_factory=time.monotonic)
    pending: bytes = b""


class Workers:
    """Processes that run batches.

    Args:
        kinds: by name.
        ground: the original files.
        seed: what all cases are drawn by.
        jobs: how many processes.
    """

    def __init__(self, kinds: Mapping[str, Kind], ground: Ground, seed: int, jobs: int) -> None:
        self.kinds, self.ground, self.seed, self.jobs = kinds, ground, seed, jobs
        self._count = 0
        for kind in kinds.values():
            kind.ready()

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Case, Verdict]]:
        """Every case of the batches with what came of it; with its bytes if it failed."""
        waiting = deque(batches)
        with selectors.DefaultSelector() as selector:
            while waiting or selector.get_map():
                while waiting and len(selector.get_map()) < self.jobs:
                    self._start(waiting.popleft(), selector)
                for key, _ in selector.select(timeout=1):
                    worker: _Worker = key.data
                    piece = os.read(key.fd, 1 << 16)
                    *lines, worker.pending = (worker.pending + piece).split(b"\n")
                    for line in lines:
                        yield from self._heard(worker, json.loads(line))
                    if not piece:
                        selector.unregister(key.fd)
                        os.close(key.fd)
                        yield from self._ended(worker, waiting)
                for key in list(selector.get_map().values()):
                    if key.data.case and time.monotonic() - key.data.since > PATIENCE:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(key.data.pid, signal.SIGALRM)

    def _start(self, batch: Batch, selector: selectors.BaseSelector) -> None:
        self._count += 1
        folder = self.ground.folder.parent / f"worker-{self._count}"
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            try:
                self._work(batch, folder, writing)
            except BaseException as error:
                _say(writing, {"broken": repr(error)})
            os._exit(0)
        os.close(writing)
        selector.register(reading, selectors.EVENT_READ, _Worker(pid, batch, folder))

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> Iterator[tuple[Case, Verdict]]:
        if "broken" in message:
            raise RuntimeError(f"the harness itself fails in {worker.batch}: {message['broken']}")
        if "case" in message:
            worker.case, worker.since = Case(**message["case"], data=b""), time.monotonic()
        else:
            assert worker.case
            verdict = Verdict(*message["verdict"])
            yield _with_data(worker) if verdict.outcome == "failed" else worker.case, verdict
            worker.case = None

    def _ended(self, worker: _Worker, waiting: deque[Batch]) -> Iterator[tuple[Case, Verdict]]:
        """What is left of a process that is no more: in the middle of a case it must not end."""
        status = os.waitpid(worker.pid, 0)[1]
        if worker.case:
            said = (worker.folder.parent / f"{worker.folder.name}.2").read_text("utf-8", "replace")
            trace = said.partition("(most recent call first):")[2] or said  # faulthandler's, the innermost place first
            yield _with_data(worker), Verdict("failed", f"{_ending(status)}; {trace[:1000]}")
            rest = range(worker.case.number + 1, worker.batch.numbers.stop)
            if rest and not worker.batch.case:
                waiting.appendleft(Batch(worker.batch.kind, rest))
        for path in worker.folder.parent.glob(f"{worker.folder.name}.*"):
            path.unlink()
        shutil.rmtree(worker.folder, ignore_errors=True)

    def _work(self, batch: Batch, folder: Path, writing: int) -> None:
        """What a process does."""
        self.ground.copy(folder)
        kind = self.kinds[batch.kind]
        judge = Judge(folder, self.ground.references)
        faulthandler.enable(2, all_threads=False)
        for ending in (signal.SIGPROF, signal.SIGALRM):
            faulthandler.register(ending, 2, all_threads=False, chain=True)  # tells where it is, and ends it
        _limit()
        for case in [batch.case] if batch.case else kind.cases(batch.numbers, self.seed):
            kept = folder.parent / f"{folder.name}.case-{case.number}"
            kept.write_bytes(case.data)
            _say(writing, {"case": {name: fact for name, fact in asdict(case).items() if name != "data"}})
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose signal ends the process, whatever it is doing
            verdict = judge.verdict(kind, case)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if verdict.outcome != "failed":
                kept.unlink()
            _say(writing, {"verdict": verdict})


def _with_data(worker: _Worker) -> Case:
    """The case under way with its bytes, which a process leaves of a case that failed."""
    assert worker.case
    kept = worker.folder.parent / f"{worker.folder.name}.case-{worker.case.number}"
    return replace(worker.case, data=kept.read_bytes())


def batches(counts: Mapping[str, int]) -> Iterator[Batch]:
    """All cases in batches, the kinds in turn."""
    for start in range(0, max(counts.values()), BLOCK):
        for name, count in counts.items():
            if start < count:
                yield Batch(name, range(start, min(start + BLOCK, count)))


def _limit() -> None:
    """Bound what the process may map beyond what it has mapped by now, which is gigabytes with torch."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))


def _say(writing: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(writing, data) :]


def _ending(status: int) -> str:
    number = os.waitstatus_to_exitcode(status)
    if number == -signal.SIGPROF:
        return f"over {SECONDS} seconds of processor time"
    if number == -signal.SIGALRM:
        return f"not done after {PATIENCE} seconds"
    return f"crash: {signal.Signals(-number).name}" if number < 0 else f"the process ended itself with {number}"
