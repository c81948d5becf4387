"""An engine on Ray, which schedules shards, moves them, and computes again what is lost with a worker."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

# Read by Ray as it starts: it reports nothing to anybody, and leaves to us what is said of lost workers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_task_oom_retries", "3")  # what needs too much memory would be tried for ever

import pyarrow as pa
import ray
import ray.data
from ray import cloudpickle
from ray.exceptions import RayError

from mmreg import Engine
from mmreg.errors import EngineError
from mmreg.messages import one_line

BLOCKS = 2000
"""Tasks at most: each costs the driver some milliseconds, so that a very large work has several shards in one."""
SECONDS = 10
"""How long an address may take to answer at all."""
RESULT, SHARD = "result", "shard"
"""The columns of what goes to the workers and comes back."""


class RayEngine(Engine):
    """Workers of a Ray cluster, one for each of its CPUs or GPUs; they have to have mmreg and see the same files.

    Args:
        address: of the cluster, such as "10.0.0.5:6379", or "auto" for the one on this machine. If it is empty, that of
            the environment variable RAY_ADDRESS; without one, workers of this machine alone, as many as it has cores.
            A process that is connected to a cluster uses that one; else it stays connected until it ends.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address

    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], total: int, *, accelerator: bool = False
    ) -> Iterator[Any]:
        """See `Engine.map`."""
        sent = _pickled(function)
        connect(self._address)
        with _in_order():
            try:
                yield from _results(sent, shards, total, accelerator)
            except RayError as error:
                raise EngineError(f"Ray's workers failed: {one_line(error)}") from error

    def converse(
        self,
        function: Callable[[Any, Callable[[Any], Any]], Any],
        shards: Iterable[Any],
        answer: Callable[[Any], Any],
        *,
        workers: int | None = None,
        accelerator: bool = False,
    ) -> Generator[tuple[Any, Any]]:
        """See `Engine.converse`."""
        from mmreg_ray.conversing import converse

        sent = _pickled(function)
        connect(self._address)
        try:
            yield from converse(sent, shards, answer, workers, on_gpus(accelerator))
        except RayError as error:
            raise EngineError(f"Ray's workers failed: {one_line(error)}") from error

    def serve(
        self,
        build: Callable[[], Any],
        *,
        host: str,
        port: int,
        replicas: int,
        at_once: int,
        seconds: float,
        accelerator: bool = False,
    ) -> AbstractContextManager[str]:
        """See `Engine.serve`."""
        from mmreg_ray.serving import serving

        _pickled(build)
        connect(self._address)
        return serving(
            build,
            host=host,
            port=port,
            replicas=replicas,
            at_once=at_once,
            seconds=seconds,
            gpus=on_gpus(accelerator),
        )


def on_gpus(accelerator: bool) -> bool:
    """Whether workers get a GPU each."""
    return accelerator and bool(ray.cluster_resources().get("GPU", 0) >= 1)


def _pickled(function: Callable[..., Any]) -> bytes:
    try:
        sent: bytes = cloudpickle.dumps(function)
    except Exception as error:  # whatever a plugin's component holds
        raise EngineError(f"the work cannot be sent to Ray's workers: {one_line(error)}") from error
    return sent


def _results(sent: bytes, shards: Iterable[Any], total: int, accelerator: bool) -> Iterator[Any]:
    """The results in order, each once."""
    kind = "GPU" if on_gpus(accelerator) else "CPU"
    each = max(1, -(-total // BLOCKS))
    blocks = [ray.put(_block(SHARD, some)) for some in _batched(shards, each)]
    workers = max(1, min(int(ray.cluster_resources().get(kind, 1)), len(blocks)))
    results = ray.data.from_arrow_refs(blocks).map_batches(
        _Computing,
        fn_constructor_args=(sent,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if kind == "GPU" else 0,
        num_cpus=0 if kind == "GPU" else 1,
    )
    for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for data in block.column(RESULT):
            yield cloudpickle.loads(data.as_buffer())


class _Computing:
    """A worker: what it computes with is sent once, and kept."""

    def __init__(self, sent: bytes) -> None:
        self._function: Callable[[Any], Any] = cloudpickle.loads(sent)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        for data in block.column(SHARD):
            yield _block(RESULT, [self._function(cloudpickle.loads(data.as_buffer()))])


def _block(name: str, values: Iterable[Any]) -> pa.Table:
    return pa.table({name: pa.array([cloudpickle.dumps(value) for value in values], pa.large_binary())})


def _batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while some := list(itertools.islice(rest, size)):
        yield some


def connect(address: str) -> None:
    """Connect this process to a cluster, until it ends or calls `ray.shutdown`, unless it is connected to one.

    Raises:
        EngineError: nothing answers there.
    """
    if ray.is_initialized():
        return
    handler = signal.getsignal(signal.SIGTERM)
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if where == "local" else {}
    try:
        _reach(where)
        ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (RayError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster answers at {where!r}: {one_line(error)}; name its head, as by --on ray:10.0.0.5:6379, or "
            "no address, for workers of this machine alone"
        ) from error
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # the one of whoever asks, in whose place Ray has put its own


def _reach(address: str) -> None:
    """Make sure that something listens at an address; Ray would try for minutes, and not hear that it is to end."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Ray Data gives results in order while the block lasts, and says nothing but errors."""
    logger = logging.getLogger("ray.data")
    options = ray.data.DataContext.get_current()
    before = options.execution_options.preserve_order, options.enable_progress_bars, logger.level
    options.execution_options.preserve_order, options.enable_progress_bars = True, False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        options.execution_options.preserve_order, options.enable_progress_bars = before[:2]
        logger.setLevel(before[2])
