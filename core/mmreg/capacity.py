"""How much memory there is for this process."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path


def free_memory(*, swap: bool = True) -> float:
    """How many bytes this process may still use; infinite where the system does not tell.

    The least of what the machine, the control group (a container's limit) and the process's address space have left.

    Args:
        swap: whether the machine's swap counts as well.
    """
    own_space, own_resident = _own_pages()
    left = [math.inf]
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {name: int(value.split()[0]) for name, value in lines}
        left.append(1024 * (kilobytes["MemAvailable"] + (kilobytes["SwapFree"] if swap else 0)))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # versions 2 and 1, as seen from inside a container
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            left.append(int(Path("/sys/fs/cgroup", limit).read_text()) - own_resident)
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if space != resource.RLIM_INFINITY:
            left.append(space - own_space)
    return max(0, min(left))


def peak_memory() -> float:
    """The most bytes of memory that this process has had in use at once; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def _own_pages() -> tuple[int, int]:
    """The bytes of address space and of memory that this process has; zeros where the system does not tell."""
    try:
        import resource

        space, resident = Path("/proc/self/statm").read_text().split()[:2]
    except (ImportError, OSError, ValueError):
        return 0, 0
    return int(space) * resource.getpagesize(), int(resident) * resource.getpagesize()
