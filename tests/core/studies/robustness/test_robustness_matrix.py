"""`mmreg robustness`: the matrix of missing rates in training x in use, against one that is worked out row by row."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from typer.testing import CliRunner, Result

import mmreg
from mmreg.cli.app import build_app
from mmreg.contract.callback import TRAINING
from mmreg.data.table import read_table
from mmreg.errors import OptionError, RunError, TrainingError
from mmreg.experiment import lost_modalities
from mmreg.studies.compare import grid
from mmreg.studies.robustness import Cell, RobustnessMatrix, run_matrix
from mmreg.studies.robustness.matrix import BASELINE, best_present
from mmreg.studies.robustness.measures import evaluate_robustness

ROWS = toys.rows(150, absent=0.1)
RATES = [0.0, 0.6]
SEEDS = [0, 3]
PLAIN = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "Adam", "lr": 0.03}, "deterministic": True}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


class Listening(mmreg.Callback):
    def __init__(self) -> None:
        self.trained: list[str] = []

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        if what == TRAINING and done > len(self.trained):
            self.trained.append(note.partition(":")[0])


def study(folder: Path, fusions: Any = ("concat", "product"), **options: Any) -> RobustnessMatrix:
    changes = options.pop("changes", {})
    chosen = {"training_rates": RATES, "use_rates": RATES, "seeds": SEEDS, **options}
    return run_matrix(toys.recipe(ROWS, training=PLAIN, **changes), folder, fusions=fusions, device="cpu", **chosen)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RobustnessMatrix]:
    toys.register()
    folder = tmp_path_factory.mktemp("robust") / "study"
    matrix: RobustnessMatrix = study(folder)
    return folder, matrix


def run_of(folder: Path, name: str, rate: float, seed: int) -> mmreg.Run:
    return mmreg.load(folder / "runs" / f"{name}_{rate:g}_missing" / f"seed-{seed}", "cpu")


def in_use(rate: float, seed: int) -> list[dict[str, Any]]:
    """The test rows with the cells empty that they lose at a rate."""
    lost = lost_modalities(read_table(ROWS), {"a": ["a"], "b": ["b"]}, rate, seed, "use")
    return [
        {**row, **{name: None for name in "ab" if lost[name][number]}}
        for number, row in enumerate(ROWS)
        if row["split"] == "test"
    ]


def right(run: mmreg.Run, rows: list[dict[str, Any]]) -> list[bool]:
    """Which rows a run predicts as they are labelled."""
    return [predicted["label"] == row["label"] for predicted, row in zip(run.predict(rows), rows, strict=True)]


def worked_out(folder: Path) -> Iterator[tuple[str, float, float, int, list[bool]]]:
    """For each name, rate in training and in use, and seed, which rows are right."""
    for rate in RATES:
        for seed in SEEDS:
            alone = {name: run_of(folder, f"{name}_alone", rate, seed) for name in "ab"}
            figures = {name: run.report["validation"]["metrics"]["accuracy"] for name, run in alone.items()}
            best, other = sorted("ab", key=lambda name: -figures[name])
            for use in RATES:
                rows = in_use(use, seed)
                correct = {name: right(run, rows) for name, run in alone.items()}
                present = [
                    correct[best if row[best] is not None or row[other] is None else other][at]
                    for at, row in enumerate(rows)
                ]
                yield BASELINE, rate, use, seed, present
                for name in "ab":
                    yield f"{name} alone", rate, use, seed, correct[name]
                for name in ("concat", "product"):
                    yield name, rate, use, seed, right(run_of(folder, name, rate, seed), rows)


def test_every_cell_is_what_prediction_by_prediction_gives(finished: tuple[Path, RobustnessMatrix]) -> None:
    folder, matrix = finished
    expected: dict[tuple[str, float, float], dict[int, list[bool]]] = {}
    for name, rate, use, seed, correct in worked_out(folder):
        expected.setdefault((name, rate, use), {})[seed] = correct
    assert len(matrix.cells) == len(expected) == 5 * 4
    for cell in matrix.cells:
        own = [statistics.fmean(correct) for correct in expected[cell.name, cell.training, cell.use].values()]
        assert (cell.seeds, cell.mean) == (2, pytest.approx(statistics.fmean(own), abs=1e-6))
        assert cell.deviation == pytest.approx(statistics.stdev(own), abs=1e-6)
        if cell.kind != "fusion":
            assert (cell.difference, cell.standard_error) == (None, None)
            continue
        baseline = expected[BASELINE, cell.training, cell.use]
        leads = np.mean(
            [
                np.subtract(expected[cell.name, cell.training, cell.use][seed], baseline[seed], dtype=float)
                for seed in SEEDS
            ],
            axis=0,
        )
        assert cell.difference == pytest.approx(leads.mean(), abs=1e-6)
        assert cell.standard_error == pytest.approx(leads.std() / len(leads) ** 0.5, rel=0.2)


def test_recipes_of_the_runs_say_what_was_missing(finished: tuple[Path, RobustnessMatrix]) -> None:
    folder, _ = finished
    names = sorted(path.name for path in (folder / "runs").iterdir())
    kinds = ("a_alone", "b_alone", "concat", "product")
    assert names == sorted(f"{name}_{rate}_missing" for name in kinds for rate in ("0", "0.6"))
    fused = run_of(folder, "concat", 0.6, 3).plan.recipe.form.training
    assert (fused.missing_rate, fused.seed) == (0.6, 3)
    single = run_of(folder, "a_alone", 0.6, 0).plan.recipe.form.training.missing
    assert (single.rate, single.among) == (0.6, {"a": ["a"], "b": ["b"]})


def test_called_again_it_trains_only_what_is_new(finished: tuple[Path, RobustnessMatrix]) -> None:
    folder, matrix = finished
    listening = Listening()
    again = study(folder, callback=listening, use_rates=[0.6, 0.0, 0.6])
    assert listening.trained == []
    assert again.to_json() == matrix.to_json()
    more = study(folder, ["sum"], training_rates=[0.6], use_rates=[0.3], seeds=[3], callback=listening)
    assert listening.trained == ["sum (0.6 missing), seed 3"]
    assert more.names == ["sum", BASELINE, "a alone", "b alone"]
    assert any("not asked for" in note and "concat_0_missing (seed 0, 3)" in note for note in more.notes)
    with pytest.raises(RunError, match=r"training\.epochs was 3 and is 4"):
        study(folder, overrides=["training.epochs=4"])


def test_the_files_agree_with_the_matrix(finished: tuple[Path, RobustnessMatrix], tmp_path: Path) -> None:
    _, matrix = finished
    written = matrix.write(tmp_path)
    assert {path.name for path in written} >= {"robustness.csv", "robustness.json", "robustness.md"}
    data = json.loads((tmp_path / "robustness.json").read_text())
    assert data["cells"] == matrix.to_json()["cells"]
    assert data["conclusions"] == matrix.conclusions
    with (tmp_path / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], float(row["mean"])) for row in rows] == [(cell.name, cell.mean) for cell in matrix.cells]
    page = (tmp_path / "robustness.md").read_text()
    assert all(text in page for text in matrix.conclusions)
    assert "| training | use 0 | use 0.6 |" in page


def test_a_picture_is_drawn_where_matplotlib_is_there(
    finished: tuple[Path, RobustnessMatrix], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    finished[1].write(tmp_path)
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert all(path.suffix != ".png" for path in finished[1].write(tmp_path))


def cells(*triples: tuple[float, float | None, float | None]) -> list[Cell]:
    return [Cell("concat", "fusion", 0.7, use, 3, 0.5, 0.1, lead, error) for use, lead, error in triples]


def matrix_of(found: list[Cell], more_is_better: bool = True) -> RobustnessMatrix:
    return RobustnessMatrix("accuracy", more_is_better, 100, (0, 1, 2), found, {"concat": ["a dropout", "a token"]})


def test_a_verdict_names_the_worst_cell_and_what_may_help() -> None:
    found = cells((0.0, -0.04, 0.01), (0.3, -0.02, 0.01), (0.5, -0.01, 0.02), (0.7, 0.1, 0.01))
    matrix = matrix_of(found)
    assert matrix.conclusions == [
        "concat: falls below its best present modality by more than a standard error in 2 of 4 cells, most at "
        "(training 0.7, use 0): -0.040 with a standard error of 0.010; what may help: a dropout, or a token"
    ]
    (row,) = matrix.table("concat")
    assert row == {
        "training": "0.7",
        "use 0": "0.500 (-0.040*)",
        "use 0.3": "0.500 (-0.020*)",
        "use 0.5": "0.500 (-0.010)",
        "use 0.7": "0.500 (+0.100)",
    }
    (other,) = matrix_of(found, more_is_better=False).conclusions
    assert "in 1 of 4 cells, most at (training 0.7, use 0.7): +0.100" in other
    nowhere = "concat: nowhere below its best present modality by more than a standard error"
    assert matrix_of(cells((0.0, 0.0, 0.0), (0.3, -0.01, 0.02))).conclusions == [nowhere]
    assert "not compared" in matrix_of(cells((0.0, None, None))).conclusions[0]


def test_the_best_present_modality_is_taken_row_by_row() -> None:
    first, second, third = (torch.full((4, 1), float(number)) for number in (1, 2, 3))
    there = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    found = best_present([(first, there[0]), (second, there[1]), (third, there[2])])
    assert found[:, 0].tolist() == [1, 2, 3, 1]
    assert first.eq(1).all()


def test_what_helps_is_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    named = ["concat", "product", {"name": "late_transformer", "features": 8, "absent_token": True}, "transformer"]
    training = {**PLAIN, "epochs": 1}
    recipe = toys.recipe(ROWS, training=training)
    options: dict[str, Any] = {"training_rates": [0.5], "use_rates": [0.5], "seeds": [0], "device": "cpu"}
    remedies = run_matrix(recipe, tmp_path / "plain", fusions=named, **options).remedies
    token, loss = "a learned absent token (absent_token: true)", "a loss of each modality's own"
    told = {name: [any(what in text for text in texts) for what in (token, loss)] for name, texts in remedies.items()}
    assert list(told.values()) == [[False, True], [False, False], [False, True], [True, True]]
    assert all("training.modality_dropout" in texts for texts in remedies.values())
    recipe = toys.recipe(ROWS, training={**training, "modality_dropout": {"a": 0.2}})
    dropping = run_matrix(recipe, tmp_path / "dropping", fusions=["product"], **options)
    assert dropping.remedies == {"product": []}


def test_seeds_with_rows_of_their_own_are_measured_on_all_of_them(tmp_path: Path) -> None:
    changes = {"split": {"validation": 0.2, "test": 0.2}}
    matrix = study(tmp_path, ["concat"], training_rates=[0.6], use_rates=[0.6], changes=changes)
    tested = [set(table_rows(tmp_path, seed)) for seed in SEEDS]
    assert tested[0] != tested[1]
    assert matrix.rows == len(tested[0] | tested[1])
    assert matrix.of("concat")[0].standard_error is not None


def table_rows(folder: Path, seed: int) -> list[int]:
    """The numbers of a run's test rows."""
    import pyarrow.parquet as pq

    run = folder / "runs" / "concat_0.6_missing" / f"seed-{seed}"
    return list(pq.read_table(run / "predictions" / "test.parquet").column("row").to_pylist())


