"""Starting a command in several processes, by torch's own launcher, and one message of what ended them."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreg.cli import LAUNCHER, is_debug
from mmreg.console import TYPED, say, typed
from mmreg.data.decode import num_workers
from mmreg.errors import DeviceError, OptionError, PeerLostError, TrainingError
from mmreg.messages import listed
from mmreg.training.signals import INTERRUPTED, SIGNALS, TRY_AGAIN, ending_signals

ORPHAN_SECONDS = 20.0
"""How long a process whose launcher is gone has to end after the step that is under way."""
LONGEST = 1 << 14
"""Bytes of what a process has said of its end that are read."""


def end_with_launcher() -> None:
    """Let this process end if the one that has started it does, however that ends; nothing else looks after it."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or not hasattr(os, "getppid"):
        return

    def watch() -> None:
        while str(os.getppid()) == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(TRY_AGAIN)

    threading.Thread(target=watch, name="mmreg-launcher", daemon=True).start()


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run a command in several processes of this machine, which train or predict together; the first one is seen.

    Args:
        count: how many.
        arguments: of `mmreg`.

    Returns:
        The exit code of the command.

    Raises:
        OptionError: torch cannot start processes here.
        TrainingError: one of them has failed, other than by what the first one has said already; says which and why.
    """
    from torch import distributed

    if not distributed.is_available():
        raise OptionError("this build of torch cannot train in several processes; leave --devices out")
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if not is_debug():
        told = logging.getLogger("torch.distributed.elastic")  # those below it have levels of their own
        told.propagate = False
        told.addHandler(logging.NullHandler())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_workers() // count)))
    os.environ[TYPED] = shlex.join(typed())
    os.environ[LAUNCHER] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="mmreg-processes-", ignore_cleanup_errors=True) as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id="mmreg",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            signals_to_handle=",".join(signal.Signals(number).name for number in ending_signals()),
            logs_specs=DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "mmreg", *arguments)
        except SignalException as stopped:
            return SIGNALS.get(stopped.sigval, INTERRUPTED)
        except ChildFailedError as failed:
            return _failed(failed.failures, count, Path(folder), "train" in arguments[:1])
    return 0


def _failed(failures: Mapping[int, Any], count: int, folder: Path, resumable: bool = False) -> int:
    """The exit code of a command of which processes have failed.

    Raises:
        TrainingError: it is not the first one, whose message is seen, that failed by itself.
    """
    by_itself = {rank: each for rank, each in failures.items() if each.exitcode != PeerLostError.exit_code}
    killed = {rank: each for rank, each in by_itself.items() if each.exitcode < 0 and -each.exitcode != signal.SIGTERM}
    failed = {rank: each for rank, each in by_itself.items() if each.exitcode > 0}
    found = killed or failed or by_itself or failures
    rank = 0 if found is failed and 0 in failed else next(iter(found))  # what the first one has said is enough
    failure = found[rank]
    stopped: set[int] = {each.exitcode for each in failed.values()} & {TRY_AGAIN, INTERRUPTED}
    if failure.exitcode in stopped:  # one was told to end, and the others by it
        return max(stopped)
    if rank == 0 and failure.exitcode > 0:
        return int(failure.exitcode)
    if failure.exitcode < 0:
        why = f"was ended by {signal.Signals(-failure.exitcode).name}"
        why += " (as where memory runs out)" if -failure.exitcode == signal.SIGKILL else ""
    else:
        why = f"has failed: {_last_words(folder, rank) or f'its exit code is {failure.exitcode}'}"
    end = "all of them have ended"
    end += "; go on by --resume" if resumable and failure.exitcode < 0 else ""
    raise TrainingError(f"process {rank} of {count} (0 to {count - 1}) {why}; {end}")


def _last_words(folder: Path, rank: int) -> str:
    """What a process that nobody sees has said last."""
    for path in folder.glob(f"*/attempt_0/{rank}/stderr.log"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST))
            lines = file.read().decode("utf-8", "replace").splitlines()
        said = [line.removeprefix("mmreg: ") for line in lines if line.startswith("mmreg: ")]
        if said:
            return said[-1]
    return ""


def check_count(count: int, device: str, *, quiet: bool = False) -> None:
    """Refuse a number of processes that this machine has no devices for, before any is started, and say what each has.

    Raises:
        DeviceError: there are fewer devices of the kind.
    """
    from mmreg.model.devices import available_devices, resolve_device

    best = resolve_device(device)
    if ":" in device:
        raise DeviceError(f"--devices {count} takes one device each; name {best.type!r} instead of {device}")
    there = [each for each in available_devices() if each.startswith(best.type)]
    if best.type != "cpu" and count > len(there):
        raise DeviceError(
            f"--devices {count}, and this machine has {len(there)} ({listed(there)}); ask for fewer, or train on the "
            "CPU by --device cpu"
        )
    if count > 1 and not quiet:
        say(f"{count} processes, each with {'a share of the CPU' if best.type == 'cpu' else f'a {best.type} device'}")
