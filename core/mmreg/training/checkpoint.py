"""A training's state in a file: written whole or not at all, and read without running anything it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmreg.errors import RunError
from mmreg.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain data; a kill leaves the previous checkpoint as it was.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own, raised while it closes what it could not write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, into host memory.

    Raises:
        RunError: the file is damaged or holds more than tensors and plain data.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"the checkpoint {path} cannot be read ({error}); train anew with --overwrite") from error
    return state
