"""The harness finds medians and spreads, missed bounds and regressions, and keeps one machine's figures in a table."""

from __future__ import annotations

from pathlib import Path

import harness
import page
import pytest
from harness import Row


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    rows: list[Row] = []
    monkeypatch.setattr(harness, "TABLE", rows)
    return rows


def row(ratio: float, low: float, high: float, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    return Row("a step", "bare", ratio, low, high, 5, at_least, at_most)


def test_a_row_has_the_median_and_the_quartiles() -> None:
    found = harness.record("a step", "bare", [5.0, 1.0, 2.0, 4.0, 3.0], at_most=3.0)
    assert (found.ratio, found.low, found.high, found.rounds) == (3.0, 2.0, 4.0, 5)


def test_a_row_of_one_round_has_no_spread() -> None:
    found = harness.record("a step", "bare", [2.0])
    assert (found.ratio, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_missed_bound_fails_and_stays_in_the_table(table: list[Row]) -> None:
    with pytest.raises(AssertionError, match=r"a step: 2 .* times bare; <= 1.5"):
        harness.record("a step", "bare", [2.0], at_most=1.5)
    with pytest.raises(AssertionError, match=r"loop: 0.8 .* times bare; >= 0.9"):
        harness.record("loop", "bare", [0.8], at_least=0.9)
    assert [harness.verdict(each, None) for each in table] == ["MISSED", "MISSED"]


def test_two_rows_of_one_name_are_refused() -> None:
    harness.record("a step", "bare", [1.0])
    with pytest.raises(AssertionError, match="already"):
        harness.record("a step", "bare", [1.0])


def test_both_are_run_in_turns_and_ratios_go_the_way_of_the_bound() -> None:
    order: list[str] = []

    def ours() -> float:
        order.append("ours")
        return 2.0

    def theirs() -> float:
        order.append("theirs")
        return 4.0

    slower = harness.compare("time", "bare", ours, theirs, rounds=2)
    faster = harness.compare("speed", "bare", ours, theirs, rounds=2, at_least=1.0)
    assert (slower.ratio, faster.ratio) == (0.5, 2.0)
    assert order[:6] == ["ours", "theirs", "ours", "theirs", "theirs", "ours"]


def test_what_gives_no_figure_is_timed_by_the_clock() -> None:
    ticks = iter([0.0, 1.0, 1.0, 3.0])
    pairs = harness.interleaved(lambda: None, lambda: None, rounds=1, warm=0, clock=lambda: next(ticks))
    assert pairs == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("now", "before", "regressed"),
    [
        (row(1.2, 1.15, 1.25), row(1.0, 0.95, 1.05), True),
        (row(1.2, 1.0, 1.25), row(1.0, 0.95, 1.05), False),  # the spreads overlap
        (row(1.02, 1.01, 1.03), row(1.0, 1.0, 1.0), False),  # too little to speak of
        (row(0.5, 0.4, 0.6), row(1.0, 0.95, 1.05), False),  # better
        (row(0.8, 0.75, 0.85, at_least=0.5), row(1.0, 0.95, 1.05, at_least=0.5), True),
        (row(1.2, 1.1, 1.3, at_least=0.5), row(1.0, 0.95, 1.05, at_least=0.5), False),
    ],
)
def test_a_regression_is_noticeably_worse_beyond_both_spreads(now: Row, before: Row, regressed: bool) -> None:
    assert now.is_worse_than(before) is regressed
    assert harness.verdict(now, before) == ("SLOWER than the reference" if regressed else "ok")


def test_the_table_has_bound_reference_and_verdict() -> None:
    now = row(0.91, 0.905, 0.94, at_least=0.9)
    head, line = harness.lines([now], {now.what: row(1.0, 0.99, 1.0, at_least=0.9)})
    assert head.split()[0] == "measured"
    assert "0.91 (0.905 to 0.94)  >= 0.9  1          SLOWER than the reference" in line


def test_a_reference_is_renewed_row_by_row_on_one_machine_alone(tmp_path: Path) -> None:
    path = tmp_path / "build" / "reference.json"
    first, second = Row("first", "bare", 1.0, 1.0, 1.0, 3), Row("second", "bare", 1 / 3, 0.25, 0.5, 3, at_least=0.2)
    harness.renew(path, [first, second], {"cpu": "one"})
    newer = Row("first", "bare", 2.0, 2.0, 2.0, 3)
    harness.renew(path, [newer], {"cpu": "one"})
    machine, rows = harness.read(path)
    assert machine == {"cpu": "one"}
    assert rows["first"] == newer
    assert rows["second"].ratio == 0.3333
    with pytest.raises(ValueError, match="renew all of it"):
        harness.renew(path, [newer], {"cpu": "another"})
    harness.renew(path, [newer, second], {"cpu": "another"})
    assert harness.read(path)[0] == {"cpu": "another"}


def test_without_a_reference_every_row_is_new(tmp_path: Path) -> None:
    assert harness.read(tmp_path / "none.json") == ({}, {})
    assert harness.verdict(row(1.0, 1.0, 1.0), None) == "new"


def test_the_page_takes_the_table_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = tmp_path / "reference.json"
    facts = {"cpu": "a CPU", "cores": 2, "system": "Linux", "python": "3.12", "torch": "2.11", "gpu": None}
    harness.write(reference, [row(0.8, 0.75, 0.85, at_least=0.9)], facts)
    monkeypatch.setattr(harness, "REFERENCE", reference)
    text = page.renewed(f"above\n{page.BEGIN}old\n{page.END}below\n")
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert "| a step | bare | 0.8 (0.75 to 0.85) | >= 0.9 (missed) |" in text
    assert "Measured on a CPU, 2 cores; Linux, Python 3.12, torch 2.11." in text
    assert page.renewed(text) == text
