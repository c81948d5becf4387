"""What is tried of moving between devices, as far as that can be seen on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmreg.testing.expectations import Skipped, Tensors, expect, expect_same

MAY_MIX = ("_to_copy", "copy_", "index", "index_put", "_pack_padded_sequence", "detach")
"""Operations that take tensors of two devices on purpose."""

TOLERANCE = 1e-2
"""Between devices: a GPU multiplies matrices and convolves with fewer bits (TF32)."""


def expect_to_move(compute: Callable[[str], Tensors]) -> None:
    """Raise an `AssertionError` unless a computation stays on a GPU, with the same results, and is the same afterwards.

    Args:
        compute: moves all that it needs to a device, such as "cuda", and gives what comes of it.

    Raises:
        Skipped: there is no GPU; it was tried with tensors without contents, which shows those that stay behind.
    """
    expected = compute("cpu")
    if torch.cuda.is_available():
        found = compute("cuda")
        for name, values in found.items():
            expect(values.is_cuda, f"{name} should be on the GPU, where the input is, found {values.device}")
        expect_same({name: values.cpu() for name, values in found.items()}, expected, "on the GPU", TOLERANCE)
        expect_same(compute("cpu"), expected, "back on the CPU", 1e-5)
        return
    try:
        with _NoMixing():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            found = compute("meta")
    except AssertionError:
        raise
    except Exception:
        raise Skipped("there is no CUDA device here, and it cannot be tried without one") from None
    for name, values in found.items():
        expect(values.is_meta, f"{name} should be on the device of the input, found it on the {values.device}")
    raise Skipped("there is no CUDA device here; tried without one, no tensor stays behind")


class _NoMixing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """Refuses operations on tensors of several devices, as a GPU would; numbers without axes may come from the CPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor) and value.dim()]
        expect(
            len({value.device.type for value in tensors}) < 2 or name in MAY_MIX,
            f"a tensor stayed on the CPU when the component was moved (seen in {name}); make it a parameter or a "
            "buffer, or create it on the device of the input",
        )
        return func(*args, **(kwargs or {}))
