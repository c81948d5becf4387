"""Follows a training and writes its reports when all other files are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg import Callback, FollowedRun
from mmreg.files import write_text
from mmreg_report.curves import draw_curves
from mmreg_report.markdown import LOSSES, render, shown_columns
from mmreg_report.reading import read_run

REPORT = "report.md"
CURVES = "curves.png"
PAGE = "report.html"


class ReportWriter(Callback):
    """Writes `report.md` and `report.html` into the run's folder, and `curves.png` where matplotlib is installed."""

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Remove what an earlier training left, as this one may be stopped before its end."""
        for name in (REPORT, CURVES, PAGE):
            (run.folder / name).unlink(missing_ok=True)

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        """Write the files; the text first, as drawing may fail."""
        facts = read_run(run.folder)
        write_text(run.folder / REPORT, render(facts))
        write_page(run)
        if facts.history:
            from mmreg_report.sections.curves import loss_panels

            columns = shown_columns(facts)
            panels = loss_panels(facts, [name for name in columns if name in LOSSES])
            panels += [[name] for name in columns if name not in LOSSES]
            draw_curves(facts.history, panels, run.folder / CURVES)
        else:  # of a combination of runs; an earlier run may have left its own
            (run.folder / CURVES).unlink(missing_ok=True)


def write_page(run: FollowedRun) -> None:
    """Write the page of what is at hand: nothing is decoded, encoded or measured for it."""
    from mmreg_report.one_run import run_page
    from mmreg_report.subject import at_hand

    write_text(run.folder / PAGE, run_page(at_hand(run)))
