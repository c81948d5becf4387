"""The checks that a component moves between devices, as far as that can be seen on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmreg.testing import modality as modalities
from mmreg.testing import task as tasks
from mmreg.testing.cases import Case, Outcome, each_case, expect_same, used
from mmreg.testing.subject import Skipped, Subject, check, expect
from mmreg.testing.values import values_of

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
    if not torch.cuda.is_available():
        module.to("meta")
        _try_without_a_gpu(lambda: batch.on("meta").run(module))
    module.cuda()
    _expect_same_on_the_gpu(batch.on("cuda").run(module), expected)
    expect_same(batch.run(module.cpu()), expected, "back on the CPU", 1e-5)


@check
def check_transform_devices(subject: Subject) -> None:
    """On a GPU, where training transforms, a batch stays there and becomes the same; without one, nothing is mixed."""
    modality, arrays = modalities.fitted(subject, values_of(subject))
    batch = modalities.gathered(modality, arrays)

    def transformed(device: str, generator: torch.Generator | None = None) -> Outcome:
        signal = modality.transform(batch.to(device), training=generator is not None, generator=generator)
        return modalities.outcome(signal)

    expected = transformed("cpu")
    if not torch.cuda.is_available():
        _try_without_a_gpu(lambda: transformed("meta"))
    _expect_same_on_the_gpu(transformed("cuda"), expected)
    for name, values in transformed("cuda", torch.Generator("cuda").manual_seed(0)).rows.items():
        expect(values.is_cuda, f"in training, {name} should be on the GPU, where the batch is, found {values.device}")


@check
def check_task_devices(subject: Subject) -> None:
    """On a GPU, where the model is, scores and losses stay there and are the same; without one, nothing is mixed."""
    task, _, encoded = tasks.fitted(subject)
    logits = torch.randn(len(encoded), task.num_outputs, generator=torch.Generator().manual_seed(0))
    targets = torch.from_numpy(np.asarray(encoded))

    def computed(device: str) -> Outcome:
        on_device = logits.to(device)
        return Outcome({"scores": task.scores(on_device), "the loss": task.loss(on_device, targets.to(device))})

    expected = computed("cpu")
    if not torch.cuda.is_available():
        _try_without_a_gpu(lambda: computed("meta"))
    _expect_same_on_the_gpu(computed("cuda"), expected)


def _expect_same_on_the_gpu(found: Outcome, expected: Outcome) -> None:
    for name, values in found.rows.items():
        expect(values.is_cuda, f"{name} should be on the GPU, where the input is, found {values.device}")
    on_host = Outcome({name: values.cpu() for name, values in found.rows.items()})
    expect_same(on_host, expected, "on the GPU", TOLERANCE)


def _try_without_a_gpu(run: Callable[[], Outcome]) -> NoReturn:
    """Run a component on the device of tensors without contents, which shows those that stay on the CPU.

    Raises:
        Skipped: with what could be seen.
    """
    try:
        with _NoMixing():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            found = run()
    except AssertionError:
        raise
    except Exception:
        raise Skipped("there is no CUDA device here, and it cannot be tried without one") from None
    for name, values in found.rows.items():
        expect(values.is_meta, f"{name} should be on the device of the input, found it on the {values.device}")
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
