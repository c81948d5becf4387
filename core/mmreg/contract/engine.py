"""What computes parts of a large work in other processes, of this machine or of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Engine(ABC):
    """Computes shards of a work elsewhere: of a table to predict, of values to decode.

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
