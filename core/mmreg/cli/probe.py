"""Imports the large libraries and every component, and tries the devices; `mmreg doctor` runs it in a process apart.

Libraries that were built for each other's other versions may crash the process or never return. So each step is
announced before it is taken: a line of JSON on stdout with "begin", then one with what came of it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LIBRARIES = (
    "torch",
    "torchvision",
    "torchaudio",
    "torchtext",
    "torchmetrics",
    "soundfile",
    "tokenizers",
    "pyarrow",
    "safetensors",
)
"""What is imported, in this order; the names of the distributions are the same."""


def main() -> None:
    """Take every step, whatever becomes of the others."""
    from mmreg.cli.probe_together import try_together
    from mmreg.importing import stdout_to_stderr

    for name in LIBRARIES:
        _tell(begin=name)
        with stdout_to_stderr:
            found = _import(name)
        _tell(name=name, kind="library", **found)
    if "torch" in sys.modules:
        _tell(begin="the devices")
        for name in _devices():
            _tell(begin=name)
            with stdout_to_stderr:
                found = _try_device(name)
            _tell(name=name, kind="device", **found)
        _tell(begin="processes that train together")
        with stdout_to_stderr:
            found_together = list(try_together())
        for facts in found_together:
            _tell(kind="together", **facts)
        _tell(begin="the components")
        with stdout_to_stderr:
            broken = _broken_components()
        for name, error in broken.items():
            _tell(name=name, kind="component", error=error)
    _tell(begin="")


def _tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def _import(name: str) -> dict[str, Any]:
    from mmreg.messages import one_line

    started = time.perf_counter()
    try:
        importlib.import_module(name)
    except BaseException as error:  # a library that does not fit another one may raise anything
        return {"error": one_line(error)}
    return {"seconds": time.perf_counter() - started}


def _devices() -> list[str]:
    from mmreg.model.devices import available_devices

    return available_devices()


def _try_device(name: str) -> dict[str, Any]:
    """What a device is, and whether it computes: one may be listed for which torch has no code."""
    import torch

    from mmreg.messages import one_line
    from mmreg.model.devices import resolve_precision

    device = torch.device(name)
    found: dict[str, Any] = {"name": name, "cuda": torch.version.cuda}
    try:
        if hasattr(getattr(torch, device.type, None), "get_device_properties"):
            properties = getattr(torch, device.type).get_device_properties(device)
            found |= {"model": properties.name, "memory": getattr(properties, "total_memory", None)}
        ones = torch.ones(8, 8, device=device)
        (ones @ ones).sum().item()
        found["precision"] = str(resolve_precision("auto", device)).removeprefix("torch.")
        found["without_kernel"] = _without_kernel(device)
    except Exception as error:  # a driver may fail in any way
        found["error"] = one_line(error)
    return {key: value for key, value in found.items() if key != "name"}


def _without_kernel(device: torch.device) -> list[str]:
    """The recurrent layers that torch lacks in a reduced precision which a training may ask for on this device."""
    from mmreg.errors import DeviceError
    from mmreg.layers import has_recurrent_kernel
    from mmreg.model.devices import resolve_precision

    missing = []
    for precision in ("bfloat16", "float16"):
        with contextlib.suppress(DeviceError):
            dtype = resolve_precision(precision, device)
            lacks = [mode for mode in ("LSTM", "GRU", "RNN_TANH") if not has_recurrent_kernel(mode, device.type, dtype)]
            missing += [f"{mode} in {precision}" for mode in lacks]
    return missing


def _broken_components() -> dict[str, str]:
    """The components that cannot be imported, each with the reason."""
    from mmreg import registry
    from mmreg.errors import ComponentImportError

    broken = {}
    for entry in registry.specs():
        try:
            registry.load(entry)
        except ComponentImportError as error:
            broken[f"{entry.spec.kind}/{entry.reference}"] = str(error)
    return broken


if __name__ == "__main__":
    main()
