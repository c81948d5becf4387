"""Shards as tasks of Ray, which places them, and begins those anew whose worker has died; they ask by an actor."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmreg.errors import EngineError
from mmreg.messages import one_line

DEATHS = 3
"""Workers of one shard that may die before the last try."""


def converse(
    sent: bytes, shards: Iterable[Any], answer: Callable[[Any], Any], workers: int | None, gpus: bool
) -> Generator[tuple[Any, Any]]:
    """See `Engine.converse`; Ray is connected.

    Args:
        sent: the function, pickled.
        shards: see there.
        answer: see there.
        workers: see there.
        gpus: whether each worker has a GPU.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    mail = ray.remote(_Mail).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here).remote()
    compute = ray.remote(_compute).options(num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0, max_retries=DEATHS)
    function, rest = ray.put(sent), iter(shards)
    under_way: dict[Any, Any] = {}  # shards by their tasks
    asked = mail.next.remote()
    try:
        while True:
            free = (workers or int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1)) or 1) - len(under_way)
            for shard in itertools.islice(rest, max(0, free)):
                under_way[compute.remote(function, mail, cloudpickle.dumps(shard))] = shard
            if not under_way:
                return
            (ready,), _ = ray.wait([asked, *under_way], num_returns=1)
            if ready == asked:
                number, message = ray.get(asked)
                mail.reply.remote(number, cloudpickle.dumps(answer(cloudpickle.loads(message))))
                asked = mail.next.remote()
            else:
                yield under_way.pop(ready), _result(ready)
    finally:
        for task in under_way:
            ray.cancel(task, force=True)
        ray.kill(mail)


def _result(task: Any) -> Any:
    try:
        return cloudpickle.loads(ray.get(task))
    except RayError as error:
        return EngineError(f"its worker has died {DEATHS + 1} times: {one_line(error)}")


def _compute(function: bytes, mail: Any, shard: bytes) -> bytes:
    """What a worker does."""

    def ask(message: Any) -> Any:
        return cloudpickle.loads(ray.get(mail.ask.remote(cloudpickle.dumps(message))))

    result: bytes = cloudpickle.dumps(cloudpickle.loads(function)(cloudpickle.loads(shard), ask))
    return result


class _Mail:
    """Holds what workers ask until it is answered."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    async def ask(self, message: bytes) -> bytes:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._asked.put((number, message))
        return await self._waiting[number]

    async def next(self) -> tuple[int, bytes]:
        return await self._asked.get()

    async def reply(self, number: int, answer: bytes) -> None:
        self._waiting.pop(number).set_result(answer)
