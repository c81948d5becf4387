"""What is not markup already is escaped."""

from __future__ import annotations

import pytest

from mmreg.sections import Chart, Series
from mmreg_report.axes import limits, ticks
from mmreg_report.markup import Html, escaped, joined, table, tag
from mmreg_report.svg import draw


@pytest.mark.parametrize(
    ("value", "markup"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        (Html("<b>"), "<b>"),
        (None, ""),
        (3, "3"),
        ("a\x00b\x1b\ud800c\n", "a\ufffdb\ufffd\ufffdc\n"),
    ],
)
def test_values_become_text(value: object, markup: str) -> None:
    assert escaped(value) == markup
    escaped(value).encode("utf-8")


def test_attributes_and_children_are_escaped() -> None:
    assert tag("a", "<", tag("b", ">"), href='"x', class_="y") == '<a href="&quot;x" class="y">&lt;<b>&gt;</b></a>'
    assert tag("audio", controls=True, hidden=False, src=None) == "<audio controls></audio>"
    assert tag("meta", http_equiv="x") == '<meta http-equiv="x">'
    assert joined(["<", tag("i")], " & ") == "&lt; &amp; <i></i>"


def test_a_table_escapes_names_and_cells_and_lines_up_numbers() -> None:
    told = table([{"<n>": "<x>", "value": 0.25}, {"value": 1}], "<caption>", bars="value")
    assert "<n>" not in told
    assert "<x>" not in told
    assert '<td class="n">0.25<span class="bar" style="--share:0.2500" aria-hidden="true"></span></td>' in told
    assert '<th scope="col" class="n">value</th>' in told


def test_ticks_are_round_and_within_the_axis() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(-3, 12) == [0, 5, 10] or ticks(-3, 12)[0] >= -3
    assert ticks(1e-7, 2e-7)[-1] == pytest.approx(2e-7)
    assert ticks(5, 5) == [5]
    low, high = limits([2.0])
    assert low < 2 < high


def test_curves_leave_gaps_where_a_number_is_missing_and_say_so_where_all_are() -> None:
    nan = float("nan")
    series = Series("<loss>", [1, 2, 3, 4, 5], [1.0, 2.0, None, nan, 3.0])
    assert series.finite() == [[(1, 1.0), (2, 2.0)], [(5, 3.0)]]
    drawn = draw(Chart("<t>", "<x>", "<y>", [series]))
    assert drawn.count("<polyline") == 2
    assert "<loss>" not in drawn
    assert "<title>&lt;loss&gt;: 3 at 5</title>" in drawn
    assert "nothing to draw" in draw(Chart("t", "x", "y", [Series("a", [1], [None])]))


def test_later_series_have_other_dashes() -> None:
    drawn = draw(Chart("t", "x", "y", [Series(str(n), [0, 1], [0, n]) for n in range(7)]))
    assert 'class="s0 d0"' in drawn
    assert 'class="s0 d1"' in drawn
