"""The report of a folder that is no run: a comparison, or what a plugin tells of it; else what to ask for instead."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmreg.errors import RunError
from mmreg.sections import Chart, Table
from mmreg_report.compared import comparison
from mmreg_report.writing import write_report


def blocks(folder: Path) -> tuple[list[str], dict[str, Table], list[Chart]]:
    found = comparison(folder)
    tables = {block.title.partition(" (")[0]: block for block in found if isinstance(block, Table)}
    return [b for b in found if isinstance(b, str)], tables, [b for b in found if isinstance(b, Chart)]


def test_a_comparison_s_folder_tells_of_its_variants_and_tested_pairs(compared: Path) -> None:
    found: dict[str, Any] = json.loads((compared / "comparison.json").read_text())
    texts, tables, charts = blocks(compared)
    assert texts[: len(found["conclusions"])] == [f"{text}." for text in found["conclusions"]]
    rows = {row["variant"]: row for row in tables["Variants"].rows}
    assert list(rows) == [each["name"] for each in found["variants"]]
    for each in found["variants"]:
        row = rows[each["name"]]
        assert (row["accuracy"], row["deviation"]) == tuple(each["metrics"]["accuracy"].values())
        assert [row["from"], row["to"]] == each["interval"]
    standings = {row["beside the best"] for row in rows.values()}
    assert standings <= {"best", "not distinguishable", "worse", "not tested"}
    assert rows[found["best"]]["beside the best"] == "best"
    pairs = tables["Differences in accuracy"].rows
    assert [(row["difference"], row["p"], row["p (Holm)"], row["first is"]) for row in pairs] == [
        (each["difference"], each["p"], each["adjusted_p"], each["verdict"]) for each in found["pairs"]
    ]
    (chart,) = charts
    assert [series.name for series in chart.series] == [each["name"] for each in found["variants"]]
    assert all(len(series.y) == 2 for series in chart.series)
    trainings = next(table for title, table in tables.items() if title.startswith("Trainings"))
    assert len(trainings.rows) == sum(len(each["runs"]) for each in found["variants"])


def test_it_stands_as_a_page_in_the_comparison_s_folder_also_where_that_was_moved(
    compared: Path, tmp_path: Path
) -> None:
    shutil.copytree(compared, tmp_path / "moved")
    path = write_report([tmp_path / "moved"])
    assert path == tmp_path / "moved" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert "<h1>Comparison moved</h1>" in page
    assert page.count("<polyline") >= 2
    assert str(tmp_path / "moved" / "runs") in page
    assert "<b>" not in page


def test_a_damaged_comparison_is_told(compared: Path, tmp_path: Path) -> None:
    text = (compared / "comparison.json").read_text()
    others = [json.dumps({**json.loads(text), key: ["text"]}) for key in ("failed", "variants", "pairs")]
    for damaged in (text[:-40], "[]", text.replace('"variants"', '"others"'), "[" * 100_000, *others):
        (tmp_path / "comparison.json").write_text(damaged)
        with pytest.raises(RunError, match=r"^\S+/comparison.json is damaged, or was edited.*compare writes it") as no:
            write_report([tmp_path])
        assert no.value.exit_code == 2
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "comparison.json").write_text(json.dumps({**json.loads(text), "notes": [7]}))
    assert write_report([tmp_path]).exists()


def test_a_folder_of_runs_is_refused_with_what_to_type(hostile: Path, compared: Path, tmp_path: Path) -> None:
    runs = compared / "runs"
    with pytest.raises(RunError) as no:
        write_report([runs])
    one, other = (shlex.quote(str(run)) for run in sorted(runs.glob("*/*"))[:2])
    assert f"mmreg report {one} tells of a run, mmreg report {one} {other} compares some" in str(no.value)
    shutil.copytree(runs, tmp_path / "study" / "runs")
    (tmp_path / "study" / "robustness.md").write_text("# What it came to")
    with pytest.raises(RunError, match=r"study/robustness\.md tells of it; it holds .*: mmreg report "):
        write_report([tmp_path / "study"])
    with pytest.raises(RunError, match=re.escape("it has no components.json, and no comparison or search is in it")):
        write_report([tmp_path])
    with pytest.raises(RunError, match="there is no run folder"):
        write_report([tmp_path / "nothing"], tmp_path / "x.html")


@pytest.mark.parametrize("told", ['{"test": null}', '{"validation": 5}', '{"test": {"rows": 3, "metrics": []}}'])
def test_a_run_whose_report_holds_no_figures_is_named_alone_and_among_others(
    hostile: Path, tmp_path: Path, told: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(hostile, broken)
    (broken / "report.json").write_text(told)
    for runs in ([broken], [hostile, broken]):
        with pytest.raises(RunError, match=r"broken measured cannot be read: report\.json holds no figures under"):
            write_report(runs, tmp_path / "page.html", "cpu")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("key", ["best", "intervals"])
def test_a_run_whose_report_has_something_else_in_a_place_is_named_among_others(
    hostile: Path, tmp_path: Path, key: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(hostile, broken)
    found: dict[str, Any] = json.loads((broken / "report.json").read_text())
    (found if key == "best" else found["test"]["metrics"])[key] = 7
    (broken / "report.json").write_text(json.dumps(found))
    with pytest.raises(RunError, match=r"what the training of \S+broken measured cannot be read: "):
        write_report([hostile, broken], tmp_path / "page.html", "cpu", rows=False)
    assert not (tmp_path / "page.html").exists()
