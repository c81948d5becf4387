"""The files that a recipe's components are built from: where they are, and what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmreg.contract.markers import AssetMark
from mmreg.registry.options import marked

WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How the names of files with weights end."""


def with_absolute_assets(cls: type, options: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Options with the paths of assets made absolute.

    A path is relative to the recipe's folder; one that leads nowhere from there, but somewhere from the working
    directory, is taken to be relative to that, as it was at first. A file of weights that is in neither is taken from
    the folder of weights at hand, if it has one of its name.

    Args:
        cls: whose options they are.
        options: those that are given.
        folder: the recipe's; the working directory if it is None.
    """
    paths = {}
    for name, mark in marked(cls, AssetMark).items():
        given = options.get(name)
        if isinstance(given, str):
            # os.path: what no file can be called is not there, rather than an error.
            spelled = os.path.expanduser(given) if mark.named else given  # noqa: PTH111
            path = (folder or Path()) / spelled
            elsewhere = os.path.exists(spelled) and not os.path.exists(path)  # noqa: PTH110
            if mark.named and not (elsewhere or _is_path(given, path)):
                continue
            found = (Path(spelled) if elsewhere else path).absolute()
            paths[name] = str(found if mark.copied else at_hand(found))
    return {**options, **paths}


def at_hand(path: Path) -> Path:
    """A path of weights; where nothing is, the file of its name in the folder of weights at hand, if there is one."""
    # os.path: as above
    if os.path.exists(path):  # noqa: PTH110
        return path
    other = folder_at_hand() / path.name
    return other if os.path.isfile(other) else path  # noqa: PTH113


def folder_at_hand() -> Path:
    """The folder of weights at hand."""
    from mmreg.pretrained import weights_folder  # torch comes with it: only for weights that are not in their place

    return weights_folder().absolute()


def _is_path(text: str, path: Path) -> bool:
    """Whether a text that may be a name is a path, which leads here from the recipe's folder; see `WeightsAsset`."""
    looks_so = text.lower().endswith(WEIGHTS_SUFFIXES) or text.startswith(("/", "./", "../", "~"))
    return looks_so or os.path.isabs(text) or os.path.exists(path)  # noqa: PTH110, PTH117 (see above)


def digest(path: str | Path) -> str | None:
    """What identifies the contents of a file, or of all files directly in a folder; None if there is neither."""
    try:
        facts = Path(path).stat()
        if Path(path).is_dir():
            names = sorted(each.name for each in Path(path).iterdir() if each.is_file())
            parts = [f"{name}\0{digest(Path(path) / name)}\0" for name in names]
            return hashlib.blake2b("".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    except (OSError, ValueError):
        return None
    return _digest(str(path), facts.st_size, facts.st_mtime_ns) if Path(path).is_file() else None


@lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:
    """The hash of a file; size and time of the last change keep a changed file from being taken for the former one."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
