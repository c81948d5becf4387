"""The check that a component moves between devices, as far as that can be seen on the machine at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmreg.testing.cases import Case, each_case, expect_same, used
from mmreg.testing.subject import Skipped, expect

MAY_MIX = ("_to_copy", "copy_", "index", "index_put", "_pack_padded_sequence", "detach")
"""Operations that take tensors of two devices on purpose."""

TOLERANCE = 1e-2
"""Between devices: a GPU multiplies matrices and convolves with fewer bits (TF32)."""


@each_case
def check_devices(case: Case) -> None:
    """It moves to a GPU and back with all that it computes with; without a GPU, no tensor stays behind."""
    module = used(case)
    batch = case.batch()
    expected = batch.run(module)
    if torch.cuda.is_available():
        module.cuda()
        found = batch.on("cuda").run(module)
        for name, values in found.rows.items():
            expect(values.is_cuda, f"{name} should be on the GPU, where module and batch are, found {values.device}")
        on_host = type(found)({name: values.cpu() for name, values in found.rows.items()})
        expect_same(on_host, expected, "on the GPU", TOLERANCE)
        expect_same(batch.run(module.cpu()), expected, "back on the CPU", 1e-5)
        return
    module.to("meta")
    try:
        with _NoMixing():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            batch.on("meta").run(module)
    except AssertionError:
        raise
    except Exception:
        raise Skipped("there is no CUDA device here, and it cannot be tried without one") from None
    raise Skipped("there is no CUDA device here; tried without one, no tensor stays behind")


class _NoMixing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """Refuses operations on tensors of several devices, as a GPU would; numbers without axes may come from the CPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        devices = {value.device.type for value in _tensors([*args, *(kwargs or {}).values()]) if value.dim()}
        expect(
            len(devices) < 2 or name in MAY_MIX,
            f"a tensor stayed on the CPU when the component was moved (seen in {name}); make it a parameter or a "
            "buffer, or create it on the device of the input",
        )
        return func(*args, **(kwargs or {}))


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
