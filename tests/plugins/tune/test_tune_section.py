"""The report of a trial tells of its search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmreg.errors import RunError
from mmreg.sections import Bars, Chart, Reported, Table
from mmreg_tune.section import section, study

TRIALS = """\
trial,state,validation accuracy,lr,epochs,reason
0,finished,0.5,0.1,2,
1,pruned,0.25,0.2,1,
2,failed,,0.3,,<b>diverged
"""


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A trial's folder within its search's."""
    folder = tmp_path / "tuned" / "trials" / "0000"
    folder.mkdir(parents=True)
    (tmp_path / "tuned" / "trials.csv").write_text(TRIALS)
    (tmp_path / "tuned" / "importance.csv").write_text("key,importance\nlr,0.75\nsize,0.25\n")
    return folder


def of(folder: Path) -> Reported:
    return Reported(SimpleNamespace(folder=folder))


def test_it_has_history_importance_and_trials(trial: Path) -> None:
    text, chart, bars, table = section(of(trial))
    assert isinstance(text, str)
    assert "trial 0 of a search of 3 trials, of which 1 finished" in text
    assert isinstance(chart, Chart)
    assert chart.y == "validation accuracy"
    assert [(s.name, list(s.x), list(s.y)) for s in chart.series] == [
        ("finished", [0.0], [0.5]),
        ("pruned", [1.0], [0.25]),
    ]
    assert bars == Bars("Importance of each value (PED-ANOVA)", "importance", {"lr": 0.75, "size": 0.25})
    assert isinstance(table, Table)
    assert table.rows[2] == {
        **{"trial": 2, "state": "failed", "validation accuracy": None, "lr": 0.3, "epochs": None},
        "reason": "<b>diverged",
    }


def test_other_runs_have_none(trial: Path) -> None:
    (trial.parents[1] / "trials.csv").unlink()
    assert section(of(trial)) == []
    assert section(of(trial.parents[2])) == []


def test_damaged_results_are_told(trial: Path) -> None:
    (trial.parents[1] / "importance.csv").write_text("key\nlr\n")
    with pytest.raises(RunError, match="damaged"):
        section(of(trial))


def test_a_search_by_itself_has_its_best_trials_and_how_they_grew(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text(
        "trial,state,validation loss,lr,reason\n0,finished,0.5,0.1,\n1,finished,0.7,0.2,\n2,failed,,0.3,diverged\n"
        "3,finished,0.25,0.4,\n"
    )
    (tmp_path / "best.yaml").write_text("# Trial 3 of 4 trials: the best by validation loss 0.25.\nseed: 0\n")
    text, best, table, chart, every = study(tmp_path)
    assert text.startswith("A search of 4 trials, of which 3 finished. ")  # type: ignore[union-attr]
    assert best.startswith("The best is trial 3, by validation loss 0.25. ")  # type: ignore[union-attr]
    assert isinstance(table, Table)
    assert [row["trial"] for row in table.rows] == [3, 0, 1]  # a loss: the least first
    assert isinstance(chart, Chart)
    assert [(s.name, list(s.x), list(s.y)) for s in chart.series] == [
        ("finished", [0.0, 1.0, 3.0], [0.5, 0.7, 0.25]),
        ("best so far", [0.0, 1.0, 3.0], [0.5, 0.5, 0.25]),
    ]
    assert isinstance(every, Table)
    assert len(every.rows) == 4


def test_a_folder_that_is_no_search_has_none_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    assert study(tmp_path) == []
    for damaged in (
        "trial,state\n0,finished\n",
        "trial,state,validation loss,lr\n0,finished,0.5\n1,finished,0.5,1,2\n",
    ):
        (tmp_path / "trials.csv").write_text(damaged)
        with pytest.raises(RunError, match="damaged"):
            study(tmp_path)
