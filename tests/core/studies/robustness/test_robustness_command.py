"""`mmreg evaluate` with `--missing`, `--missing-rate`, `--corrupt` and `--plot`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import toys
from typer.testing import CliRunner, Result

import mmreg
from mmreg.cli.app import build_app
from mmreg.errors import OptionError
from mmreg.studies.robustness import evaluate_robustness
from mmreg.studies.robustness.plotting import PlotError


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the same table, which has rows without any modality."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    toys.register()
    base = tmp_path_factory.mktemp("runs")
    pq.write_table(pa.Table.from_pylist(toys.rows(100, absent=0.3)), base / "table.parquet")
    for name in ("concat", "mean"):
        recipe = toys.recipe(str(base / "table.parquet"), fusion=name)
        mmreg.train(recipe, base / name, device="cpu", overrides=["training.epochs=2"])
    return base


def evaluate(*words: Any) -> Result:
    result = CliRunner().invoke(build_app(), ["evaluate", *map(str, words), "--device", "cpu"])
    if result.exception is not None:
        raise result.exception
    return result


def test_without_these_options_it_measures_as_ever(folder: Path) -> None:
    document = json.loads(evaluate(folder / "concat", "--format", "json").stdout)
    assert document == mmreg.load(folder / "concat", "cpu").evaluate()
    result = evaluate(folder / "concat")
    assert "Accuracy: " in result.stdout
    assert " no modality at all; " in result.stderr


def test_json_has_what_python_gives(folder: Path) -> None:
    words = ["--missing", "all", "--missing-rate", "0..0.9", "--corrupt", "a:noise=0..0.5,b:noise=1"]
    result = evaluate(folder / "concat", *words, "--baseline", folder / "mean", "--seed", 3, "--format", "json")
    run, baseline = (mmreg.load(folder / name, "cpu") for name in ("concat", "mean"))
    expected = evaluate_robustness(
        run,
        missing=True,
        rates=[index / 10 for index in range(10)],
        corruptions="a:noise=0..0.5,b:noise=1",
        baseline=baseline,
        seed=3,
    )
    document = json.loads(result.stdout)
    assert document == json.loads(json.dumps(expected))
    assert [subset["modalities"] for subset in document["subsets"]] == [["a"], ["b"], ["a", "b"]]
    assert [point["rate"] for point in document["rates"]] == [index / 10 for index in range(10)]


def test_tables_have_a_row_for_each_measurement(folder: Path) -> None:
    words = ["--missing", "all", "--missing-rate", "0,0.5", "--corrupt", "a:noise=1", "--corrupt", "b:noise=1"]
    result = evaluate(folder / "concat", *words, "--metric", "log_loss")
    lines = result.stdout.splitlines()
    start = lines.index("test rows with each subset of the modalities")
    assert lines[start + 1].split()[:3] == ["modalities", "rows", "accuracy"]
    assert "log_loss" in lines[start + 1]
    assert [line.split()[:2] for line in lines[start + 2 : start + 5]] == [["a", "20"], ["b", "20"], ["a+b", "20"]]
    assert any(line.startswith("missing rate") for line in lines)
    assert sum(line.startswith("strength") for line in lines) == 2
    assert "baseline" not in result.stdout
    assert "a:noise" in lines[-2]
    assert "b:noise" in lines[-1]
    assert "they get the training prior" in result.stderr
    assert "give one by --baseline RUN" in result.stderr


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_plot_is_written_beside_the_result(folder: Path, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{ending}"
    words = ["--missing", "all", "--missing-rate", "0,0.5", "--corrupt", "a:noise=1", "--baseline", folder / "mean"]
    result = evaluate(folder / "concat", *words, "--plot", path, "--format", "json")
    assert json.loads(result.stdout)["subsets"]
    signature = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(signature)


def test_a_plot_names_what_it_shows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    words = ["--missing", "all", "--missing-rate", "0,0.5", "--corrupt", "a:noise=1", "--baseline", folder / "mean"]
    evaluate(folder / "concat", *words, "--plot", tmp_path / "plot.png")
    subsets, rates, noise = drawn[0].axes
    assert [label.get_text() for label in subsets.get_yticklabels()] == ["a", "b", "a + b"]
    assert rates.get_xlabel() == "share of rows that lose each modality"
    assert noise.get_title() == "a: noise"
    assert [text.get_text() for text in noise.get_legend().get_texts()] == ["this run", "baseline"]
    assert rates.get_ylim() == noise.get_ylim()


def test_a_missing_matplotlib_is_told_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("mmreg.runs.load", lambda *_: pytest.fail("the run was loaded"))
    with pytest.raises(PlotError, match=r"pip install 'mmreg\[plot\]'"):
        evaluate(folder / "concat", "--missing", "all", "--plot", tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "plot.png"], "--plot draws"),
        (["--missing", "all", "--plot", "plot.gif"], "must end in .png, .svg, .pdf"),
        (["--missing", "all", "--plot", "no/such/plot.png"], "a folder that exists"),
        (["--baseline", "mean"], "--baseline is compared with under --corrupt"),
        (["--missing-rate", "2"], "from 0 to 1"),
        (["--corrupt", "a=1"], "no MODALITY:CORRUPTION"),
        (["--corrupt", "a:blur=1"], "blur does not fit a"),
    ],
)
def test_what_cannot_be_done_is_an_option_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(OptionError, match=message):
        evaluate("concat", *words)


def test_a_sample_of_the_subsets_is_told(tmp_path: Path) -> None:
    names = "abcdef"
    table: list[dict[str, Any]] = [{**row, **dict.fromkeys("cdef", row["a"])} for row in toys.rows(40)]
    recipe = toys.recipe(table, modalities={name: {"type": "numbers"} for name in names})
    mmreg.train(recipe, tmp_path / "run", device="cpu", overrides=["training.epochs=1"])
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table.parquet")
    result = evaluate(tmp_path / "run", tmp_path / "table.parquet", "--missing", "all")
    assert "32 of 63 subsets of the modalities" in result.stdout
    assert "a sample of the subsets is measured (seed 0)" in result.stderr
