"""fsspec's file system of a scheme, with the settings that are safe for addresses out of a table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmreg_remote.web import web_options

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp"}
"""What fsspec needs for a scheme, where that is not fsspec itself."""


def file_system(scheme: str, allowed: Sequence[str]) -> AbstractFileSystem | str:
    """The file system of a scheme, or what has to be installed for it.

    Args:
        scheme: in lower case.
        allowed: where redirects may lead to.
    """
    try:
        import fsspec
    except ImportError:
        return _missing("fsspec", 'pip install "mmreg[remote]"')
    options: dict[str, Any] = {}
    try:
        if scheme in ("http", "https"):
            options = web_options(tuple(allowed))
        elif scheme == "gs":
            logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # else it shows tracebacks beside what it raises
        return fsspec.filesystem(scheme, **options)
    except ImportError:
        package = PACKAGES.get(scheme, "fsspec")
        extra = {"aiohttp": 'pip install "mmreg[remote]"', "s3fs": 'pip install "mmreg[s3]"'}.get(
            package, f"pip install {package}"
        )
        return _missing(package, extra)


def _missing(package: str, command: str) -> str:
    return f"the package {package!r} is needed to fetch it, and is not installed: {command}"
