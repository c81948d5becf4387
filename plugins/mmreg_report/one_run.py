"""The page of one run."""

from __future__ import annotations

from mmreg.console import unmeasured
from mmreg.errors import MmregError, RunError
from mmreg.messages import one_line
from mmreg_report.markup import Html, escaped, tag
from mmreg_report.page import page
from mmreg_report.plugged import own_sections, plugged
from mmreg_report.reading import DAMAGED
from mmreg_report.sections import SECTIONS, Section
from mmreg_report.subject import Subject
from mmreg_report.tables import measured_split, rows_of, summary

LAST = "Origin"
"""The section that stands below those of plugins."""


def run_page(subject: Subject) -> str:
    """The text of the page of a run; sections of plugins are in it where the run was read from its folder.

    Raises:
        RunError: its report says nothing that can be told.
    """
    sections = {title: _written(section, subject) for title, section in SECTIONS.items()}
    sections |= {each.spec.title: plugged(each, subject) for each in own_sections(subject)}
    sections[LAST] = sections.pop(LAST)
    try:
        lead = _lead(subject)
    except DAMAGED as error:
        raise RunError(unmeasured(subject.facts.folder, one_line(error))) from error
    return page(f"Run {subject.facts.name}", lead, sections)


def _written(section: Section, subject: Subject) -> list[Html]:
    """A section; where what a plugin's component gave cannot be told, why."""
    try:
        return list(map(escaped, section(subject)))
    except (MmregError, RuntimeError, *DAMAGED) as error:
        return [tag("p", f"This could not be told of the run: {one_line(error)}", class_="note")]


def _lead(subject: Subject) -> list[Html]:
    facts, split = subject.facts, measured_split(subject.facts)
    parts = []
    if split:
        figures = facts.report[split]
        try:
            told = subject.task.headline(figures["metrics"], figures["rows"])
            parts.append(tag("p", f"{told} ({rows_of(split)})", class_="headline"))
        except (MmregError, *DAMAGED):  # a plugin's task of another version
            pass
    if "fused" in facts.report:
        parts.append(tag("p", "Combined of these runs:"))
    parts.append(tag("ul", *(tag("li", line) for line in summary(facts))))
    notes = [*facts.report.get("notes", []), *subject.notes]
    if notes:
        parts.append(tag("section", tag("h2", "Notes"), tag("ul", *(tag("li", note) for note in notes))))
    return parts
