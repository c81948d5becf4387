"""The page about the checks names each of them with its meaning, and its examples hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mmreg.testing
from mmreg.testing import CHECKS, checks_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "testing.md"


def documented():
    """The rows of the page's tables: each check's name and meaning."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return dict(rows), [name for name, _ in rows]


def defined():
    """Each check's name, and the first line of its docstring."""
    found = {}
    for key in CHECKS:
        for name, check in checks_of(*reversed(key.split())).items():
            found[name] = check.__doc__.strip().partition("\n")[0]
    return found


def test_the_page_lists_every_check_once_with_the_meaning_that_its_docstring_gives():
    meanings, names = documented()
    assert len(names) == len(set(names))
    assert meanings == defined()


def test_every_check_is_public():
    assert {f"check_{name}" for name in defined()} == {
        name for name in mmreg.testing.__all__ if name.startswith("check_")
    }


@pytest.mark.parametrize("attribute", ["options", "specs", "values", "bad_values", "targets", "references"])
def test_the_page_explains_the_material(attribute):
    assert f"`{attribute}`" in PAGE.read_text("utf-8")
    assert attribute in mmreg.testing.Subject.__dataclass_fields__
