"""The report of a run has a map of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mmreg
from mmreg.sections import Chart, Reported
from mmreg_embed import section as module
from mmreg_embed.section import section


def charts(run: Any, rows: list[dict[str, Any]]) -> list[Chart]:
    return [block for block in section(Reported(run, run.known_rows(rows))) if isinstance(block, Chart)]


def test_points_are_the_principal_plane_of_the_fused_vectors(fused_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    (chart,) = charts(fused_run, rows)
    parts = list(fused_run.vectors(rows))
    fused = np.concatenate([part.vectors.fused.numpy() for part in parts]).astype(np.float64)
    keys = [key for part in parts for key in part.keys]
    has = np.concatenate([part.vectors.present.any(1).numpy() for part in parts])
    centred = fused[has] - fused[has].mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    expected = dict(
        zip([key for key, there in zip(keys, has, strict=True) if there], centred @ axes[:2].T, strict=True)
    )
    shown = {
        label.partition(":")[0]: (x, y)
        for series in chart.series
        for x, y, label in zip(series.x, series.y, series.labels, strict=True)
    }
    assert set(shown) == set(expected)
    assert len(shown) == len(rows) - 1  # one lacks all
    for key, point in shown.items():
        assert np.abs(np.array(point)) == pytest.approx(np.abs(expected[key]), abs=1e-4)  # which way up has no meaning
    share = sizes[0] ** 2 / (sizes**2).sum()
    assert chart.x == f"first direction ({share:.0%} of all variance)"


def test_colours_are_the_classes(fused_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    (chart,) = charts(fused_run, rows)
    kinds = {row["id"]: row["kind"] for row in rows}
    assert {series.name for series in chart.series} == {"yes", "no"}
    for series in chart.series:
        assert all(label == f"{label[: label.index(':')]}: {series.name}" for label in series.labels)
        assert {kinds[label.partition(":")[0]] for label in series.labels} == {series.name}


def test_of_many_rows_some_are_drawn(
    fused_run: mmreg.Run, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    text, chart = section(Reported(fused_run, fused_run.known_rows(rows)))
    assert isinstance(text, str)
    assert "of 10 of 40 rows" in text
    assert isinstance(chart, Chart)
    assert sum(len(series.x) for series in chart.series) <= 10


def test_a_run_without_classes_has_one_cloud(paired_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    (chart,) = charts(paired_run, rows)
    assert [series.name for series in chart.series] == [""]


def test_numbers_are_told_apart_by_stretches_of_as_many_rows() -> None:
    values = np.arange(100.0)
    groups = module._by_size(values, np.arange(100))
    assert [len(places) for places in groups.values()] == [20] * 5
    assert module._by_size(np.ones(3), np.arange(3)).keys() == {"1"}
    assert np.concatenate(list(module._by_size(np.array([1.0, 1, 1, 2]), np.arange(4)).values())).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_rare_classes_are_put_together() -> None:
    labels = [f"c{n:02}" for n in range(14) for _ in range(20 - n)]
    groups = module._by_class(labels, np.arange(len(labels)))
    assert list(groups) == [*(f"c{n:02}" for n in range(12)), "(all others)"]
    assert len(groups["(all others)"]) == 8 + 7


def test_without_the_table_there_is_nothing(fused_run: mmreg.Run) -> None:
    assert section(Reported(fused_run)) == []
