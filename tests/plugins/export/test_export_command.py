"""`mmreg export`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
import torch
from typer.testing import CliRunner
from vector_runs import recipe

import mmreg
from mmreg import registry
from mmreg.errors import MmregError, RunError
from mmreg_export import command

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command") / "run"
    mmreg.train(recipe(), folder, device="cpu")
    return folder


def call(*arguments: object) -> Any:
    return CliRunner().invoke(command.app, list(map(str, arguments)))


def refused(*arguments: object) -> str:
    """What the error says that the command line ends with; its exit code is that of a user's mistake."""
    error = call(*arguments).exception
    assert isinstance(error, MmregError), error
    assert error.exit_code == 2
    return str(error)


def test_the_command_comes_through_the_hook_of_a_bundled_plugin() -> None:
    plugin = next(plugin for plugin in registry.all_plugins() if plugin.entry_point == "export")
    assert (plugin.distribution, plugin.status, list(plugin.hooks)) == ("mmreg", "ok", ["mmreg_commands"])


def test_help_and_listing_import_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, mmreg_export.plugin as p; p.mmreg_commands(); import mmreg_export.command; "
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_file_and_its_description_are_named_and_one_that_is_there_is_kept(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    result = call(run_folder, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"{out} (" in result.output
    assert "model.pt2.json says what it takes and gives" in result.output
    assert json.loads((tmp_path / "model.pt2.json").read_text())["format"] == "torch-export"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.pt2.json"]
    assert torch.export.load(out).module() is not None
    before = out.read_bytes()
    assert "is there already; replace it by --overwrite" in refused(run_folder, "--out", out)
    assert out.read_bytes() == before


def test_a_file_that_is_there_is_replaced_where_asked_for(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def failing(run: Any, form: str, out: Path, tell: Any, **wanted: bool) -> None:
        asked.append((form, out))
        raise RunError("that far")

    monkeypatch.setattr("mmreg_export.export.export", failing)
    out = tmp_path / "model.pt2"
    out.write_bytes(b"earlier")
    assert refused(run_folder, "--out", out, "--overwrite") == "that far"
    assert asked == [("torch-export", out)]
    assert out.read_bytes() == b"earlier"  # of a failure, nothing is lost


def test_a_folder_is_no_file_to_write(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").mkdir()
    assert "model.pt2' is a folder; name a file" in refused(run_folder, "--out", tmp_path / "model.pt2")
    (tmp_path / "other.pt2.json").mkdir()
    told = refused(run_folder, "--out", tmp_path / "other.pt2", "--overwrite")
    assert "other.pt2.json' is a folder; name a file" in told
    assert not (tmp_path / "other.pt2").exists()


def test_an_unknown_format_and_an_ending_of_another_are_told(run_folder: Path, tmp_path: Path) -> None:
    assert "--format must be torch-export or onnx, found 'tflite'" in refused(run_folder, "--format", "tflite")
    assert "--out must end in .pt2 for --format torch-export" in refused(run_folder, "--out", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be_is_told_before_anything_is_loaded(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in refused(run_folder, "--out", tmp_path / "file" / "model.pt2")


def test_the_runners_command_can_be_typed_where_a_name_has_a_blank(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "my model" / "model.onnx"
    result = call(run_folder, "--format", "onnx", "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"python '{out.with_name('runner.py')}' TABLE" in result.output


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_is_no_run_is_told_and_left_as_it_is(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "nothing"
    if made:
        folder.mkdir()
    assert "nothing" in refused(folder)
    assert folder.exists() == made
    assert not made or not list(folder.iterdir())


def test_the_command_line_leaves_with_the_code_of_a_mistake_and_without_a_traceback(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = small.call(monkeypatch, capsys, "export", str(tmp_path))
    assert (nothing.code, nothing.out) == (2, "")
    assert str(tmp_path) in nothing.err.replace("\n", "")
    assert small.call(monkeypatch, capsys, "export", str(run_folder), "--format", "tflite").code == 2


def test_packages_that_onnx_needs_are_named_with_what_installs_them(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in ("onnx", "onnxscript") else object())
    told = refused(run_folder, "--format", "onnx", "--out", tmp_path / "model.onnx")
    assert told == "--format onnx needs onnx, onnxscript, not installed here: pip install 'mmreg[export]'"
