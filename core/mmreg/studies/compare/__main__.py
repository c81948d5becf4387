"""Trainings of a grid in processes of their own: one, `python -m mmreg.studies.compare RECIPE RUN DEVICE`, or several.

Without arguments, each line of stdin names one in JSON. A fork of this process trains it, so that all of them share the
imports, which take longer than a small training. On stdout stand its process's number and, at its end, its exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from mmreg.errors import MmregError
from mmreg.studies.compare.jobs import ERROR, train_one


def main() -> None:
    """Train what the arguments or the lines of stdin name."""
    if sys.argv[1:]:
        _train(*sys.argv[1:])
        return
    _import()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    for line in sys.stdin:
        recipe, folder, device, log = json.loads(line)
        if not (trained := os.fork()):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            written = os.open(log, os.O_WRONLY | os.O_APPEND)
            os.dup2(written, 1)
            os.dup2(written, 2)
            _train(recipe, folder, device)
            return
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
            os.write(1, b"%d\n" % trained)
            os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(trained, 0)[1]))


def _import() -> None:
    """Import what most trainings come to: torch's compiler for its optimizers, what reads tables and draws curves."""
    import torch._dynamo  # noqa: F401

    with contextlib.suppress(ImportError):
        import pandas  # noqa: F401
    with contextlib.suppress(ImportError):
        import matplotlib.figure  # noqa: F401


def _train(recipe: str, folder: str, device: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train_one(Path(recipe), Path(folder), device)
    except MmregError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _end_with_parent() -> None:
    """Leave when whoever started this process is gone, however that came: its end of the pipe is then closed."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
