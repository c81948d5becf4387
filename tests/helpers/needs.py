"""What a file of tests needs: `pytest.importorskip` without the import, which all processes that collect tests pay."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(package: str, extra: str | None = None) -> None:
    """Skip the file that calls it where a package is not installed."""
    if find_spec(package) is None:
        reason = f"needs {package}" + (f": pip install 'mmreg[{extra}]'" if extra else "")
        pytest.skip(reason, allow_module_level=True)
