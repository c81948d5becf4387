"""The page about performance has the table of the stored reference, and names what there is."""

from __future__ import annotations

import re

import harness
import page

from mmreg.recipe import form
from mmreg.training import profiling

TEXT = page.PAGE.read_text(encoding="utf-8")


def test_the_table_is_that_of_the_reference() -> None:
    assert page.renewed(TEXT) == TEXT, "run: python tests/benchmarks/page.py"


def test_every_row_of_the_reference_is_in_it() -> None:
    _, rows = harness.read(harness.REFERENCE)
    assert rows
    assert all(f"| {what} |" in TEXT for what in rows)


def test_the_keys_of_a_training_that_it_names_are_there() -> None:
    for name in re.findall(r"training\.([a-z_]+)", TEXT):
        assert name in form.Training.model_fields, name


def test_the_files_of_a_profile_are_named() -> None:
    for name in (profiling.WHERE, profiling.OPERATORS, profiling.TRACE):
        assert f"profile/{name}" in TEXT
