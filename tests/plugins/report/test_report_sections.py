"""Sections of other plugins stand in a run's report, as text whatever they hold, and one that fails is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import LABELS

from mmreg.errors import PluginError, RunError
from mmreg.sections import Bars, Block, Chart, Reported, Series, Table
from mmreg_report import plugged
from mmreg_report.markup import Html
from mmreg_report.one_run import run_page
from mmreg_report.plotting import write_plot
from mmreg_report.subject import at_hand, loaded

BAD = LABELS[0]


class Made:
    """A section without a plugin."""

    plugin = "someone's"

    def __init__(self, name: str, title: str, give: Any) -> None:
        self.spec = type("Spec", (), {"name": name, "title": title, "of": "run"})
        self._give = give

    def blocks(self, reported: Reported) -> list[Block]:
        return self._give(reported)  # type: ignore[no-any-return]


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts sections in the place of those that are installed."""

    def put(*made: Made) -> None:
        monkeypatch.setattr(plugged.registry, "sections", lambda: list(made))

    return put


def hostile_blocks(reported: Reported) -> list[Block]:
    points = Series(BAD, [0.0, 1.0], [1.0, 2.0], "points", [BAD, Html("<i>")])
    return [
        Html("<i>"),
        BAD,
        Table(BAD, [{BAD: Html("<i>"), "n": 0.5}], bars="n", folded=True),
        Chart(BAD, BAD, BAD, [points]),
        Bars(BAD, BAD, {BAD: 0.5}),
    ]


def test_what_a_section_gives_is_text(hostile: Path, sections: Any) -> None:
    sections(Made("x", BAD, hostile_blocks))
    page = run_page(loaded(hostile, "cpu", rows=False))
    assert "<i>" not in page
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;window.taken=1") > 8
    assert page.index("section-") < page.index(f'id="section-{page.count("<section id=")}"')


def test_it_stands_before_the_origin_and_is_told_which_rows_are_shown(hostile: Path, sections: Any) -> None:
    told: list[Reported] = []
    sections(Made("x", "Extra", lambda reported: [told.append(reported) or "said"]))  # type: ignore[func-returns-value]
    page = run_page(loaded(hostile, "cpu"))
    assert page.index(">Rows</h2>") < page.index(">Extra</h2>") < page.index(">Origin</h2>")
    known = told[0].known
    keys = [str(key) for key in known.table.iter_values("id", known.rows[list(told[0].shown)])]
    assert keys
    shown = page[page.index(">Rows</h2>") : page.index(">Extra</h2>")]
    assert all(f">{key.replace('<', '&lt;').replace('>', '&gt;')}</span>" in shown for key in keys)


def test_one_that_fails_is_left_out_with_a_note(hostile: Path, sections: Any) -> None:
    def fail(reported: Reported) -> list[Block]:
        raise PluginError("it went wrong <b>")

    sections(Made("x", "Fails", fail), Made("y", "Unequal", lambda _: [Chart("c", "x", "y", [Series("", [1.0], [])])]))
    page = run_page(loaded(hostile, "cpu", rows=False))
    assert "This could not be told of the run: it went wrong &lt;b&gt;" in page
    assert page.count("This could not be told of the run") == 2
    assert ">Origin</h2>" in page


def test_a_name_or_title_that_is_taken_is_left_out_and_noted(hostile: Path, sections: Any) -> None:
    sections(Made("roc", "Mine", lambda _: ["first"]), Made("x", "Rows", lambda _: ["second"]))
    page = run_page(loaded(hostile, "cpu", rows=False))
    assert page.count("is left out, as another has its name or title") == 2
    assert "<p>first</p>" not in page
    assert "<p>second</p>" not in page


def test_a_training_makes_none_of_them(hostile: Path, sections: Any) -> None:
    sections(Made("x", "Extra", lambda _: ["said"]))
    run = loaded(hostile, "cpu", rows=False).saved
    assert ">Extra</h2>" not in run_page(at_hand(run))


@pytest.mark.usefixtures("hostile_page")
def test_its_figures_are_drawn_by_its_name(hostile: Path, sections: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sections(Made("extra", "Extra", hostile_blocks), Made("empty", "Empty", lambda _: ["text alone"]))
    assert write_plot(hostile, "extra", tmp_path / "x.png", "cpu").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RunError, match="no figure 'empty'"):
        write_plot(hostile, "empty", tmp_path / "y.png", "cpu")
