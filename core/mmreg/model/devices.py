"""Which device and precision to compute in, and repeatable arithmetic."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from mmreg.errors import DeviceError


def available_devices() -> list[str]:
    """The devices of this machine by name, the best one first."""
    names = []
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        names = [f"{kind.type}:{index}" for index in range(torch.accelerator.device_count())]
    return [*names, "cpu"]


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """A device by name, such as "cpu", "cuda" or "cuda:1"; None or "auto" for the best one there is.

    Raises:
        DeviceError: there is no such device here.
    """
    there = available_devices()
    if name is None or str(name) == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{str(name)!r} is no device; here there are {', '.join(there)}") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if f"{device.type}:{device.index or 0}" not in there:
        raise DeviceError(f"this machine has no device {str(name)!r}; it has {', '.join(there)}")
    return torch.device(device.type, device.index or 0)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the forward pass: "float32", "bfloat16" or "float16"; "auto" for the best one on this device.

    Raises:
        DeviceError: the device does not compute in it.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if name == "float16" and device.type == "cpu":
        raise DeviceError("precision float16 needs an accelerator; on the CPU use bfloat16 or float32")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context in which the forward pass computes in this dtype."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextmanager
def tuned(device: torch.device, dtype: torch.dtype, *, deterministic: bool) -> Iterator[None]:
    """A context in which a GPU computes as fast as the precision allows; restores what it changes.

    Convolutions try several algorithms for each shape, unless every run has to choose the same one, and where the
    forward pass has reduced precision, matrices that are still in float32 are multiplied as TF32.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = not deterministic
    if dtype != torch.float32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


_LOCK = threading.Lock()
_computing: list[tuple[int, bool]] = []
"""The threads that compute in `deterministic`, and whether each wants it."""
_settings: list[tuple[bool, bool]] = []
"""Torch's settings from before the first that wants it; empty while none does."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """A context in which a repeated computation gives the same bits, if wanted; restores what it changes.

    Raises:
        DeviceError: another thread computes in the other way; torch has one setting for all.
    """
    own = (threading.get_ident(), wanted)
    with _LOCK:
        if any(thread != own[0] and other != wanted for thread, other in _computing):
            raise DeviceError(
                f"training.deterministic is {str(wanted).lower()} here, and the opposite in a training that another "
                "thread of this process runs; train one after the other, or in processes of their own"
            )
        _computing.append(own)
        if wanted and not _settings:
            _settings.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; cuBLAS asks for it
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        with _LOCK:
            _computing.remove(own)
            if _settings and not any(wants for _, wants in _computing):
                algorithms, torch.backends.cudnn.benchmark = _settings.pop()
                torch.use_deterministic_algorithms(algorithms)