def test_regression_has_its_own_direction(tmp_path: Path) -> None:
    rows = [{**row, "label": float(number % 7)} for number, row in enumerate(ROWS)]
    recipe = toys.recipe(rows, training=PLAIN, target={"column": "label", "task": "regression"})
    matrix = run_matrix(recipe, tmp_path, training_rates=[0.5], use_rates=[0.5], seeds=[0], metric="mae", device="cpu")
    assert (matrix.metric, matrix.more_is_better) == ("mae", False)
    fused = matrix.of("concat")[0]
    assert fused.is_below(False) == (fused.difference > fused.standard_error)


def test_what_has_no_meaning_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for options, told in (
        ({"training_rates": [0.5, 1.0]}, "below 1"),
        ({"use_rates": []}, "rates in use"),
        ({"use_rates": [1.2]}, "from 0 to 1"),
        ({"seeds": [0, 0]}, "different numbers"),
        ({"overrides": ["training.missing_rate=0.5"]}, "sets training.missing_rate"),
        ({"changes": {"modalities": {"a": {"type": "numbers"}}, "fusion": None}}, "one modality"),
    ):
        with pytest.raises(OptionError, match=told):
            study(tmp_path / "study", None, **options)
    with pytest.raises(OptionError, match="no test rows"):
        run_matrix(toys.recipe([row for row in ROWS if row["split"] != "test"]), tmp_path / "study", device="cpu")
    assert not (tmp_path / "study").exists()


