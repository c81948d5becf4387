"""Memory that a step has freed is kept for the next one, where the C library would give it back each time.

The GNU C library returns large arrays to the kernel as soon as they are freed, and each page has to be cleared and
mapped again when the next step asks for it: of a step over sounds of 5 seconds a quarter of the time.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""What mallopt(3) calls them: free memory at the end that is given back, and sizes that are mapped by themselves."""
KEPT = 1 << 30
"""Bytes of an array, and of free memory, up to which they are kept."""
USUAL = 1 << 25
"""What the library itself raises the limit to for a program that frees arrays of this size."""
OWN = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
"""Environment variables by which users choose for themselves, the last one perhaps an allocator of their own."""

_LOCK = threading.Lock()
_keeping = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A context in which the memory of freed arrays is used again; afterwards what is free is given back.

    It does nothing where the C library is another one, or where the environment has settings of the user's own.
    """
    global _keeping
    library = _gnu_library()
    if library is None:
        yield
        return
    with _LOCK:
        _keeping += 1
        _limit(library, KEPT)
    try:
        yield
    finally:
        with _LOCK:
            _keeping -= 1
            if not _keeping:  # trainings in other threads have need of it
                _limit(library, USUAL)
                library.malloc_trim(0)


def _gnu_library() -> ctypes.CDLL | None:
    """The C library of this process if it is GNU's, and the user has not settled the matter."""
    if any(os.environ.get(name) for name in OWN):
        return None
    try:
        library = ctypes.CDLL(None) if os.confstr("CS_GNU_LIBC_VERSION") else None
    except (AttributeError, OSError, TypeError, ValueError):  # another system, or another library
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _limit(library: ctypes.CDLL, size: int) -> None:
    library.mallopt(M_MMAP_THRESHOLD, size)
    library.mallopt(M_TRIM_THRESHOLD, size)
