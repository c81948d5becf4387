"""What a plugin author reads and copies (bundled plugins, examples, templates, pages) names public things alone.

Imports for type checkers alone count too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmreg

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for folder in ("plugins", "docs/examples", "core/mmreg/scaffold/templates")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "docs/getting-started.md",
        "docs/plugins.md",
        "docs/reference/hooks.md",
        "docs/reference/testing.md",
    )
]
MODULES = {"mmreg", *(f"mmreg.{name}" for name in mmreg.__all__ if inspect.ismodule(getattr(mmreg, name)))}


def source_of(path: Path) -> str:
    """A file's code; of a page its lines that import something of mmreg."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join(line.strip() for line in text.splitlines() if re.match(r"\s*(from|import) mmreg[. ]", line))


def imports(source: str) -> Iterator[tuple[str, str]]:
    """The modules of mmreg that are imported, each with the name that is taken from it, or with ""."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if each.name.partition(".")[0] == "mmreg")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mmreg":
            yield from ((node.module or "", each.name) for each in node.names)


def is_public(module: str, name: str) -> bool:
    if module not in MODULES:
        return False
    there = importlib.import_module(module)
    return not name or (name in getattr(there, "__all__", dir(there)) and not name.startswith("_"))


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_that_is_imported_of_mmreg_is_public(path: Path) -> None:
    hidden = [each for each in imports(source_of(path)) if not is_public(*each)]
    assert not hidden


def test_what_is_not_public_is_told() -> None:
    source = """
if TYPE_CHECKING:
    from mmreg.contract.spec import Spec
from mmreg import Spec, layers, Absent
from mmreg.layers import length_mask
import mmreg.registry.options
import mmreg
"""
    assert {each for each in imports(source) if not is_public(*each)} == {
        ("mmreg.contract.spec", "Spec"),
        ("mmreg", "Absent"),
        ("mmreg.registry.options", ""),
    }
