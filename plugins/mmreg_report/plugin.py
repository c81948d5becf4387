"""Declares the report of a training; imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmreg import hookimpl

if TYPE_CHECKING:
    from mmreg import Callback

mmreg_api = 1


@hookimpl
def mmreg_callbacks() -> list[Callback]:
    """Writes report.md, and curves.png where matplotlib is installed, when a training ends."""
    from mmreg_report.callback import ReportWriter

    return [ReportWriter()]
