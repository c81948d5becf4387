"""Engines for tests: one that computes here what it would send, and what disturbs the workers of another."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmreg import Engine
from mmreg.errors import EngineError


class DiedError(BaseException):
    """Stands for the death of a worker."""


class HereEngine(Engine):
    """Computes in this process, in another working folder, with copies of all that would be sent.

    Attributes:
        computed: how many shards were.
        stop_after: after how many Ctrl-C comes; None for never.
        deaths: with which answer, from 0, each worker dies that converses, one after the other; those after them live.
    """

    def __init__(self, address: str = "", stop_after: int | None = None, deaths: Sequence[int] = ()) -> None:
        self.address, self.computed, self.stop_after, self.deaths = address, 0, stop_after, list(deaths)

    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], total: int, *, accelerator: bool = False
    ) -> Iterator[Any]:
        """See `Engine.map`."""
        worker = pickle.loads(pickle.dumps(function))
        here = Path.cwd()
        for shard in shards:
            if self.computed == self.stop_after:
                raise KeyboardInterrupt
            sent = pickle.dumps(shard)
            os.chdir("/")
            try:
                result = pickle.dumps(worker(pickle.loads(sent)))
            finally:
                os.chdir(here)
            self.computed += 1
            yield pickle.loads(result)

    def converse(
        self,
        function: Callable[[Any, Callable[[Any], Any]], Any],
        shards: Iterable[Any],
        answer: Callable[[Any], Any],
        *,
        workers: int | None = None,
        accelerator: bool = False,
    ) -> Generator[tuple[Any, Any]]:
        """See `Engine.converse`; a shard is tried twice."""
        here = Path.cwd()
        for shard in shards:
            result: Any = EngineError("its worker has died 2 times")
            for _ in range(2):
                asked, left = itertools.count(), self.deaths.pop(0) if self.deaths else None

                def ask(message: Any, asked: Iterator[int] = asked, left: int | None = left) -> Any:
                    answered = pickle.loads(pickle.dumps(answer(pickle.loads(pickle.dumps(message)))))
                    if next(asked) == left:
                        raise DiedError
                    return answered

                os.chdir("/")
                try:
                    worker = pickle.loads(pickle.dumps(function))
                    result = pickle.loads(pickle.dumps(worker(pickle.loads(pickle.dumps(shard)), ask)))
                    break
                except DiedError:
                    continue
                finally:
                    os.chdir(here)
            self.computed += 1
            yield shard, result


class KillsOnce:
    """A function that kills its process at its second shard, once among all processes; it notes who computed.

    Args:
        function: the function.
        folder: where it is noted.
    """

    def __init__(self, function: Callable[[Any], Any], folder: Path) -> None:
        self._function, self._folder, self._done = function, folder, 0

    def __call__(self, shard: Any) -> Any:
        import ray

        killed = self._folder / "killed"
        if self._done == 1 and not killed.exists():
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        self._done += 1
        (self._folder / f"node-{ray.get_runtime_context().get_node_id()}").touch()
        return self._function(shard)


class DiesAsking:
    """A function that kills its process at its fourth question, once among all processes; it notes who computed.

    Args:
        function: the function, which asks.
        folder: where it is noted.
    """

    def __init__(self, function: Callable[[Any, Any], Any], folder: Path) -> None:
        self._function, self._folder = function, folder

    def __call__(self, shard: Any, ask: Callable[[Any], Any]) -> Any:
        import ray

        asked = itertools.count(1)

        def asks(message: Any) -> Any:
            killed = self._folder / "killed"
            if next(asked) == 4 and not killed.exists():
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return ask(message)

        (self._folder / f"node-{ray.get_runtime_context().get_node_id()}").touch()
        return self._function(shard, asks)


class NotesBuilding:
    """What makes an application, and notes by which process.

    Args:
        build: makes it.
        folder: where it is noted: a file for each process, with a line for each time.
    """

    def __init__(self, build: Callable[[], Any], folder: Path) -> None:
        self._build, self._folder = build, folder

    def __call__(self) -> Any:
        made = self._build()
        with (self._folder / str(os.getpid())).open("a") as file:
            file.write("built\n")
        return made
