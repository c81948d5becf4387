"""Random draws of steps that are recorded: who draws, and from which generators a recording draws in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from mmreg.model.seeding import Draws, derive


class WatchedDraws(Draws):
    """Draws that tell afterwards which components drew.

    Args:
        seed: as for `Draws`.
        device: where the step is computed.
        before: those of the batch before in the same step, whose last component is done once these begin.

    Attributes:
        drew_on_host: whether a component drew on the host while it computed elsewhere, which no recording repeats.
    """

    def __init__(self, seed: int, device: torch.device, before: WatchedDraws | None = None) -> None:
        super().__init__(seed)
        self._before = before
        self._default = _default_generator(device)
        self._sources: list[tuple[str, torch.Generator, Tensor]] = []
        self._drew: set[str] = set()
        self._last: tuple[str, Tensor, Tensor] | None = None
        self._is_host = device.type == "cpu"
        self.drew_on_host = False

    def generator(self, device: torch.device, name: str) -> torch.Generator:
        """See `Draws`."""
        self._begin()
        source = super().generator(device, name)
        self._sources.append((f"transform {name}", source, source.get_state()))
        return source

    def reseed(self, name: str) -> None:
        """See `Draws`."""
        self._begin()
        self._settle()
        super().reseed(name)
        self._last = (f"component {name}", self._default.get_state(), torch.default_generator.get_state())

    def drew(self) -> set[str]:
        """What drew: "transform NAME" of a modality, "component NAME" of an encoder or operator."""
        self._settle()
        return self._drew | {name for name, source, begin in self._sources if not _same(source, begin)}

    def _begin(self) -> None:
        if self._before is not None:
            self._before._settle()
            self._before = None

    def _settle(self) -> None:
        if self._last is not None:
            name, own, host = self._last
            if not _same(self._default, own):
                self._drew.add(name)
            self.drew_on_host |= not self._is_host and not _same(torch.default_generator, host)
            self._last = None


@dataclass
class OwnDraws(Draws):
    """Draws from generators of each component's own, which a recording reads anew in every replay.

    Attributes:
        device: where the generators are.
        names: who draws, as `WatchedDraws.drew` tells.
        generators: one for each of them.
    """

    device: torch.device
    names: Sequence[str]
    generators: dict[str, torch.Generator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generators = {name: torch.Generator(self.device) for name in self.names}
        self._unused = torch.Generator(self.device)  # for those who did not draw: none can be made while one records

    def begin(self, seed: int) -> None:
        """Seed them for a step."""
        for name, own in self.generators.items():
            own.manual_seed(derive(seed, name.partition(" ")[2]))

    def generator(self, device: torch.device, name: str) -> torch.Generator:
        """See `Draws`."""
        return self.generators.get(f"transform {name}", self._unused)

    def reseed(self, name: str) -> None:
        """See `Draws`."""
        own = self.generators.get(f"component {name}")
        if own is not None:
            default = _default_generator(self.device)
            if self.device.type == "cuda":
                default.graphsafe_set_state(own.graphsafe_get_state())
            else:
                default.set_state(own.get_state())


def _default_generator(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


@contextmanager
def default_generator_kept(device: torch.device) -> Iterator[None]:
    """A device's global random state as it was before, once the block has ended, a failed recording included."""
    default = _default_generator(device)
    if device.type == "cuda":
        # Numbers in a generator of its own: a recording that fails leaves those that it drew from in the midst of it.
        kept = torch.Generator(device)
        kept.set_state(default.get_state())
        restore = partial(default.graphsafe_set_state, kept)
    else:
        restore = partial(default.set_state, default.get_state())
    try:
        yield
    finally:
        restore()


def _same(generator: torch.Generator, state: Tensor) -> bool:
    return torch.equal(generator.get_state(), state)
