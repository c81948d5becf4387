"""Every example in a docstring of the core and the bundled plugins does what it shows."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (ROOT / "core", ROOT / "plugins")
    for path in sorted(folder.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
}
"""The modules that hold an example, by name."""


@pytest.mark.parametrize("name", MODULES)
def test_every_example_of_a_module_does_what_it_shows(name: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    shown = re.findall(r"^ *>>> ", MODULES[name].read_text(encoding="utf-8"), re.MULTILINE)
    assert runner.tries == len(shown), "doctest finds no example outside of a module's own docstrings"
