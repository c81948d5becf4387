"""Runs that are compared are tested two by two on the same rows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mmreg
from mmreg_report.comparison import comparison_page, pair_row
from mmreg_report.subject import Subject, loaded


@pytest.fixture(scope="module")
def three(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """The hostile run, and two others of its table."""
    folder = tmp_path_factory.mktemp("three")
    recipe = mmreg.load(hostile, "cpu").recipe
    for name, modality in (("image", "image"), ("title", "title")):
        alone = {**recipe, "modalities": {modality: recipe["modalities"][modality]}, "fusion": None}
        mmreg.train(alone, folder / name, device="cpu")
    return [loaded(each, "cpu", rows=False) for each in (hostile, folder / "image", folder / "title")]


def test_p_values_and_their_correction_are_scipys_and_holms(three: list[Subject]) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    page = comparison_page(three)
    right = [(each.task.decide(each.scores) == each.targets).numpy() for each in three]
    expected = []
    for one, other in itertools.combinations(range(3), 2):
        only_first, only_second = int((right[one] & ~right[other]).sum()), int((right[other] & ~right[one]).sum())
        discordant = only_first + only_second
        expected.append(binomtest(only_first, discordant).pvalue if discordant else 1.0)
    found = mmreg.compare(
        {each.facts.name: each.saved for each in three if each.saved}, metric="accuracy", split="test"
    )
    assert sorted(pair.p for pair in found.pairs) == pytest.approx(sorted(expected))
    order = sorted(expected)
    corrected = np.maximum.accumulate([min(1.0, (3 - place) * p) for place, p in enumerate(order)])
    assert sorted(pair.adjusted_p for pair in found.pairs) == pytest.approx(corrected)
    table = page[page.index("Differences in accuracy") :].partition("</table>")[0]
    assert len(re.findall("<tr>", table)) == 4
    assert "p (Holm)" in table
    assert "Holm&#x27;s correction for 3 pairs" in page
    assert "<i>" not in page


def test_a_pairs_interval_is_that_of_its_difference() -> None:
    pair = SimpleNamespace(
        first="a", second="b", difference=0.25, interval=(0.1, 0.4), mcnemar=(7, 2, 0.18), p=0.18, adjusted_p=0.36
    )
    assert pair_row(pair) == {
        **{"first": "a", "second": "b", "difference": 0.25, "from": 0.1, "to": 0.4},
        **{"only first right": 7, "only second right": 2, "p": 0.18, "p (Holm)": 0.36},
    }


def test_a_run_of_other_rows_is_named_and_the_rest_compared(three: list[Subject]) -> None:
    strange = loaded(three[2].facts.folder, "cpu", rows=False)
    strange.keys = [*strange.keys[:-1], "another"]
    page = comparison_page([*three[:2], strange])
    assert "so not compared: title." in page
    assert "correction for 1 pair." in page


def test_curves_of_a_metric_with_an_underscore_are_laid_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmreg.sections import Chart, Series
    from mmreg_report import comparison

    lines = [Series(f"validation {name}", [1.0, 2.0], [0.5, 0.6]) for name in ("c_index", "image_c_index")]
    monkeypatch.setattr(comparison, "curve_charts", lambda facts: [Chart("curves", "epoch", "c_index", lines)])
    subject: Any = SimpleNamespace(facts=None)
    (drawn,) = comparison._curves([subject, subject], ["first run", "second run"])
    assert "validation c_index" in str(drawn)
    assert all(name in str(drawn) for name in ("first run", "second run"))
