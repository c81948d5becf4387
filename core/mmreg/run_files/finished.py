"""Whether a run's folder is that of a training that has ended, said by all who need one in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreg.errors import RunError
from mmreg.messages import one_line, to_type
from mmreg.run_files.facts import COMPONENTS, RECIPE, WEIGHTS, read_facts, run_file
from mmreg.run_files.figures import CONTINUED, REPORT, SPLITS, read_report
from mmreg.run_files.lock import writer


def finished_facts(folder: Path) -> dict[str, Any]:
    """What a run's folder says of its components, where the run can be used.

    Raises:
        RunError: the folder is no run, what it says is damaged, its training has not ended, or a file that every use
            needs is gone.
    """
    facts = read_facts(folder)
    if not run_file(folder, WEIGHTS).is_file():
        raise RunError(_unfinished(folder, facts))
    if not run_file(folder, RECIPE).is_file():
        raise RunError(f"the run {folder} cannot be loaded: its {RECIPE} is gone; put it back, or train again")
    return facts


def refuse_combination(folder: Path) -> None:
    """Refuse to go on with a training in a folder where runs were to be combined.

    Raises:
        RunError: there is such a combination that is not whole; says how it is made.
    """
    if run_file(folder, COMPONENTS).is_file() and not run_file(folder, WEIGHTS).is_file():
        facts = read_facts(folder)
        if _combined(facts):
            raise RunError(_unfinished(folder, facts))


def finished_report(folder: Path) -> dict[str, Any]:
    """What a run's training came to.

    Raises:
        RunError: its report is gone or damaged, without which a run can be used all the same.
    """
    try:
        report = read_report(folder)
    except (OSError, ValueError, RecursionError) as error:
        why = f"its {REPORT} is gone" if isinstance(error, FileNotFoundError) else f"{REPORT}: {one_line(error)}"
        raise RunError(unmeasured(folder, why)) from error
    if not isinstance(report, dict):
        raise RunError(unmeasured(folder, f"{REPORT} holds no figures by name"))
    for split in SPLITS:
        if split in report and not _is_measured(report[split]):
            raise RunError(unmeasured(folder, f"{REPORT} holds no figures under {split!r}"))
    return report


def refuse_going_on(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuse what a training has come to where it goes on since: weights and figures may differ in steps.

    Raises:
        RunError: it was, and has not ended.
    """
    if report.get(CONTINUED):
        raise RunError(
            f"the training of {folder} was gone on with, and has not ended; go on by --resume, or end it: "
            f"mmreg finish {to_type(folder)}"
        )


def _is_measured(figures: Any) -> bool:
    """Whether they have the form of what was measured on some rows."""
    return isinstance(figures, dict) and isinstance(figures.get("metrics"), dict) and "rows" in figures


def unmeasured(folder: Path, why: str) -> str:
    """What is said of a run whose figures cannot be read, for this reason."""
    return (
        f"what the training of {folder} measured cannot be read: {why}; the model itself is there, and "
        f"mmreg evaluate {to_type(folder)} measures it anew"
    )


def _combined(facts: dict[str, Any]) -> list[str]:
    """The folders of the runs of which a run is a combination; empty of one that was trained."""
    found: list[str] = facts.get("table", {}).get("fused", [])
    return found


def _unfinished(folder: Path, facts: dict[str, Any]) -> str:
    """Why a run has no weights, and what to do."""
    holder = writer(folder)
    if holder:
        return f"the training of {folder} has not ended: {holder} is at it; wait until it has"
    if combined := _combined(facts):
        begun = f"the combination of runs in {folder} is not whole; "
        own = all((folder / Path(each).name).is_dir() for each in combined)  # as those of --folds and --seeds are
        if own:
            return f"{begun}go on with the mmreg train that began it (with its --folds or --seeds), and --resume"
        given = f"{to_type(*combined)} --fusion OPERATOR --out {to_type(folder)} --overwrite"
        return f"{begun}combine them again: mmreg fuse {given}"
    what = "has lost its weights" if (folder / REPORT).is_file() else "did not end"
    return (
        f"the training of {folder} {what}; go on with: mmreg train RECIPE --out {to_type(folder)} --resume, "
        f"or make a run of its best weights so far: mmreg finish {to_type(folder)}"
    )