def test_it_says_why_where_no_operator_could_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(recipe: Any, *arguments: Any) -> None:
        raise TrainingError("it broke")

    monkeypatch.setattr("mmreg.studies.compare.jobs.train_one", fails)
    with pytest.raises(
        TrainingError, match=r"no operator could be trained.*\n  concat \(0\.5 missing\), seed 0: it broke"
    ):
        study(tmp_path, ["concat"], training_rates=[0.5], seeds=[0])


def test_a_failed_training_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmreg.studies.compare import jobs

    whole = jobs.train_one

    def fails(recipe: Any, folder: Path, *arguments: Any) -> None:
        if "a_alone" in str(folder):
            raise TrainingError("it broke")
        whole(recipe, folder, *arguments)

    monkeypatch.setattr(jobs, "train_one", fails)
    matrix = study(tmp_path, ["concat"], training_rates=[0.5], use_rates=[0.0], seeds=[0])
    assert [failure.variant for failure in matrix.failed] == ["a alone (0.5 missing)"]
    assert matrix.names == ["concat", "b alone"]
    assert "not compared" in matrix.conclusions[0]
    assert "- a alone (0.5 missing), seed 0: it broke" in matrix.to_markdown()


def test_a_model_is_checked_once_for_all_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise TrainingError("checked")

    inputs: list[int] = []
    monkeypatch.setattr(grid, "build", lambda plan, *_: inputs.append(len(plan.inputs)))
    monkeypatch.setattr("mmreg.studies.robustness.matrix.train_in", stop)
    with pytest.raises(TrainingError, match="checked"):
        study(tmp_path, ["concat", "sum"], seeds=[0])
    assert inputs == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.safetensors", "noise", "damaged: "),
        *(
            ("report.json", f'{{"validation": {figures}}}', "measured cannot be read: report.json holds no figures")
            for figures in ("7", '{"rows": 1}', '{"rows": 1, "metrics": []}')
        ),
    ],
)
def test_a_damaged_training_is_named_with_what_to_do(
    finished: tuple[Path, RobustnessMatrix], tmp_path: Path, file: str, content: str, says: str
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "study"))
    damaged = folder / "runs" / "concat_0_missing" / "seed-0"
    (damaged / file).write_text(content)
    matrix = study(folder)
    (failed,) = matrix.failed
    assert (failed.variant, failed.seed) == ("concat (0 missing)", 0)
    assert says in failed.reason
    assert failed.reason.endswith(f"(remove {damaged}, and the same command trains it anew)")
    before = {(cell.name, cell.training, cell.use): cell for cell in finished[1].cells}
    for cell in matrix.cells:
        one = before[cell.name, cell.training, cell.use]
        assert (cell == one) or ((cell.name, cell.training, one.seeds - cell.seeds) == ("concat", 0.0, 1))
    shutil.rmtree(damaged)
    assert study(folder).cells == finished[1].cells
    for path in folder.glob("runs/concat*/seed-*/model.safetensors"):
        path.write_bytes(b"noise")
    with pytest.raises(TrainingError, match="no operator could be trained"):
        study(folder, ["concat"])


