"""What a training used: its peak memory, measured and kept in the run's folder; and how much memory is free."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

from mmreg import runs
from mmreg.files import write_json

USAGE = "usage.json"
_STATUS = Path("/proc/self/status")


def start_measuring() -> None:
    """Forget the process's peak so far, where the system can (Linux); elsewhere it stays that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int | None:
    """The process's peak resident memory in bytes since `start_measuring`; None where it cannot be told.

    Files that are mapped into memory, such as prepared data, count as far as they were read.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_usage(folder: Path) -> None:
    """Keep the peak in a run's folder; a training that was stopped and went on keeps the greater one."""
    peak = peak_memory()
    if peak is not None and runs.is_run(folder):
        write_json(folder / USAGE, {"peak_memory_bytes": max(peak, _kept(folder) or 0)})


def read_usage(folder: Path) -> dict[str, Any]:
    """What a run's training used; a value is None where the run does not tell, such as one that `mmreg fuse` made.

    Returns:
        `epochs`; `seconds`, validation included; `device_bytes` and `process_bytes`, the peak memory of an accelerator
        and of the process; and `memory_bytes`, the first of the two that is known.
    """
    rows: list[dict[str, str]] = []
    with contextlib.suppress(FileNotFoundError), (folder / runs.TIMINGS).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    device = max((int(row["device_memory_bytes"]) for row in rows if row.get("device_memory_bytes")), default=None)
    process = _kept(folder)
    return {
        "epochs": len(rows) or None,
        "seconds": round(sum(float(row["seconds"]) for row in rows), 3) if rows else None,
        "device_bytes": device,
        "process_bytes": process,
        "memory_bytes": process if device is None else device,
    }


def _kept(folder: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((folder / USAGE).read_text(encoding="utf-8"))["peak_memory_bytes"])
    return None


def free_memory() -> int | None:
    """The bytes that new processes may take without swapping; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def resident_memory(process: int) -> int:
    """The bytes that another process holds in memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        return pages * int(os.sysconf("SC_PAGE_SIZE"))
    return 0
