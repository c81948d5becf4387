"""What computes parts of a large work in other processes, of this machine or of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from mmreg.errors import EngineError


class Engine(ABC):
    """Computes shards of a work elsewhere: of a table to predict, of values to decode.

    An engine has to map. One that cannot converse or serve leaves these as they are: they refuse.

    Args:
        address: where: what follows the engine's name in `--on NAME:ADDRESS`; empty if nothing does.
    """

    @abstractmethod
    def __init__(self, address: str = "") -> None: ...

    @abstractmethod
    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], total: int, *, accelerator: bool = False
    ) -> Iterator[Any]:
        """The results of all shards, in their order, each once, whatever dies on the way.

        Args:
            function: computes one shard. A copy of it is sent to each worker once, and keeps what it has loaded there
                from shard to shard. What it raises is an error of its own, for which no shard is tried again. It can
                be pickled by cloudpickle, as shards and results can.
            shards: the shards; they are asked for one after the other.
            total: how many there are.
            accelerator: whether each worker is to have a GPU, where there are any.

        Raises:
            EngineError: the workers cannot be reached, or die over and over.
        """

    def converse(
        self,
        function: Callable[[Any, Callable[[Any], Any]], Any],
        shards: Iterable[Any],
        answer: Callable[[Any], Any],
        *,
        workers: int | None = None,
        accelerator: bool = False,
    ) -> Generator[tuple[Any, Any]]:
        """The results of shards of which each may depend on those before, and which ask this process on their way.

        Args:
            function: computes one shard. It gets the shard and a function `ask`: `ask(message)` gives, in the worker,
                what `answer(message)` gives here. If its worker dies, it is called again with the same shard. It can be
                pickled by cloudpickle, as shards, results, messages and answers can.
            shards: the shards; the next one is asked for when a worker is free, after the results so far were taken.
            answer: called in the thread that takes the results, while it waits for one. What it raises ends all.
            workers: how many shards are computed at a time; as many as there are CPUs, or GPUs, if it is None.
            accelerator: whether each worker is to have a GPU, where there are any.

        Yields:
            A shard and its result, as they come; in the place of the result an `EngineError` where the shard's workers
            have died over and over. When it is closed, what is still under way is ended.

        Raises:
            EngineError: the workers cannot be reached, or the engine does not do this.
        """
        raise EngineError(f"the engine {type(self).__name__} only maps: what computes shards cannot ask this process")

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
        """Answer HTTP requests by replicas of an application, while the context lasts.

        Args:
            build: makes the application (ASGI, with its lifespan), once in each replica. It can be pickled by
                cloudpickle.
            host: the address to listen at.
            port: the port.
            replicas: how many there are; one that dies is replaced.
            at_once: requests that a replica gets at a time.
            seconds: that what has been asked has to be answered in, when the context ends.
            accelerator: whether each replica is to have a GPU, where there are any.

        Returns:
            A context that begins when all replicas are there, and gives the URL that they are reached by.

        Raises:
            EngineError: the workers cannot be reached, an application cannot be made in them, or the engine does not
                do this.
        """
        raise EngineError(f"the engine {type(self).__name__} only maps: it serves nothing")
