"""What a run's folder says of its components; which files there are, and that nothing in it is a link."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreg.errors import RunError
from mmreg.files import irregular
from mmreg.messages import listed, near

RECIPE = "recipe.yaml"
COMPONENTS = "components.json"
WEIGHTS = "model.safetensors"
CHECKSUM = "checksum"
"""The key in the facts of what all the others hash to."""
FORMAT = 1
"""The version of the folder's layout."""


def is_run(folder: Path) -> bool:
    """Whether a folder was written by a training."""
    return (folder / COMPONENTS).is_file() and (folder / RECIPE).is_file()


def run_file(folder: Path, name: str) -> Path:
    """The path of a file of a run, whether it is there or not, for reading.

    Raises:
        RunError: it is no file, or a link, or in a linked folder: a run's own files never are, and what a link leads to
            is not the run's.
    """
    path = folder / name
    for place in (path, *path.parents[: len(Path(name).parts) - 1]):
        if place.is_symlink():
            raise RunError(f"{place} is a symbolic link, which nothing in a run's folder is; put what it names there")
    what = irregular(path)
    if what:
        raise RunError(f"{path} is {what}, where a run has a file")
    return path


def read_facts(folder: Path) -> dict[str, Any]:
    """What a run folder says of its components.

    Raises:
        RunError: it is no run folder, or of another format.
    """
    if not folder.is_dir():
        beside = sorted(p.name for p in folder.parent.iterdir() if is_run(p)) if folder.parent.is_dir() else []
        there = near(folder.name, beside) + (f"; there are {listed(beside)}" if beside else "")
        raise RunError(f"there is no run folder {str(folder)!r}{there}")
    try:
        facts: dict[str, Any] = json.loads(run_file(folder, COMPONENTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{str(folder)!r} is no run folder: it has no {COMPONENTS}") from error
    except RunError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{folder / COMPONENTS} is damaged: {error}") from error
    if not isinstance(facts, dict) or "format" not in facts:
        raise RunError(f"{folder / COMPONENTS} is damaged: it holds no mapping with a format")
    checksum = facts.pop(CHECKSUM, None)  # mmreg 0.1.0 wrote none
    if checksum is not None and checksum != facts_checksum(facts):
        raise RunError(f"{folder / COMPONENTS} is damaged, or was edited: it does not fit its checksum; train again")
    if facts["format"] != FORMAT:
        raise RunError(f"{str(folder)!r} is a run of format {facts['format']!r}, this mmreg reads format {FORMAT}")
    return facts


def facts_checksum(facts: Mapping[str, Any]) -> str:
    """What all of a run's facts hash to."""
    return text_hash(json.dumps(facts, sort_keys=True))


def text_hash(text: str) -> str:
    """A hash of a text, in hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
