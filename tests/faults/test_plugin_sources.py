"""Tables from places that plugins read, and what is said where they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from wheels import python

CODE = """
import json, sys
from pathlib import Path
from mmreg.data.sources import open_table
from mmreg.errors import TableError

results = {}
for name in sys.argv[1:]:
    try:
        table = open_table(name, Path("folder") if name.endswith((".csv", ".words", ".WORDS", ".other")) else None)
        results[name] = [table.name, str(table.folder), table.columns, len(table)]
    except TableError as error:
        results[name] = str(error)
print(json.dumps(results))
"""
NAMES = (
    "lines://folder/table.csv",
    "LINES://folder/table.csv",
    "table.csv",
    "some.words",
    "some.WORDS",
    "some.other",
    "broken://user:secret@host/table",
    "number://three",
    "lost://one",
    "twice://one",
    "line://one",
)


@pytest.fixture(scope="module")
def opened(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> CompletedProcess[str]:
    base = tmp_path_factory.mktemp("sources")
    (base / "folder").mkdir()
    (base / "folder/table.csv").write_text("a,b\n1,2\n3,4\n")
    for ending in ("words", "WORDS", "other"):
        (base / f"folder/some.{ending}").write_text("three small words")
    found = python("-c", CODE, *NAMES, path=everything, cwd=base)
    assert found.returncode == 0, found.stderr
    return found


def result(opened: CompletedProcess[str], name: str) -> list[object] | str:
    found: list[object] | str = json.loads(opened.stdout)[name]
    return found


def test_a_scheme_is_read_by_its_plugin(opened: CompletedProcess[str]) -> None:
    assert result(opened, "lines://folder/table.csv") == ["lines://folder/table.csv", "folder", ["a", "b"], 2]


def test_an_ending_is_read_by_its_plugin_and_cells_are_relative_to_the_file(opened: CompletedProcess[str]) -> None:
    for name in ("some.words", "some.WORDS"):
        found = result(opened, name)
        assert found[0] == name
        assert Path(str(found[1])).name == "folder"
        assert Path(str(found[1])).is_absolute()
        assert found[2:] == [["word"], 3]


def test_what_mmreg_reads_itself_it_reads_itself(opened: CompletedProcess[str]) -> None:
    assert result(opened, "table.csv") == ["table.csv", "folder", ["a", "b"], 2]


def test_what_nobody_reads_is_said_as_without_plugins(opened: CompletedProcess[str]) -> None:
    assert "a table's file ends in one of .csv" in result(opened, "some.other")
    said = str(result(opened, "line://one"))
    assert said.startswith("no installed plugin reads tables from line://; did you mean 'lines'")
    there = said.partition("there are plugins for ")[2]
    assert all(f"{name}://" in there for name in ("broken", "lines", "lost", "number", "sqlite", "twice"))


def test_errors_of_a_plugin_name_it_and_no_password(opened: CompletedProcess[str]) -> None:
    assert result(opened, "broken://user:secret@host/table") == (
        "the table 'broken://host/table' cannot be read by sources (mmreg-sources 1.0): "
        "RuntimeError: no connection to it"
    )
    assert "number://three: a table is a path, a data frame" in result(opened, "number://three")
    assert "the source 'lost' of sources (mmreg-sources 1.0) names a module that does not exist" in str(
        result(opened, "lost://one")
    )


def test_a_place_that_two_plugins_read_is_an_error_that_names_both(opened: CompletedProcess[str]) -> None:
    assert result(opened, "twice://one") == (
        "twice:// is read by more than one plugin: more-sources (mmreg-more-sources 1.0) and "
        "sources (mmreg-sources 1.0); leave one out by --no-plugin"
    )


def test_what_a_source_prints_is_kept_from_stdout(opened: CompletedProcess[str]) -> None:
    assert "NOISE" in opened.stderr
    assert "NOISE" not in opened.stdout
