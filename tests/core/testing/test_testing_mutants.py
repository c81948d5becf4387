"""Broken components are caught, each by the check that is meant for what is wrong with it."""

from __future__ import annotations

import pytest
from good import MATERIAL
from mutants import MUTANTS

from mmreg.testing import run_checks


@pytest.mark.parametrize("cls", MATERIAL, ids=lambda cls: cls.__name__)
def test_a_component_that_keeps_every_promise_passes(cls):
    report = run_checks(cls, **MATERIAL[cls])
    assert report.ok, str(report)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_check_meant_for_it_and_by_no_unexpected_one(name):
    mutant = MUTANTS[name]
    report = run_checks(mutant.cls, **mutant.material)
    failed = {result.check for result in report.of("failed")}
    assert mutant.check in failed, str(report)
    assert failed == {mutant.check} | mutant.also, str(report)
