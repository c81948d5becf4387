"""Where the time of a training goes: a table of its parts, and a trace of some of its steps."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from mmreg import runs
from mmreg.contract.callback import Callback, FollowedRun, Step
from mmreg.contract.metrics import Epoch
from mmreg.files import csv_text, replacing, write_text
from mmreg.regions import REST, TRACED, Recorder

WHERE, OPERATORS, TRACE = "where.csv", "operators.csv", "trace.json"
"""The files; the trace is one for Perfetto or chrome://tracing."""
WARM_UP = 3
"""Steps before the trace, as they warm up what the others find warm."""
STEPS = 10
"""Steps of the trace, if they are no more than a quarter of all; a trace of many is too large to be looked at."""
LONGEST = 15
"""Operators in the list of those that take longest."""
OTHER_WORK = frozenset({"preparing", "validation", "evaluation", "checkpoint"})
"""Parts that are charged for all that is done in them, and are in no trace."""


class Profile(Callback):
    """Follows one training and writes `profile/` into its run's folder: where.csv, operators.csv and trace.json.

    On a GPU the parts are waited for, each by itself, so that the table says what each costs; the traced steps run as
    they always do.

    Args:
        folder: the run's.
        device: where the training computes.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        enclosing = OTHER_WORK | {"callbacks"}
        self.recorder = Recorder(enclosing, OTHER_WORK, settle=self._settle, end_trace=self._stop)
        self._profiler: torch.profiler.profile | None = None
        self._done = 0  # steps of this process
        self._traced, self._most = 0, STEPS
        self._warm_up = WARM_UP

    @contextmanager
    def active(self, say: Callable[[str], None]) -> Iterator[None]:
        """Follow what this thread does, and write the files at the end of it.

        Args:
            say: told what a person should know.
        """
        try:
            with self.recorder.active():
                yield
        except BaseException:
            if self.recorder.tracing:
                self._stop()
            raise
        if self.recorder.tracing:
            self._stop()
        self._write(say)

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._most = max(1, min(STEPS, facts["steps"] // 4))
        self._warm_up = min(WARM_UP, max(1, facts["steps"] - 1))

    def on_step(self, step: Step) -> None:
        """See `Callback`."""
        self._done += 1
        if self.recorder.tracing:
            self._traced += 1
            if self._traced == self._most:
                self._stop()
        else:
            self._start()

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """See `Callback`."""
        self._start()  # where the last step of an epoch was the first that could have been before a trace

    def _start(self) -> None:
        """Begin the trace, if it is time."""
        if self._profiler is not None or self._done < self._warm_up:
            return
        self.recorder.charge()
        self.recorder.tracing = True
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities, acc_events=True)
        quiet = self.device.type != "cuda" and "KINETO_LOG_LEVEL" not in os.environ
        if quiet:  # else it prints an error where there is no GPU
            os.environ["KINETO_LOG_LEVEL"] = "5"
        self._profiler.start()
        if quiet:
            del os.environ["KINETO_LOG_LEVEL"]

    def _stop(self) -> None:
        assert self._profiler is not None
        if self.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize(self.device)
        self._profiler.stop()
        self.recorder.charge()
        self.recorder.tracing = False
        if not self._traced:  # there is still time for a trace
            self._profiler = None

    def _settle(self) -> None:
        if self.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize(self.device)

    def _write(self, say: Callable[[str], None]) -> None:
        place = runs.own_folder(self.folder, runs.PROFILE)
        write_text(place / WHERE, csv_text(parts(self.recorder)))
        if self._profiler is None:
            return
        found = operators(self._profiler.key_averages(), gpu=self.device.type == "cuda")
        write_text(place / OPERATORS, csv_text(found))
        with replacing(place / TRACE) as temporary:
            self._profiler.export_chrome_trace(str(temporary))
        events: Iterable[Any] = self._profiler.events()  # type: ignore[no-untyped-call]
        kernels = [(each.time_range.start, each.time_range.end) for each in events if each.device_type.name == "CUDA"]
        if kernels:
            share = busy_share(kernels)
            say(f"the GPU was busy for {share:.0%} of the traced steps")


def parts(recorder: Recorder) -> list[dict[str, Any]]:
    """The parts of a training as the rows of a table, those that took longest first; what is in none of them last."""
    whole = sum(recorder.seconds.values())
    last = (TRACED, REST)
    ordered = sorted(recorder.seconds, key=lambda part: (part in last, -recorder.seconds[part]))
    rows = [
        {
            "part": part,
            "seconds": round(recorder.seconds[part], 6),
            "share": f"{recorder.seconds[part] / whole:.1%}" if whole else "",
            "calls": recorder.calls.get(part),
        }
        for part in ordered
    ]
    return [*rows, {"part": "whole", "seconds": round(whole, 6), "share": "100.0%", "calls": None}]


def operators(averages: Iterable[Any], *, gpu: bool) -> list[dict[str, Any]]:
    """The operators of torch that took longest over the traced steps, what they call left out.

    Args:
        averages: as `torch.profiler.profile.key_averages` gives them, in microseconds.
        gpu: whether a GPU computed, by whose time they are then ordered.
    """
    rows = [
        {
            "operator": each.key,
            "calls": each.count,
            **({"gpu_seconds": round(each.self_device_time_total / 1e6, 6)} if gpu else {}),
            "cpu_seconds": round(each.self_cpu_time_total / 1e6, 6),
        }
        for each in averages
        if not each.is_user_annotation
    ]
    rows.sort(key=lambda row: -row["gpu_seconds" if gpu else "cpu_seconds"])
    return rows[:LONGEST]


def busy_share(intervals: Iterable[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end in which at least one interval was under way."""
    ordered = sorted(intervals)
    busy, end = 0.0, ordered[0][0]
    for begin, until in ordered:
        busy += max(0.0, until - max(begin, end))
        end = max(end, until)
    return busy / (end - ordered[0][0]) if end > ordered[0][0] else 1.0


def read_profile(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]], Path]:
    """What a profiled training wrote: its parts, the operators of the traced steps (none without any), the trace."""
    place = folder / runs.PROFILE
    tables = []
    for name in (WHERE, OPERATORS):
        path = place / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        tables.append(list(csv.DictReader(text.splitlines())))
    return tables[0], tables[1], place / TRACE
