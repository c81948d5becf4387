"""Makes reports as files: of one run, or of several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmreg.errors import RunError
from mmreg.files import irregular, unwritable, write_text
from mmreg_report.comparison import comparison_page
from mmreg_report.folder import folder_page, is_run
from mmreg_report.one_run import run_page
from mmreg_report.page import START
from mmreg_report.subject import loaded

PAGE = "report.html"


def write_report(
    runs: Sequence[Path], out: Path | None = None, device: str | None = None, *, rows: bool = True
) -> Path:
    """Write the report of a run, of a comparison or a search, or the comparison of several runs.

    Args:
        runs: their folders; or the one of `mmreg compare` or `mmreg tune`.
        out: the file; if not given, `report.html` in the run's folder, or of several in the working directory.
        device: where to compute.
        rows: whether to look for the table, for the rows' inputs and what each modality contributes.

    Returns:
        The file.

    Raises:
        RunError: one is no run, or its training has not ended; or the file cannot be written there.
    """
    path = out or (runs[0] / PAGE if len(runs) == 1 else Path(PAGE))
    check_writable(path)
    if path.is_file() and not _holds_page(path):
        raise RunError(f"{path} is there and is no page: it is left as it is; name another file by --out")
    if len(runs) == 1 and not is_run(runs[0]):
        write_text(path, folder_page(runs[0]))
        return path
    subjects = [loaded(run, device, rows=rows and len(runs) == 1) for run in runs]
    write_text(path, run_page(subjects[0]) if len(subjects) == 1 else comparison_page(subjects))
    return path


def check_writable(path: Path) -> None:
    """Make sure that a file can be written, before anything is computed.

    Raises:
        RunError: it cannot.
    """
    if reason := unwritable(path):
        raise RunError(f"{path} cannot be written: {reason}; name another file by --out")
    if what := irregular(path):
        raise RunError(f"{path} is {what}; name a file by --out")


def _holds_page(path: Path) -> bool:
    """Whether a file is a page, or empty: what holds anything else is not replaced."""
    with path.open("rb") as file:
        start = file.read(len(START))
    return start.upper() in (b"", START.upper().encode())
