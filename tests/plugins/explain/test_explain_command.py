"""`mmreg explain`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import rows_of, trained
from typer.testing import CliRunner

from mmreg import registry
from mmreg.errors import MmregError
from mmreg_explain import command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    trained(folder / "run", lambda third: np.where(third["m0"] > 0, "yes", "no"), epochs=8)
    rows = rows_of(lambda third: third["m0"] > 0, rows=15, seed=2)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def call(folder: Path, *arguments: str) -> Any:
    fixed = [str(folder / "run"), str(folder / "rows.jsonl"), "--device", "cpu"]
    return CliRunner().invoke(command.app, [*fixed, *arguments])


def refused(folder: Path, *arguments: str) -> str:
    result = call(folder, *arguments)
    assert isinstance(result.exception, MmregError), result.output
    return str(result.exception)


def test_the_command_comes_through_the_hook_of_a_bundled_plugin() -> None:
    plugin = next(plugin for plugin in registry.all_plugins() if plugin.entry_point == "explain")
    assert (plugin.distribution, plugin.status, list(plugin.hooks)) == (
        "mmreg",
        "ok",
        ["mmreg_commands", "mmreg_sections"],
    )


def test_help_and_listing_import_neither_torch_nor_captum() -> None:
    code = (
        "import sys, mmreg_explain.plugin as p; p.mmreg_commands(); import mmreg_explain.command; "
        "sys.exit(bool({'torch', 'captum', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_rows_that_are_shared_out_are_printed(folder: Path) -> None:
    result = call(folder, "--top", "3")
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.splitlines()
    assert lines[0] == "probability of the predicted class: 15 rows, 2 modalities, all 4 subsets"
    assert lines[1].split() == ["modality", "rows", "share", "decided", "mean", "size", "mean"]
    assert next(line for line in lines if line.startswith("only together: InterSHAP 0."))
    header = next(line for line in lines if line.startswith("row "))
    assert header.split() == ["row", "output", "predicted", "prior", "m0", "m1", "InterSHAP"]
    assert lines[-1] == "and 12 more rows; --top shows more, --out writes all"


def test_all_of_it_is_written_as_json_and_printed_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "explained.json"
    result = call(folder, "--out", str(out), "--rows", "2,4..5", "--of", "yes", "--format", "json", "--quiet")
    assert result.exit_code == 0, (result.output, result.exception)
    data = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == data
    assert [row["row"] for row in data["rows"]] == [2, 4, 5]
    for row in data["rows"]:
        assert sum(row["shapley"].values()) == pytest.approx(row["value"] - row["base"], abs=1e-6)
        assert row["output"] == "yes"


def test_what_counts_within_a_modality_is_printed(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    out = tmp_path / "within.json"
    result = call(folder, "--rows", "1..3", "--within", "m0", "--top", "2", "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.splitlines()
    assert lines[0] == "numbers of m0, integrated_gradients: 3 rows"
    assert lines[2].startswith("number 3")
    assert "and 2 more numbers" in lines
    assert "and 1 more number" in call(folder, "--rows", "1", "--within", "m0", "--top", "3").stdout.splitlines()
    data = json.loads(out.read_text(encoding="utf-8"))
    assert [len(row["parts"]) for row in data["rows"]] == [4, 4, 4]


def test_mistakes_are_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    assert "no row 99" in refused(folder, "--rows", "99")
    assert "such as 3,7..9; found 'two'" in refused(folder, "--rows", "1,two")
    assert "found '5..2'" in refused(folder, "--rows", "5..2")
    assert "must end in .json" in refused(folder, "--out", "found.csv")
    assert "there is no folder" in refused(folder, "--out", str(tmp_path / "gone" / "found.json"))
    (tmp_path / "found.json").mkdir()
    assert "is a folder; name a file" in refused(folder, "--out", str(tmp_path / "found.json"))
    assert "name it by --within" in refused(folder, "--method", "occlusion")
    assert "it has m0, m1" in refused(folder, "--within", "image")
