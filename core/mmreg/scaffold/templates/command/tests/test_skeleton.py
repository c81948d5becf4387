"""What this command prints of runs."""

import json
from pathlib import Path

from mmreg_skeleton.command import app
from typer.testing import CliRunner, Result

from mmreg.errors import RunError


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def write_run(folder: Path, accuracy: float) -> Path:
    folder.mkdir()
    metrics = {"accuracy": accuracy, "modalities": {}}
    (folder / "report.json").write_text(json.dumps({"test": {"rows": 50, "metrics": metrics}}))
    return folder


def test_a_run_is_a_line(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, accuracy) for name, accuracy in (("a", 0.5), ("b", 0.75))]
    done = call(*runs, "--format", "json")
    assert json.loads(done.stdout) == [
        {"run": str(runs[0]), "rows": 50, "accuracy": 0.5},
        {"run": str(runs[1]), "rows": 50, "accuracy": 0.75},
    ]
    lines = call(*runs).stdout.splitlines()
    assert lines[0].split() == ["run", "rows", "accuracy"]
    assert [line.split()[1:] for line in lines[1:]] == [["50", "0.5"], ["50", "0.75"]]


def test_a_run_without_such_figures_is_refused(tmp_path: Path) -> None:
    assert isinstance(call(tmp_path).exception, RunError)
    assert isinstance(call(write_run(tmp_path / "a", 0.5), "--split", "validation").exception, RunError)
