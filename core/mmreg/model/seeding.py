"""Random numbers keyed by what they are for, so that no draw depends on how many others came before it.

Layers such as dropout draw from torch's global state, which all threads of a process share. Whoever seeds it holds
`GLOBAL_DRAWS` until it has drawn, so that trainings in several threads give what they give alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmreg.layers import GLOBAL_DRAWS


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as ("augment", epoch, step, "image"), from a run's seed."""
    text = "\0".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(device: torch.device | str, seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on a device for one purpose."""
    return torch.Generator(device).manual_seed(derive(seed, *purpose))


def reseed(seed: int, *purpose: str | int) -> None:
    """Set torch's global random state, on the CPU and on the devices in use, for one purpose.

    Unlike `torch.manual_seed` it leaves a device alone that is not in use: that call would queue a seed for the
    device's start, with a stack trace each time, which takes longer than a small step and never ends in memory.
    """
    number = derive(seed, *purpose)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


class Draws:
    """The random draws of one pass over a batch, keyed by the component that makes them.

    Args:
        seed: of the pass.
        process: which of several that train together draws for its own rows, from 0.
    """

    _own: tuple[int, ...] = ()

    def __init__(self, seed: int, process: int = 0) -> None:
        self.seed = seed
        if process:
            self._own = (process,)

    def generator(self, device: torch.device, name: str) -> torch.Generator:
        """What a modality's `transform` draws from."""
        return generator(device, self.seed, name, *self._own)

    def reseed(self, name: str) -> None:
        """Let torch's global random state be that of the component whose turn it is."""
        reseed(self.seed, name, *self._own)

    def of_all(self) -> Draws:
        """Those that are the same in all processes."""
        return Draws(self.seed) if self._own else self


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Torch's global random state on the CPU set for one purpose, and put back afterwards."""
    with GLOBAL_DRAWS, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *purpose))
        yield


_kept: dict[torch.device, tuple[int, Tensor]] = {}
"""By device how many keep its random state at present, and the state from before the first of them."""


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Torch's global random state, on the CPU and on this device, as it was before once the block has ended.

    Where several threads are in such blocks, it is that from before the first of them, once the last one has ended.
    """
    devices = [torch.device("cpu"), *([device] if device.type == "cuda" else [])]
    with GLOBAL_DRAWS:
        for each in devices:
            count, state = _kept.get(each) or (0, _random_state(each))
            _kept[each] = count + 1, state
    try:
        yield
    finally:
        with GLOBAL_DRAWS:
            for each in devices:
                count, state = _kept.pop(each)
                if count > 1:
                    _kept[each] = count - 1, state
                elif each.type == "cuda":
                    torch.cuda.set_rng_state(state, each)
                else:
                    torch.set_rng_state(state)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
