"""What a case is, what came of it, and what a kind of input has to bring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

SECONDS = 10
"""Processor time that a case may take."""
BYTES = 2 << 30
"""Memory that a case may take beyond what the process held before."""
BLOCK = 50
"""Cases that are made together, and run one after the other in a process of their own."""
CANARY = "fuzz-canary"
"""A file that harmful input makes in the working directory, if what it says is ever run."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: what it is put in the place of.
        number: among the cases of its kind.
        original: the file or text that it was made from; "" if from none.
        data: the bytes.
        exact: whether a result has to be the original's: damage to it must be noticed.
    """

    kind: str
    number: int
    original: str
    data: bytes
    exact: bool = False

    @property
    def name(self) -> str:
        """What a file with it is called."""
        return f"{self.kind}-{self.number}"


class Verdict(NamedTuple):
    """What came of a case.

    Attributes:
        outcome: "refused", "accepted", or "failed".
        detail: what was said, or what went wrong.
        compared: whether the result was compared with the original's.
        seconds: the processor time it took.
        bytes: the peak memory, beyond what was there before.
    """

    outcome: str
    detail: str = ""
    compared: bool = False
    seconds: float = 0.0
    bytes: int = 0


class Kind(ABC):
    """A kind of input: how it is made, and what is done with it.

    Attributes:
        name: what it is called.
        share: how many of a thousand cases are of this kind.
    """

    name: str
    share: int

    def ready(self) -> None:
        """Do what every process would have to do, once before it is forked; most kinds have nothing of the sort."""
        return

    @abstractmethod
    def cases(self, numbers: range, seed: int) -> Iterator[Case]:
        """The cases with these numbers, a part of a block; the same each time."""

    @abstractmethod
    def act(self, case: Case, folder: Path) -> str | None:
        """Use a case in a folder of this process alone, which is left as it was.

        Returns:
            Of an exact case the result, to be compared with that of the original; None where nothing can be compared.

        Raises:
            MmregError: it is refused.
            Refused: a command refuses it.
        """

    def references(self, folder: Path) -> dict[str, str]:
        """What the originals of exact cases give, by their names; most kinds have none."""
        return {}

    def random(self, number: int, seed: int) -> Random:
        """The draws of one case."""
        return Random(f"{seed}/{self.name}/{number}")


class Refused(Exception):
    """A command left with an exit code and a message, as it has to."""


class Failed(Exception):
    """What must not happen."""


def planned(kinds: Sequence[Kind], total: int) -> dict[str, int]:
    """How many cases of each kind, by its share, at least one."""
    shares = sum(kind.share for kind in kinds)
    return {kind.name: max(1, -(-total * kind.share // shares)) for kind in kinds}
