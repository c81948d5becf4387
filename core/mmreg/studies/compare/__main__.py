"""One training of a grid as a process of its own: `python -m mmreg.studies.compare RECIPE RUN DEVICE`."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from mmreg.errors import MmregError
from mmreg.studies.compare.jobs import ERROR, train_one


def _end_with_parent() -> None:
    """Leave when whoever started this process is gone, however that came: its end of the pipe is then closed."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Train what the arguments name."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    recipe, folder, device = sys.argv[1:]
    try:
        train_one(Path(recipe), Path(folder), device)
    except MmregError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
