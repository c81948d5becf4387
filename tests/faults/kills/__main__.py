"""`python -m kills`: a training is killed again and again, goes on each time, and is compared with one that was not.

The environment says how: FAULTS_KILLS (200), FAULTS_TOGETHER (30, of one of two processes that train together),
FAULTS_SEED (0). The modules are imported once, and every training is a fork of this process; those by two processes are
commands.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_IO_THREADS"), "1")


def main() -> int:
    """Kill; 1 if a training that went on came to something else."""
    os.environ |= SINGLE  # before any import: what is forked must have no threads
    import torch._dynamo  # which the first step of an optimizer asks for
    import torch.optim.lr_scheduler
    from small import make_folder

    import mmreg.cli.display
    import mmreg.training.train  # noqa: F401
    from kills.series import Series, compare
    from kills.together import kill_together

    kills, together, seed = (
        int(os.environ.get(f"FAULTS_{name}") or value)
        for name, value in (("KILLS", 200), ("TOGETHER", 30), ("SEED", 0))
    )
    print(f"FAULTS_KILLS={kills} FAULTS_TOGETHER={together} FAULTS_SEED={seed}", flush=True)
    torch.set_num_threads(1)
    started = time.monotonic()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mmreg-faults-") as folder:
        if kills:
            series = Series(make_folder(Path(folder)), seed)
            whole = series.whole()
            number = 0
            while series.kills < kills:
                number += 1
                run = series.killed(f"run{number}", kills)
                if run is not None:
                    series.differences += [f"{run.name}: {text}" for text in compare(whole, run)]
            print(series.summary())
            print(f"{number} trainings, {series.kills} kills, {time.monotonic() - started:.0f} s", flush=True)
            problems += [*series.failures, *series.differences]
    if together:
        with tempfile.TemporaryDirectory(prefix="mmreg-faults-") as folder:
            problems += kill_together(make_folder(Path(folder)), together, seed)
    for text in problems:
        print(text, file=sys.stderr)
    print("NOT THE SAME" if problems else "all are the same bit for bit")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
