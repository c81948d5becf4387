"""Weights in a file, with a checksum of what they are: a damaged file is refused."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmreg.errors import RunError
from mmreg.files import keep_under, replacing
from mmreg.messages import one_line

CHECKSUM = "checksum"
"""The key of the checksum in the file's own metadata."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, tells what the system said."""


def write_weights(path: Path, state: Mapping[str, Tensor], earlier: Path | None = None) -> str:
    """Write weights as safetensors, whole or not at all.

    Args:
        path: the file.
        state: the weights by name.
        earlier: where the file goes that was there before; None to replace it.

    Returns:
        The checksum that the file holds.

    Raises:
        OSError: they cannot be written, as on a full disk.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    checksum = weights_checksum(plain)
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files that nobody else can read
        try:
            save_file(plain, temporary, {CHECKSUM: checksum})
        except SafetensorError as error:
            code = _OS_ERROR.search(str(error))
            if code is None:
                raise OSError(f"{path} cannot be written: {error}") from error
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
        temporary.chmod(mode)
        if earlier is not None and path.is_file():
            keep_under(path, earlier)
    return checksum


def told_checksum(path: Path) -> str:
    """The checksum that a file of weights holds; empty where there is none, or no such file."""
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get(CHECKSUM, ""))
    except (OSError, SafetensorError):
        return ""


def read_weights(path: Path, remedy: str = "train again") -> dict[str, Tensor]:
    """What `write_weights` wrote, in host memory.

    Args:
        path: the file.
        remedy: what to do where it is damaged.

    Raises:
        RunError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except MemoryError:
        raise  # it says nothing of the file
    except Exception as error:  # safetensors raises several kinds
        raise RunError(f"the weights {path} are damaged: {one_line(error)}; {remedy}") from error
    if metadata.get(CHECKSUM, "") not in ("", weights_checksum(state)):  # mmreg 0.1.0 wrote none
        raise RunError(f"the weights {path} are damaged: they do not fit their checksum; {remedy}")
    return state


def weights_checksum(state: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and values of tensors in host memory, in hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
