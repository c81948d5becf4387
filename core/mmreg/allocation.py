"""Refuses what does not fit into this machine's memory before it is allocated, while a component is built.

An option that is a few digits too long asks for terabytes. The system grants more than it has and kills whoever uses
it, so no error that could be caught would ever say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mmreg.capacity import free_memory
from mmreg.errors import MemoryLimitError
from mmreg.messages import byte_size

LOOK = 1 << 26
"""Bytes that are granted before the memory is looked at again, which takes as long as a small layer."""

_CPU, _META = torch.device("cpu"), torch.device("meta")


class MemoryGuard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which no tensor is made on the CPU that is larger than the memory that is free.

    Every operation that makes a new tensor is first run on torch's `meta` device, where tensors have sizes and no
    memory. What cannot be run there is let pass.

    Args:
        what: who asks for the memory, as messages call it, such as "encoder image_cnn".

    Raises:
        MemoryLimitError: from within the context.
    """

    def __init__(self, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.what = what
        self._granted = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's question: True would import its compiler, for 1.5 s, with the first component that is built."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation of torch, if there is room for what it makes."""
        self._grant(_made(func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _grant(self, made: Sequence[Tensor]) -> None:
        self._granted += sum(tensor.numel() * tensor.itemsize for tensor in made)
        if self._granted < LOOK:
            return
        free = free_memory()
        if self._granted > free:
            largest = max(made, key=lambda tensor: tensor.numel() * tensor.itemsize)
            shape = " x ".join(f"{size:,}" for size in largest.shape)
            raise MemoryLimitError(
                f"{self.what} asks for {byte_size(self._granted)} of memory, for a tensor of {shape} numbers, but "
                f"{byte_size(free)} are free on this machine: lower the options that set its size"
            )
        self._granted = 0


def _made(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Tensors without memory of the sizes of those that an operation makes on the CPU."""
    makes, fixed = _nature(func)
    inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    device = kwargs.get("device") or _CPU
    if not makes or any(torch.device(each) != _CPU for each in (device, *(tensor.device for tensor in inputs))):
        return []
    try:
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(_META), (args, {**kwargs, **fixed}))
        return [each for each in tree_leaves(func(*args, **kwargs)) if isinstance(each, Tensor)]
    except Exception:  # an operation that the device does not have, or whose sizes depend on values
        return []


@cache
def _nature(func: Any) -> tuple[bool, dict[str, Any]]:
    """Whether an operation makes new tensors, and the keywords by which it makes them on the `meta` device."""
    schema = func._schema
    makes = any(result.alias_info is None and "Tensor" in str(result.type) for result in schema.returns)
    meta = {"device": _META, "generator": None, "pin_memory": None}
    names = {argument.name for argument in schema.arguments}
    return makes, {name: value for name, value in meta.items() if name in names}
