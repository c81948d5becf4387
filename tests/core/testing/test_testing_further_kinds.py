"""The checks of further kinds, such as optimizers and metrics: good ones pass, and each broken one is caught."""

from __future__ import annotations

import pytest
from further_good import Descent, Diary, Fading, Fair, Right
from further_mutants import MUTANTS

from mmreg.testing import run_checks


@pytest.mark.parametrize("cls", [Descent, Fading, Right, Fair, Diary], ids=lambda cls: cls.__name__)
def test_a_component_that_keeps_every_promise_passes_and_only_its_missing_plugin_is_skipped(cls):
    report = run_checks(cls)
    assert report.ok, str(report)
    assert [each.check for each in report.of("skipped")] == ["light_module"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda cls: cls.__name__)
def test_a_mutant_is_caught_by_the_check_meant_for_it(mutant):
    report = run_checks(mutant, checks=[MUTANTS[mutant]])
    assert report.of("failed"), str(report)
