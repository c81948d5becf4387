"""Declares the reports of a training and their commands; imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmreg import CommandSpec, SectionSpec, hookimpl

if TYPE_CHECKING:
    from mmreg import Callback

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The commands `mmreg report` and `mmreg plot`."""
    return [
        CommandSpec(
            "report", "Write a run, or the comparison of several, as one HTML file.", "mmreg_report.command:app"
        ),
        CommandSpec("plot", "Draw one figure of a run as a picture.", "mmreg_report.plot_command:app"),
    ]


@hookimpl
def mmreg_sections() -> list[SectionSpec]:
    """What a comparison has found."""
    return [SectionSpec("comparison", "Comparison", "mmreg_report.compared:comparison", of="folder")]


@hookimpl
def mmreg_callbacks() -> list[Callback]:
    """Writes report.md and report.html, and curves.png where matplotlib is installed, when a training ends."""
    from mmreg_report.callback import ReportWriter

    return [ReportWriter()]
