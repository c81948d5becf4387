"""A plugin's section of a report is declared as data, and what it gives is checked."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from mmreg import SectionSpec
from mmreg.errors import PluginError
from mmreg.registry import Section
from mmreg.registry.installed import Plugin
from mmreg.sections import Bars, Reported, Series, Table


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a section of a function."""

    def made(function: Any) -> Section:
        module = ModuleType("some_sections")
        module.write = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "some_sections", module)
        plugin = Plugin("some", "mmreg-some", "1.0", "", "some_sections", "ok")
        return Section(SectionSpec("some", "Some", "some_sections:write"), plugin)

    return made


def test_a_section_is_given_the_run_and_gives_blocks(section: Any) -> None:
    blocks = section(lambda reported: [str(reported.run), Table("t", []), Bars("b", "x")]).blocks(Reported(7))
    assert blocks == ["7", Table("t", []), Bars("b", "x")]


def test_whatever_a_section_raises_is_one_error(section: Any) -> None:
    with pytest.raises(PluginError, match=r"the section 'some' of plugin .* raised SystemExit"):
        section(lambda reported: sys.exit(3)).blocks(Reported(None))


@pytest.mark.parametrize("given", [None, "text", [3], [{"title": "x"}]])
def test_anything_but_blocks_is_refused(section: Any, given: Any) -> None:
    with pytest.raises(PluginError, match=r"must give (a list of blocks|texts, tables and figures), found"):
        section(lambda reported: given).blocks(Reported(None))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("Map", "Map", "a:b"), "lower-case"),
        (("a map", "Map", "a:b"), "lower-case"),
        (("map", " ", "a:b"), "needs a title"),
        (("map", "Map", "a"), "must read 'package.module:name'"),
    ],
)
def test_what_is_no_section_is_refused(fields: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SectionSpec(*fields)


def test_labels_follow_the_points_that_can_be_drawn() -> None:
    series = Series("s", [0.0, 1.0, 2.0], [1.0, None, 3.0], "points", ["a", "b", "c"])
    assert series.finite() == [[(0.0, 1.0)], [(2.0, 3.0)]]
    assert series.labelled() == ["a", "c"]
