"""Tries what processes need to train together: gloo over a free port of localhost, and whether there is NCCL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(seconds=20)


def try_together() -> Iterator[dict[str, Any]]:
    """Try what processes need to train together. Imports torch."""
    import torch
    from torch import distributed

    from mmreg.messages import one_line

    if not distributed.is_available():
        yield {"name": "gloo", "absent": True}
        return
    try:
        _add_up_in_two_threads()
    except Exception as error:  # of sockets, of torch, of the resolver
        yield {"name": "gloo", "error": one_line(error)}
    else:
        yield {"name": "gloo"}
    nccl = distributed.is_nccl_available()
    version = ".".join(map(str, torch.cuda.nccl.version())) if nccl else None  # type: ignore[no-untyped-call]
    yield {"name": "nccl", "version": version, "gpus": torch.cuda.device_count()}


def _add_up_in_two_threads() -> None:
    """A sum by gloo, whose two members meet at a free port of this machine, as the processes of a training do.

    Raises:
        RuntimeError: it cannot be had, or is wrong.
    """
    import torch
    from torch import distributed

    # What torch's own stubs leave out.
    meet: Any = distributed.TCPStore  # type: ignore[attr-defined]
    store = meet("localhost", 0, is_master=True, timeout=PATIENCE, wait_for_workers=False)
    sums: list[float] = []
    failures: list[BaseException] = []

    def add(rank: int) -> None:
        try:
            own = store if rank == 0 else meet("localhost", store.port, timeout=PATIENCE)
            group: Any = distributed.ProcessGroupGloo(own, rank, 2, PATIENCE)
            value = torch.ones(1)
            group.allreduce([value]).wait()
            sums.append(value.item())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    if sums != [2, 2]:
        raise RuntimeError(f"the sum of two ones came to {sums}")
