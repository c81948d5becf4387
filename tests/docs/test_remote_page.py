"""The page about tables elsewhere names every place, extra and limit that there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mmreg_remote import web
from mmreg_remote.plugin import SCHEMES
from mmreg_remote.tar import NUMBERS, TEXTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "remote.md").read_text(encoding="utf-8")


def test_it_is_in_the_navigation_and_on_the_first_page() -> None:
    assert "remote.md" in (ROOT / ".ci" / "mkdocs.yml").read_text()
    assert "remote.md" in (ROOT / "docs" / "index.md").read_text()


def test_every_scheme_is_in_its_table() -> None:
    assert {scheme for scheme in SCHEMES if f"`{scheme}://" in PAGE} == set(SCHEMES)


def test_the_extras_that_it_names_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"mmreg\[(\w+)\]", PAGE)) == {"remote", "datasets"} <= set(extras)


def test_the_endings_and_limits_that_it_names_are_those_of_the_code() -> None:
    from mmreg.data.fetched import LARGEST, LIMIT
    from mmreg_remote.fetching import AT_A_TIME

    assert all(f"`{ending}`" in PAGE for ending in NUMBERS | TEXTS)
    assert (AT_A_TIME, LARGEST, web.SILENT_SECONDS) == (16, 2_000_000_000, 60)
    assert f"`{LIMIT}=10GB`" in PAGE
