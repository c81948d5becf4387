"""Removing a run's folder: that and nothing else, whatever its name leads to and whatever was put into it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmreg.errors import RunError
from mmreg.messages import listed, shown
from mmreg.run_files.facts import COMPONENTS, RECIPE, WEIGHTS, is_run
from mmreg.run_files.figures import REPORT, TIMINGS
from mmreg.run_files.lock import LOCK, writer, writing

OWN_FILES = {
    *(LOCK, COMPONENTS, RECIPE, WEIGHTS, REPORT, TIMINGS, "metrics.csv", "usage.json"),
    *("report.md", "report.html", "curves.png", "statistics.csv", "README.md"),  # of bundled plugins
}
OWN_FOLDERS = {
    "predictions": r".+\.parquet",
    "checkpoints": r".+\.(pt|safetensors)",
    "assets": r"[0-9a-f]{8}-.+",
    "profile": r".+",
    "tensorboard": r"events\..+",
}
"""What trainings put into a run's folder, and into folders in it."""
OF_MEMBERS = re.compile(r"(fold|seed)-\d+\.(yaml|log)")
"""Beside the runs that a cross-validation, or one run of several seeds, is made of."""
UNFINISHED = re.compile(r"\..+\.[0-9a-f]+\.tmp")


def check_removable(folder: Path, *, others: bool = False) -> None:
    """Make sure that a folder is a run's which can go.

    Args:
        folder: the folder.
        others: whether what is in it that no training writes may go as well.

    Raises:
        RunError: it is no run's, or a link, or is written to, or holds the working directory or something else.
    """
    if folder.is_symlink():
        raise RunError(f"{shown(str(folder))} is a symbolic link; name the run's own folder")
    if not folder.is_dir() or not is_run(folder) or _links(folder, (COMPONENTS, RECIPE)):
        raise RunError(
            f"{shown(str(folder))} is no run: it lacks a {COMPONENTS} and a {RECIPE} of its own; nothing is removed"
        )
    place = folder.resolve()
    for kept, what in ((Path.cwd(), "the working directory"), (Path.home(), "your home folder")):
        if kept.resolve().is_relative_to(place):
            raise RunError(f"{shown(str(folder))} holds {what}; nothing is removed")
    for run in (folder, *_members(folder)):
        if holder := writer(run):
            raise RunError(f"{shown(str(run))} is being written to by {holder}; wait until it has ended")
    foreign = sorted(_foreign(folder))
    if foreign and not others:
        raise RunError(
            f"{shown(str(folder))} holds what no training writes: {listed(map(shown, foreign))}; move it elsewhere, or "
            "remove it as well by --others"
        )


def remove_run(folder: Path, *, others: bool = False) -> None:
    """Remove a run's folder; nobody can write to it meanwhile, and what was begun can be gone on with.

    Args:
        folder: the folder.
        others: as `check_removable` takes it, which is asked again once the folder is held.

    Raises:
        RunError: it must not be removed.
        OSError: something in it cannot be.
    """
    check_removable(folder, others=others)
    with writing(folder) as check_held:
        if folder.is_symlink() or not is_run(folder):
            raise RunError(f"{shown(str(folder))} has just become something else; nothing is removed")
        # What makes it a run goes last: half removed, it is still one, which can be removed.
        last = [folder / name for name in (RECIPE, COMPONENTS)]
        for path in [path for path in folder.iterdir() if path.name != LOCK and path not in last] + last:
            check_held()  # it is still the folder that was looked at
            # A link is no folder here: it goes itself, and what it leads to stays.
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def _links(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_symlink() for name in names)


def _members(folder: Path) -> Iterator[Path]:
    """The runs in a run's folder, and in those."""
    for path in folder.iterdir():
        if not path.is_symlink() and path.is_dir() and is_run(path):
            yield path
            yield from _members(path)


def _foreign(folder: Path, prefix: str = "") -> Iterator[str]:
    """What is in a run's folder and is none of its own."""
    members = set(_members(folder))
    for path in folder.iterdir():
        name = f"{prefix}{path.name}"
        if path in members:
            yield from _foreign(path, f"{name}/")
        elif path.is_symlink():
            yield name
        elif path.is_dir():
            pattern = OWN_FOLDERS.get(path.name)
            if pattern is None:
                yield name
            else:
                own = re.compile(f"(?:{pattern})|{UNFINISHED.pattern}")
                within = [
                    each
                    for each in path.iterdir()
                    if each.is_symlink() or each.is_dir() or not own.fullmatch(each.name)
                ]
                yield from (f"{name}/{each.name}" for each in within)
        elif not (path.name in OWN_FILES or OF_MEMBERS.fullmatch(path.name) or UNFINISHED.fullmatch(path.name)):
            yield name
