"""Engines for tests: one that computes here what it would send, and what disturbs the workers of another."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmreg import Engine


class HereEngine(Engine):
    """Computes in this process, in another working folder, with copies of all that would be sent.

    Attributes:
        computed: how many shards were.
        stop_after: after how many Ctrl-C comes; None for never.
    """

    def __init__(self, address: str = "", stop_after: int | None = None) -> None:
        self.address, self.computed, self.stop_after = address, 0, stop_after

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
