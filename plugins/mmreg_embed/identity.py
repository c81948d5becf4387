"""What tells one run from another, so that vectors of two runs are not compared."""

from __future__ import annotations

import json
from pathlib import Path

from mmreg.errors import RunError


def identity(folder: Path) -> str:
    """The checksum of a run's facts: of its recipe, its components' states and its table.

    Raises:
        RunError: it cannot be read.
    """
    path = folder / "components.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("checksum", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
