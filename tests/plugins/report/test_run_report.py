"""The report of a run tells what its folder holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmreg.errors import RunError
from mmreg_report.callback import ReportWriter
from mmreg_report.markdown import render, sparkline
from mmreg_report.reading import read_run
from mmreg_report.tables import classes


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page needs a run with its model, which is not what these tests are about."""
    monkeypatch.setattr("mmreg_report.callback.write_page", lambda run: None)


def component(name: str, distribution: str = "mmreg", version: str = "0.1.0") -> dict[str, str]:
    return {"name": name, "distribution": distribution, "version": version}


def figures(rows: int, accuracy: float, **parts: float) -> dict[str, Any]:
    per_class = {
        "a|b": {"precision": 0.5, "recall": 1.0, "rows": 2},
        "c": {"precision": 1.0, "recall": 0.25, "rows": 4},
    }
    modalities = {name: {"rows": rows - 1, "accuracy": value} for name, value in parts.items()}
    metrics = {"accuracy": accuracy, "confusion": [[1]], "per_class": per_class, "modalities": modalities}
    metrics |= {"intervals": {"accuracy": [0.25, 0.9375]}, "baseline": {"prediction": "c", "accuracy": 0.5}}
    return {"split": "x", "rows": rows, "metrics": metrics}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder as far as the report reads it."""
    folder = tmp_path / "my run"
    folder.mkdir()
    report = {
        "epochs": 30,
        "steps": 90,
        "best": {"metric": "accuracy", "value": 0.75, "epoch": 8},
        "validation": figures(12, 0.75, image=0.5, text=0.625),
        "test": figures(10, 0.7, image=0.4, text=0.6),
    }
    components = {
        "mmreg": "0.1.0",
        "components": {"task": component("classification"), "encoder/text": component("tiny", "mmreg-two", "2.5")},
        "table": {"name": "rows.csv", "rows": {"train": 1234, "validation": 12, "test": 10}},
    }
    lines = ["epoch,step,train_loss,train_text_loss,validation_loss,validation_accuracy"]
    lines += [f"{n},{3 * n},{1 / n},9.0,{'' if n == 2 else 2 / n},{n / 100}" for n in range(1, 31)]
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "components.json").write_text(json.dumps(components))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def cells(text: str, title: str) -> list[list[str]]:
    """The cells of the table in a section."""
    section = text.partition(f"## {title}")[2].partition("\n## ")[0]
    rows = [[each.strip() for each in line[1:-1].split(" | ")] for line in section.splitlines() if line.startswith("|")]
    return [row for row in rows if set("".join(row)) != {"-"}]


def test_notes_are_told_where_there_are_some(folder: Path) -> None:
    assert "## Notes" not in render(read_run(folder))
    path = folder / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "notes": ["a cell\ncannot be loaded", "gone on with"]}))
    assert "\n\n## Notes\n\n- a cell cannot be loaded\n- gone on with\n\n" in render(read_run(folder))


def test_what_was_trained_after_the_figures_is_left_out_and_told(folder: Path) -> None:
    whole = read_run(folder)
    table = folder / "metrics.csv"
    table.write_text(table.read_text() + "31,93,0.1,9.0,0.1,0.99\n32,96,0.1,9.0,0.1,0.99\n")
    (folder / "timings.csv").write_text("epoch,seconds\n30,2\n31,2\n")
    facts = read_run(folder)
    assert facts.history == whole.history
    assert [row["epoch"] for row in facts.timings] == ["30"]
    assert "- trained on to epoch 32 since, and not finished: what is here is of the 30 before\n" in render(facts)


def test_figures_are_told_by_split_and_part_beside_interval_and_baseline(folder: Path) -> None:
    assert cells(render(read_run(folder)), "Figures") == [
        ["split", "part", "rows", "accuracy", "accuracy 95% interval"],
        ["validation", "all", "12", "0.75", "0.25 to 0.938"],
        ["validation", "image", "11", "0.5", ""],
        ["validation", "text", "11", "0.625", ""],
        ["validation", "always c", "12", "0.5", ""],
        ["test", "all", "10", "0.7", "0.25 to 0.938"],
        ["test", "image", "9", "0.4", ""],
        ["test", "text", "9", "0.6", ""],
        ["test", "always c", "10", "0.5", ""],
    ]


def test_the_summary_tells_rows_and_the_best_epoch(folder: Path) -> None:
    text = render(read_run(folder))
    assert text.startswith("# Run my run\n")
    assert "- table: rows.csv (1,234 train, 12 validation, 10 test rows)" in text
    assert "- 30 epochs, 90 steps\n" in text
    assert "- weights of epoch 8, the best by validation accuracy (0.75)" in text


def test_components_are_told_with_their_versions(folder: Path) -> None:
    assert cells(render(read_run(folder)), "Components")[1:] == [
        ["task", "classification", "mmreg", "0.1.0"],
        ["encoder/text", "tiny", "mmreg-two", "2.5"],
    ]


def test_a_class_without_rows_has_dashes_and_no_zeros(folder: Path) -> None:
    path = folder / "report.json"
    report = json.loads(path.read_text())
    report["test"]["metrics"]["per_class"]["never"] = {"precision": None, "recall": None, "rows": 0}
    path.write_text(json.dumps(report))
    assert cells(render(read_run(folder)), "Classes (test rows)")[-1] == ["never", *"\N{EN DASH}\N{EN DASH}", "0"]
    (_, rows) = classes(read_run(folder))[0]
    assert rows[-1] == {"name": "never", "precision": "\N{EN DASH}", "recall": "\N{EN DASH}", "rows": 0}


def test_classes_are_told_and_a_name_cannot_break_the_table(folder: Path) -> None:
    text = render(read_run(folder))
    assert "## Classes (test rows)" in text
    assert "| a\\|b | 0.5 | 1 | 2 |" in text


def test_the_learning_curve_shows_few_epochs_with_the_best_and_the_last(folder: Path) -> None:
    rows = cells(render(read_run(folder)), "Learning curve")
    assert rows[0] == ["epoch", "train_loss", "validation_loss", "validation_accuracy"]
    epochs = [int(row[0]) for row in rows[1:]]
    assert len(epochs) <= 14
    assert {1, 8, 30} <= set(epochs)
    assert rows[1] == ["1", "1", "2", "0.01"]


def test_a_run_without_rows_to_measure_on_says_so(folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps({"epochs": 1, "steps": 1}))
    text = render(read_run(folder))
    assert "There were neither validation nor test rows to measure on." in text
    assert "- weights of the last epoch" in text
    assert "## Classes" not in text


def test_a_sparkline_goes_from_its_least_to_its_greatest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, None, float("nan"), 0]) == "█  ▁"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([None]) == ""
    assert len(sparkline(list(range(1000)))) == 40


def test_the_callback_writes_the_report_and_first_removes_an_old_one(folder: Path) -> None:
    run: Any = SimpleNamespace(folder=folder)
    for name in ("report.md", "curves.png"):
        (folder / name).write_text("old")
    ReportWriter().on_start(run, {})
    assert not (folder / "report.md").exists()
    assert not (folder / "curves.png").exists()
    ReportWriter().on_end(run, {})
    assert (folder / "report.md").read_text(encoding="utf-8") == render(read_run(folder))


@pytest.mark.usefixtures("curves")
def test_curves_are_drawn_where_matplotlib_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(folder=folder)
    pytest.importorskip("matplotlib")
    ReportWriter().on_end(run, {})
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    (folder / "curves.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ReportWriter().on_end(run, {})
    assert not (folder / "curves.png").exists()


@pytest.mark.usefixtures("curves")
def test_files_are_written_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure

    def stopped(self: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(figure, "savefig", stopped)
    before = {path.name for path in folder.iterdir()}
    run: Any = SimpleNamespace(folder=folder)
    with pytest.raises(OSError, match="full"):
        ReportWriter().on_end(run, {})
    assert {path.name for path in folder.iterdir()} - before == {"report.md"}  # and it is whole
    assert (folder / "report.md").read_text(encoding="utf-8").endswith("Written by mmreg 0.1.0.\n")
    monkeypatch.setattr("mmreg_report.callback.render", lambda facts: "\ud800 cannot be written")
    whole = (folder / "report.md").read_bytes()
    with pytest.raises(UnicodeEncodeError):
        ReportWriter().on_end(run, {})
    assert (folder / "report.md").read_bytes() == whole


def test_the_plugin_module_is_light() -> None:
    code = "import sys, mmreg_report.plugin; sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_summary_tells_the_rows_a_batch_that_were_found(folder: Path) -> None:
    facts = json.loads((folder / "components.json").read_text())
    (folder / "components.json").write_text(json.dumps({**facts, "batch_size": 128}))
    assert "- 30 epochs, 90 steps of 128 rows, as many as were found to pay\n" in render(read_run(folder))


def test_folds_are_told_with_mean_and_deviation_beside_the_figures_out_of_fold(folder: Path) -> None:
    accuracies = [0.5, 0.75, 0.625]
    folds = [{"name": f"fold-{n}", "rows": 10, "metrics": {"accuracy": a}} for n, a in enumerate(accuracies, 1)]
    report = {"fused": ["cv/fold-1"], "folds": folds, "out_of_fold": figures(30, 0.6)}
    (folder / "report.json").write_text(json.dumps(report))
    text = render(read_run(folder))
    assert cells(text, "Figures")[1][:4] == ["out of fold", "all", "30", "0.6"]
    assert "neither validation nor test" not in text
    assert cells(text, "Folds (rows out of fold)") == [
        ["training", "rows", "accuracy"],
        *([f"fold-{n}", "10", str(a)] for n, a in enumerate(accuracies, 1)),
        ["mean", "", "0.625"],
        ["deviation", "", "0.125"],
    ]
    assert "## Classes (rows out of fold)" in text


def test_seeds_are_told_by_split(folder: Path) -> None:
    seeds = {"test": [{"name": f"seed-{n}", "rows": 10, "metrics": {"mae": 1.0 + n}} for n in (0, 1)]}
    report = {"fused": ["run/seed-0"], "seeds": seeds, "test": figures(10, 0.6)}
    (folder / "report.json").write_text(json.dumps(report))
    text = render(read_run(folder))
    assert "A part is measured on" not in text
    rows = cells(text, "Seeds (test rows)")
    assert [row[0] for row in rows] == ["training", "seed-0", "seed-1", "mean", "deviation"]
    assert [row[2] for row in rows] == ["mae", "1", "2", "1.5", "0.7071"]
    report["test"]["metrics"]["modalities"] = {"seed-0": {"rows": 9, "accuracy": 0.7}}
    (folder / "report.json").write_text(json.dumps(report))
    told = "A part is measured on the rows that have something of what it reads. The trainings are measured on all rows"
    assert told in render(read_run(folder))


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        ([8, 5, 6], "- mean of the weights of the epochs 8, 5, 6 (soup; validation accuracy 0.8125)"),
        (
            [8],
            "- weights of epoch 8, the best by validation accuracy (0.8125): no other epoch's made them better (soup)",
        ),
    ],
)
def test_the_summary_tells_the_epochs_of_a_soup(folder: Path, epochs: list[int], told: str) -> None:
    report = json.loads((folder / "report.json").read_text())
    del report["best"]
    report["soup"] = {"metric": "accuracy", "value": 0.8125, "epochs": epochs}
    (folder / "report.json").write_text(json.dumps(report))
    text = render(read_run(folder))
    assert f"{told}\n" in text
    assert "validation_accuracy" in text


def test_metrics_that_were_cut_anywhere_are_refused(folder: Path) -> None:
    whole = (folder / "metrics.csv").read_bytes()
    for length in (0, 3, whole.index(b"\n"), whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1):
        (folder / "metrics.csv").write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"metrics\.csv"):
            read_run(folder)
    (folder / "metrics.csv").write_bytes(whole)
    assert len(read_run(folder).history) == 30
