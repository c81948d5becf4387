"""The page of a folder that is no run and holds some: what plugins tell of it, as of a comparison or a search."""

from __future__ import annotations

from pathlib import Path

from mmreg import registry
from mmreg.errors import RunError
from mmreg.messages import listed, to_type
from mmreg_report.page import page
from mmreg_report.plugged import shown
from mmreg_report.reading import FACTS

DEPTH = ("*", "*/*", "*/*/*")
"""Where runs are looked for below a folder."""

STUDY = "robustness.md"
"""What `mmreg robustness` writes for people."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, or nothing that can be looked into."""
    return not folder.is_dir() or (folder / FACTS).exists()


def folder_page(folder: Path) -> str:
    """The text of the page.

    Raises:
        RunError: nothing can be told of it; names what can be asked for instead.
        PluginError: a plugin's section fails.
    """
    told = {each.spec.title: each.blocks(folder) for each in registry.sections() if each.spec.of == "folder"}
    sections = {title: shown(blocks) for title, blocks in told.items() if blocks}
    if sections:
        return page(f"{listed(sections)} {folder.absolute().name}", [], sections)
    runs = sorted(found.parent for pattern in DEPTH for found in folder.glob(f"{pattern}/{FACTS}"))
    if not runs:
        raise RunError(f"{str(folder)!r} is no run folder: it has no {FACTS}, and no comparison or search is in it")
    study = f"; {folder / STUDY} tells of it" if (folder / STUDY).is_file() else ""
    several = to_type(*runs[:2])
    raise RunError(
        f"{str(folder)!r} is no run folder, and holds no finished comparison or search{study}; it holds "
        f"{listed(runs, 3)}: mmreg report {to_type(runs[0])} tells of a run"
        + (f", mmreg report {several} compares some" if len(runs) > 1 else "")
    )
