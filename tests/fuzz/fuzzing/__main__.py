"""`python -m fuzzing`: all kinds of input, or one that failed; see CONTRIBUTING.md.

The environment says how: FUZZ_SEED (0), FUZZ_CASES (10000), FUZZ_KINDS (all; names apart by commas, each may be the
begin of several), FUZZ_JOBS (one a processor), FUZZ_FINDINGS (the folder for inputs that fail), FUZZ_AGAIN (one of
these inputs, to be run again). The same seed gives the same cases, but for files that hold times.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_IO_THREADS"), "1")
MEMORY = {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}  # reserve no address space, which is limited
ENVIRONMENT = {**SINGLE, **MEMORY, "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0", "MMREG_DEBUG": "", "TERM": "dumb"}


def main() -> int:
    """Run the cases; 1 if one failed."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, "-m", "fuzzing"], {**os.environ, **ENVIRONMENT})  # before any import
    settings = os.environ
    findings = Path(settings.get("FUZZ_FINDINGS") or "fuzz-findings").absolute()
    again = settings.get("FUZZ_AGAIN") and Path(settings["FUZZ_AGAIN"]).absolute()
    with tempfile.TemporaryDirectory(prefix="mmreg-fuzz-") as folder:
        os.chdir(folder)
        os.environ["MMREG_CACHE_DIR"] = "cache"
        return _again(again, Path(folder)) if again else _all(findings, Path(folder))


def _all(findings: Path, folder: Path) -> int:
    from fuzzing.cases import planned
    from fuzzing.ground import prepare
    from fuzzing.kinds import KINDS
    from fuzzing.report import Report
    from fuzzing.workers import Workers, batches

    settings, started = os.environ, time.monotonic()
    seed, total = int(settings.get("FUZZ_SEED") or 0), int(settings.get("FUZZ_CASES") or 10_000)
    jobs = int(settings.get("FUZZ_JOBS") or os.cpu_count() or 1)
    begins = tuple((settings.get("FUZZ_KINDS") or "").split(","))
    chosen = [kind for kind in KINDS if kind.name.startswith(begins)]
    print(f"FUZZ_SEED={seed} FUZZ_CASES={total}", flush=True)
    workers = Workers({kind.name: kind for kind in chosen}, prepare(folder / "ground"), seed, jobs)
    report = Report(findings, seed)
    for case, verdict in workers.run(batches(planned(chosen, total))):
        report.add(case, verdict)
    print(report.table())
    print(f"{time.monotonic() - started:.0f} s with {jobs} processes")
    if report.failed:
        problems = report.problems().encode("utf-8", "backslashreplace").decode()
        print(f"\n{report.failed} failures:\n{problems}\nOne of them again: make fuzz FUZZ_AGAIN=PATH.json")
    return int(report.failed > 0)


def _again(path: Path, folder: Path) -> int:
    from fuzzing.ground import prepare
    from fuzzing.kinds import KINDS
    from fuzzing.report import kept
    from fuzzing.workers import Batch, Workers

    case = kept(path)
    workers = Workers({kind.name: kind for kind in KINDS}, prepare(folder / "ground"), 0, 1)
    ((_, verdict),) = workers.run(iter([Batch(case.kind, range(1), case)]))
    print(f"{case.name} ({case.original}): {verdict.outcome}, {verdict.seconds} s, {verdict.bytes:,} bytes")
    print(verdict.detail.encode("utf-8", "backslashreplace").decode())
    return int(verdict.outcome == "failed")


if __name__ == "__main__":
    sys.exit(main())
