"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside a file, which replaces the file if the block succeeds and vanishes otherwise.

    Raises:
        OSError: it cannot be written; names the file, which a full disk's error does not by itself.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 (atomic on every platform)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path) -> str | None:
    """Why a file or folder cannot be made here, as far as that can be told without making it; None if it can."""
    for place in path.absolute().parents:
        if place.is_dir():
            return None if os.access(place, os.W_OK | os.X_OK) else f"the folder {place} cannot be written to"
        if place.exists():
            return f"{place} is a file, not a folder"
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
