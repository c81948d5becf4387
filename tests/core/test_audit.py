"""What `make audit` says of licences and vulnerabilities; a service that gives no answer is no clean bill."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

CI = Path(__file__).parents[2] / ".ci"


@pytest.fixture(scope="module")
def licences() -> dict[str, Any]:
    return runpy.run_path(str(CI / "licences.py"))


@pytest.fixture(scope="module")
def vulnerabilities() -> dict[str, Any]:
    return runpy.run_path(str(CI / "vulnerabilities.py"))


def test_all_that_is_needed_has_a_licence_that_fits(licences, capsys):
    assert licences["main"]() == 0
    told = capsys.readouterr().out
    assert "tqdm" in told
    assert {"mmreg", "torch", "pyarrow", "sympy"} <= set(licences["needed"]("mmreg"))


@pytest.mark.parametrize(
    ("expression", "unfit"),
    [
        ("MIT", []),
        ("BSD-3-Clause AND 0BSD AND Zlib", []),
        ("GPL-3.0-only OR MIT", []),
        ("(GPL-3.0-only OR MIT) AND ISC License (ISCL)", []),
        ("MPL-2.0 AND MIT", ["MPL-2.0"]),
        ("GPL-3.0-only", ["GPL-3.0-only"]),
        ("", [""]),
    ],
)
def test_copyleft_and_missing_licences_are_told(licences, expression, unfit):
    assert list(licences["unfit"](expression)) == unfit


def test_an_expression_goes_before_classifiers_and_these_before_a_text(licences):
    of = licences["licence"]
    classifier = ["Programming Language :: Python", "License :: OSI Approved :: MIT License"]
    assert of({"License-Expression": "ISC", "License": "x"}, classifier) == "ISC"
    assert of({"License": "x"}, classifier) == "MIT License"
    assert of({"License": "BSD\nand a long text"}, []) == "BSD"
    assert of({}, []) == ""


def test_versions_without_known_vulnerabilities_are_fine(vulnerabilities):
    assert vulnerabilities["verdict"]([{"name": "a", "version": "1", "vulns": []}]) == ""


def test_a_vulnerability_is_told_with_what_mends_it(vulnerabilities):
    flaw = {"id": "CVE-1", "fix_versions": ["2", "3"]}
    told = vulnerabilities["verdict"]([{"name": "a", "version": "1", "vulns": [flaw]}])
    assert told == "  a 1: CVE-1, mended in 2, 3"


def test_a_service_that_knows_no_package_has_audited_nothing(vulnerabilities):
    skipped = {"name": "a", "skip_reason": "not found"}
    assert vulnerabilities["verdict"]([skipped]).startswith("NOTHING WAS AUDITED")
    assert vulnerabilities["verdict"]([]).startswith("NOTHING WAS AUDITED")
    told = vulnerabilities["verdict"]([skipped, {"name": "b", "version": "1", "vulns": []}])
    assert told == "  not audited: a: not found"
