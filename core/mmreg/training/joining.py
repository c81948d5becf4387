"""How the processes that train together find each other, and which device each of them has."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from mmreg.errors import DeviceError, OptionError, PeerLostError, TrainingError
from mmreg.messages import listed, one_line, plural
from mmreg.model.devices import available_devices, resolve_device
from mmreg.training.peers import Peers
from mmreg.training.together import PATIENCE, _Joined

ARRIVAL = timedelta(minutes=2)
"""How long a process looks for the others at the start, of which torch takes up to twice as long; those that torchrun
starts have been waited for by it."""
NAMED = timedelta(seconds=20)
"""How long the name of the first one's machine may be unknown."""
STARTED, PLACE = ("RANK", "WORLD_SIZE"), ("MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torchrun tells a process which one it is, and where the first one is."""


def leads() -> bool:
    """Whether this process is the first of those that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(
    device: str | torch.device | None, shared: Callable[[torch.device], _Joined] | None = None
) -> Iterator[tuple[Peers, torch.device]]:
    """The processes that train together, and the device of this one; the process alone if nobody has started more.

    Args:
        device: where to compute, by name; of a kind with several devices each process takes one of its own.
        shared: makes processes of which each has a share of the weights alone, given this one's device.

    Raises:
        OptionError: there is no other process that could have the rest, or the environment does not say who they are.
        TrainingError: the others are not found.
        DeviceError: there is no such device, or there are fewer than processes.
        PeerLostError: another process has ended before.
    """
    if not _is_one_of_several():
        if shared is not None:
            raise OptionError(
                "sharding is for several processes, each with a share of the weights, and this is one by itself; start "
                "them by mmreg train --devices N --shard, or by torchrun"
            )
        yield Peers(), resolve_device(device)
        return
    own = _own_device(device)
    with _ended_by_signals():
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
            store, rank, size = _found_each_other()
            dist.init_process_group(
                backend,
                store=store,
                rank=rank,
                world_size=size,
                timeout=PATIENCE,
                device_id=own if own.type == "cuda" else None,
            )
            atexit.register(dist.destroy_process_group)  # not before, as another training may follow
        peers = _Joined() if shared is None else shared(own)
    try:
        yield peers, own
    except RuntimeError as error:
        if "finished reduction in the prior iteration" in str(error):
            raise TrainingError(
                "a weight has a gradient in some steps and none in others, by what is in the batch, which several "
                "processes cannot train: freeze it, or have its component always use it (multiplied by zero)"
            ) from error
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise PeerLostError("another process of this training has ended") from error
        raise
    finally:
        peers.end()


def _is_one_of_several() -> bool:
    """Whether this process was started as one of several (or of one), as torchrun does.

    Raises:
        OptionError: the environment says a part of it.
    """
    given = [name for name in STARTED if name in os.environ]
    if not given or (given == ["WORLD_SIZE"] and os.environ["WORLD_SIZE"] == "1"):
        return False
    missing = [name for name in (*STARTED, *PLACE) if not os.environ.get(name)]
    numbers = [name for name in (*STARTED, PLACE[1]) if name not in missing and not os.environ[name].isdecimal()]
    if missing or numbers or int(os.environ["RANK"]) >= int(os.environ["WORLD_SIZE"]):
        what = f"lacks {listed(missing)}" if missing else f"must have a number in {listed(numbers or STARTED)}"
        raise OptionError(
            f"the environment has {' and '.join(f'{name}={os.environ[name]}' for name in given)}, as of one of several "
            f"processes, and {what}: RANK counts them from 0 to WORLD_SIZE - 1. Start them by mmreg train --devices N "
            "or torchrun, which set all of these; to train by this process alone, unset them"
        )
    return True


def _found_each_other() -> tuple[Any, int, int]:
    """Where the processes tell each other things, this one's number, and how many they are.

    Raises:
        TrainingError: they do not find each other.
    """
    try:
        _wait_for_name(os.environ["MASTER_ADDR"])
        store, rank, size = next(rendezvous("env://", timeout=ARRIVAL))
    except (dist.DistError, socket.gaierror) as error:
        place = ":".join(os.environ[name] for name in PLACE)
        raise TrainingError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has not found the others at {place} "
            "(MASTER_ADDR:MASTER_PORT); see that all have been started within two minutes, that this is the address of "
            f"the first one's machine, and that the port is free there ({one_line(error)[:200]})"
        ) from error
    return store, rank, size


def _wait_for_name(host: str) -> None:
    """Wait until a machine's name is known, as torch does without an end."""
    ends = time.monotonic() + min(NAMED, ARRIVAL).total_seconds()
    while True:
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror:
            if time.monotonic() > ends:
                raise
            time.sleep(1)
        else:
            return


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A block that signals end at once: while it waits for processes that never come, Python hears of none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _own_device(device: str | torch.device | None) -> torch.device:
    """The device of this process among those of its machine."""
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    name = "auto" if device is None else str(device)
    best = resolve_device(name)
    if best.type == "cpu" or (":" in name and here == 1):
        return best
    if ":" in name:
        raise DeviceError(
            f"{plural(here, 'process', 'processes')} cannot share {name}; name {best.type!r}, for one each"
        )
    there = [each for each in available_devices() if each.startswith(best.type)]
    if local >= len(there):
        raise DeviceError(
            f"{plural(here, 'process', 'processes')} need as many devices, and this machine has {listed(there)}; start "
            "fewer, or train on the CPU by --device cpu"
        )
    found = torch.device(there[local])
    if found.type == "cuda":
        torch.cuda.set_device(found)
    return found
