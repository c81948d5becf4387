"""Sections of a run's page that other plugins bring: what they tell is plain data, and is escaped like all else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmreg import registry
from mmreg.errors import MmregError
from mmreg.messages import one_line
from mmreg.registry import Section
from mmreg.sections import Bars, Block, Chart, Figure, Reported, Table
from mmreg_report.kinds import OWN
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.sections import SECTIONS
from mmreg_report.sections.rows import shown_places
from mmreg_report.subject import Subject
from mmreg_report.svg import draw


def of_runs() -> list[Section]:
    """The sections of plugins that tell of runs."""
    return [section for section in registry.sections() if section.spec.of == "run"]


def own_sections(subject: Subject) -> list[Section]:
    """The sections of plugins, of a run read from its folder; one whose name is taken is left out and noted."""
    chosen: dict[str, Section] = {}
    for section in of_runs() if subject.saved is not None else ():
        spec = section.spec
        if spec.name in OWN or spec.title in {*SECTIONS, *(each.spec.title for each in chosen.values())}:
            subject.notes.append(
                f"The section {spec.title!r} of plugin {section.plugin} is left out, as another has its name or title."
            )
        else:
            chosen[spec.name] = section
    return list(chosen.values())


def told(section: Section, subject: Subject) -> list[Block]:
    """What a plugin's section tells of a run.

    Raises:
        PluginError: it fails.
    """
    known = subject.measured
    places = [] if known is None else shown_places(subject)
    return section.blocks(Reported(subject.saved, known, places))


def figures(section: Section, subject: Subject) -> list[Figure]:
    """What of it can be drawn."""
    return [block for block in told(section, subject) if isinstance(block, Chart | Bars)]


def plugged(section: Section, subject: Subject) -> list[Html]:
    """A plugin's section as markup; where it fails, why."""
    try:
        return shown(told(section, subject))
    except (MmregError, ValueError, TypeError, KeyError, AttributeError) as error:
        return [tag("p", f"This could not be told of the run: {one_line(error)}", class_="note")]


def shown(blocks: Sequence[Block]) -> list[Html]:
    """Blocks one after the other; charts that follow each other stand side by side."""
    parts: list[Html] = []
    charts: list[Html] = []
    for block in [*blocks, None]:
        if isinstance(block, Chart):
            charts.append(draw(_plain_chart(block)))
            continue
        if charts:
            parts.append(tag("div", *charts, class_="charts"))
            charts = []
        if isinstance(block, str):
            parts.append(tag("p", _plain(block)))
        elif isinstance(block, Table):
            rows = [{str(key): _plain(value) for key, value in row.items()} for row in block.rows]
            made = table(rows, str(block.title), bars=block.bars)
            parts.append(folded(str(block.title), made) if block.folded else made)
        elif isinstance(block, Bars):
            shares = all(0 <= value <= 1 for value in block.values.values())
            rows = [{"name": str(name), str(block.axis): value} for name, value in block.values.items()]
            parts.append(table(rows, str(block.title), bars=str(block.axis) if shares else ""))
    return parts


def _plain(value: object) -> object:
    """A value of a plugin, of which no text is markup, whatever its class says."""
    return str(value) if isinstance(value, str) else value


def _plain_chart(chart: Chart) -> Chart:
    series = [replace(each, name=str(each.name), labels=list(map(str, each.labels))) for each in chart.series]
    return replace(chart, title=str(chart.title), x=str(chart.x), y=str(chart.y), series=series)