def test_what_frozen_encoders_give_is_not_computed_again_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    frozen = {"type": "numbers", "encoder": {"name": "counting", "freeze": True}}
    changes = {"modalities": {"a": frozen, "b": {"type": "numbers"}}}
    toys.Counting.rows.clear()
    study(tmp_path / "study", ["concat"], seeds=[0], changes=changes)
    toys.Counting.rows.clear()
    read = study(tmp_path / "study", ["concat"], seeds=[0], changes=changes)
    assert sum(toys.Counting.rows) < len(RATES) * 4
    with monkeypatch.context() as patch:
        patch.setattr("mmreg.studies.robustness.matrix.with_features", lambda run, prepared: prepared)
        computed = study(tmp_path / "study", ["concat"], seeds=[0], changes=changes)
    assert sum(toys.Counting.rows) > 30 * len(RATES) ** 2
    assert [vars(cell) for cell in read.cells] == [vars(cell) for cell in computed.cells]


def robustness(*words: Any) -> Result:
    return CliRunner().invoke(build_app(), ["robustness", *map(str, words), "--device", "cpu"])


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("recipe")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "table.parquet")
    (folder / "recipe.yaml").write_text(json.dumps(toys.recipe("table.parquet", training={**PLAIN, "epochs": 1})))
    return folder / "recipe.yaml"


def test_the_command_prints_matrices_and_verdicts(recipe_file: Path, tmp_path: Path) -> None:
    words = [recipe_file, "--out", tmp_path / "study", "--fusions", "concat,sum", "--seeds", "0"]
    words += ["--training-rates", "0.5", "--use-rates", "0,0.9"]
    result = robustness(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "concat: accuracy, and less the best present modality"
    assert lines[1].split() == ["training", "use", "0", "use", "0.9"]
    assert any(line.startswith("sum: ") and "best present modality by more than" in line for line in lines)
    assert (tmp_path / "study" / "robustness.md").is_file()
    document = json.loads(robustness(*words, "--format", "json", "--quiet").stdout)
    assert {cell["name"] for cell in document["cells"]} == {"concat", "sum", BASELINE, "a alone", "b alone"}


def test_a_run_is_told_where_it_is_measured(finished: tuple[Path, RobustnessMatrix], tmp_path: Path) -> None:
    folder = finished[0] / "runs" / "concat_0_missing" / "seed-0"
    result = robustness(folder, "--out", tmp_path / "study")
    assert isinstance(result.exception, OptionError)
    assert "mmreg evaluate" in str(result.exception)
    assert evaluate_robustness(mmreg.load(folder, "cpu"), ROWS, split="test", rates=[0.5])["rates"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--use-rates", "often"], "missing rate"),
        (["--seeds", "x"], "--seeds needs"),
        (["--fusions", ""], "names nothing"),
    ],
)
def test_slips_in_options_are_told(recipe_file: Path, tmp_path: Path, words: list[str], told: str) -> None:
    result = robustness(recipe_file, "--out", tmp_path / "study", *words)
    assert isinstance(result.exception, OptionError)
    assert told in str(result.exception)
