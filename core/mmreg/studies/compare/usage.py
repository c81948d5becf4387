"""What a training used: its time, and its peak memory, which is kept in the run's folder."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmreg import runs
from mmreg.files import write_json

USAGE = "usage.json"


@contextlib.contextmanager
def measured(folder: Path) -> Iterator[None]:
    """Keep the peak memory of a training in its run's folder; one that was stopped and went on keeps the greater one.

    Where the system can (Linux), the process's peak is that since the training's start, else that of all its life.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    try:
        yield
    finally:
        peak = _peak_memory()
        if peak is not None and runs.is_run(folder):
            write_json(folder / USAGE, {"peak_memory_bytes": max(peak, _kept(folder) or 0)})


def _peak_memory() -> int | None:
    """The process's peak resident memory in bytes, mapped files as far as they were read; None on Windows."""
    with contextlib.suppress(OSError):  # on Linux getrusage counts what the process held before this program, too
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_usage(folder: Path) -> dict[str, Any]:
    """What a run's training used; a value is None where the run does not tell, such as one that `mmreg fuse` made.

    Returns:
        `epochs`; `seconds`, validation included; `device_bytes` and `process_bytes`, the peak memory of an accelerator
        and of the process; and `memory_bytes`, the first of the two that is known.
    """
    epochs = runs.read_timings(folder)
    device = max((int(row["device_memory_bytes"]) for row in epochs if row.get("device_memory_bytes")), default=None)
    process = _kept(folder)
    return {
        "epochs": len(epochs) or None,
        "seconds": round(sum(float(row["seconds"]) for row in epochs), 3) if epochs else None,
        "device_bytes": device,
        "process_bytes": process,
        "memory_bytes": process if device is None else device,
    }


def _kept(folder: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return int(json.loads(runs.run_file(folder, USAGE).read_text(encoding="utf-8"))["peak_memory_bytes"])
    return None
