"""The report of a run tells which modality decided."""

from __future__ import annotations

import numpy as np
import pytest
from planted import rows_of, trained

from mmreg import Run
from mmreg.sections import Bars, Reported, Table
from mmreg_explain import explain
from mmreg_explain import section as module
from mmreg_explain.section import section


def alone(third: object) -> object:
    return np.where(third["m0"] > 0, "yes", "no")  # type: ignore[index]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("planted") / "alone", alone, epochs=15)  # type: ignore[arg-type]


def reported(run: Run, shown: tuple[int, ...] = ()) -> Reported:
    return Reported(run, run.known_rows(rows_of(alone, rows=30, seed=1)), shown)  # type: ignore[arg-type]


def test_it_has_the_shares_and_interactions_that_explain_gives(run: Run) -> None:
    text, bars, table, matrix = section(reported(run))
    found = explain(run, rows_of(alone, rows=30, seed=1))  # type: ignore[arg-type]
    assert isinstance(text, str)
    assert "all 4 subsets of the modalities, of 30 rows" in text
    assert isinstance(bars, Bars)
    assert bars.values == pytest.approx({line["modality"]: line["share"] for line in found.overall()})
    assert sum(bars.values.values()) == pytest.approx(1)
    assert bars.values["m0"] > 0.7
    assert isinstance(table, Table)
    assert [row["rows that it decided"] for row in table.rows] == [found.decided.count(name) for name in ("m0", "m1")]
    assert isinstance(matrix, Table)
    shown = np.array([[row[name] for name in ("m0", "m1")] for row in matrix.rows])
    assert shown == pytest.approx(found.interactions.mean(0))


def test_it_tells_of_the_rows_that_are_shown(run: Run) -> None:
    *_, rows = section(reported(run, (7, 3)))
    assert isinstance(rows, Table)
    assert rows.folded
    found = explain(run, rows_of(alone, rows=30, seed=1), rows=[8, 4])  # type: ignore[arg-type]
    assert [row["m0"] for row in rows.rows] == pytest.approx(found.shapley[:, 0].tolist())
    for row in rows.rows:
        assert row["told"] == pytest.approx(row["without any"] + row["m0"] + row["m1"])


def test_of_many_rows_some_are_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ASKED", 40)
    monkeypatch.setattr(module, "FEWEST_ROWS", 5)
    text, *_ = section(reported(run))
    assert isinstance(text, str)
    assert "of 10 of 30 rows" in text


def test_without_the_table_there_is_nothing(run: Run) -> None:
    assert section(Reported(run)) == []
