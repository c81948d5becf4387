"""Refitting: a run trained anew on its validation rows as well, against trainings on tables that say so themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor
from toys import Listening, StopAt, assert_same, train

import mmreg
from mmreg import runs
from mmreg.errors import OptionError, RecipeError, RunError, ValidationRowsError
from mmreg.run_files.figures import read_report
from mmreg.training.stopping import Stopped

EPOCHS = 5
COURSE = [f"training.epochs={EPOCHS}"]
CONSTANT = ["training.schedule=null"]


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def merged() -> list[dict[str, Any]]:
    """The rows, those for validation being for training."""
    return [{**row, "split": "test" if row["split"] == "test" else "train"} for row in toys.rows()]


def refit(run: Path, out: Path, **options: Any) -> mmreg.Run:
    return mmreg.refit(run, out, table=toys.rows(), device="cpu", **options)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose operator is fitted on validation rows; not to be changed."""
    toys.register()
    folder = tmp_path_factory.mktemp("fitted") / "run"
    train(folder, **{**toys.NOISY, "fusion": "calibrated"}, overrides=COURSE)
    return folder


def test_it_is_the_training_on_all_rows_that_are_not_for_testing(tmp_path: Path) -> None:
    train(tmp_path / "run", **toys.NOISY, overrides=[*COURSE, *CONSTANT])
    run = refit(tmp_path / "run", tmp_path / "again", epochs=2)
    train(tmp_path / "merged", merged(), **toys.NOISY, overrides=["training.epochs=2", *CONSTANT])
    assert_same(tmp_path / "again", tmp_path / "merged")
    assert (run.report["epochs"], run.report["test"]["rows"]) == (2, 40)
    assert "validation" not in run.report
    assert run.report["test"] == runs.load(tmp_path / "merged", torch.device("cpu")).report["test"]
    (note,) = (note for note in run.report["notes"] if "validation rows are learned from as well" in note)
    assert note.endswith(f": no figures are of them; it ends after epoch 2 of {run.recipe['training']['epochs']}")


def test_the_learning_rate_has_the_course_of_all_epochs(tmp_path: Path) -> None:
    class At(mmreg.Callback):
        """Keeps the weights of an epoch."""

        def on_epoch_end(self, run: Any, epoch: Any) -> None:
            if epoch.number == 2:
                self.weights = {name: value.clone() for name, value in run.model.state_dict().items()}

    at = At()
    train(tmp_path / "merged", merged(), **toys.NOISY, overrides=COURSE, callback=at)
    train(tmp_path / "run", **toys.NOISY, overrides=COURSE)
    run = refit(tmp_path / "run", tmp_path / "again", epochs=2)
    assert all(torch.equal(value, at.weights[name]) for name, value in run.model.state_dict().items())


def test_it_is_as_long_as_the_weights_of_the_run_were_trained(tmp_path: Path) -> None:
    overrides = ["training.epochs=30", "training.early_stopping=2", "training.metric=log_loss"]
    run = train(tmp_path / "run", **toys.NOISY, overrides=overrides)
    again = refit(tmp_path / "run", tmp_path / "again")
    assert again.report["epochs"] == run.report["best"]["epoch"] < 30
    assert again.recipe["training"]["epochs"] == 30
    assert again.recipe["training"]["keep"] == "last"


def test_a_soup_becomes_as_long_as_its_best_epoch(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **toys.NOISY, overrides=[*COURSE, "training.keep=soup"])
    again = refit(tmp_path / "run", tmp_path / "again")
    assert again.report["epochs"] == run.report["soup"]["epochs"][0]


def test_operators_for_several_targets_are_taken_over(tmp_path: Path) -> None:
    rows = [{**row, "other": "uv"[number % 2]} for number, row in enumerate(toys.rows())]
    targets = {name: {"column": name, "task": "classification"} for name in ("label", "other")}
    recipe = {**toys.recipe(rows, fusion="calibrated"), "targets": targets}
    del recipe["target"]
    before = mmreg.train(recipe, tmp_path / "run", device="cpu").model.root.fusion.state_dict()
    after = mmreg.refit(tmp_path / "run", tmp_path / "again", table=rows, device="cpu").model.root.fusion.state_dict()
    assert before.keys() == after.keys() == {f"operators.{number}.temperature" for number in range(2)}
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_run_is_not_replaced_by_what_comes_of_it(fitted: Path) -> None:
    before = (fitted / runs.WEIGHTS).read_bytes()
    override = f"training.refit={{run: {fitted}}}"
    with pytest.raises(RunError, match="is refitted, and --overwrite would replace it"):
        train(fitted, **{**toys.NOISY, "fusion": "calibrated"}, overrides=[override], overwrite=True)
    assert (fitted / runs.WEIGHTS).read_bytes() == before


def test_by_accuracy_it_is_as_long_as_accuracy_is_as_good_but_for_chance(fitted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "run"))
    report = read_report(folder)
    report["best"] |= {"value": 0.9, "epoch": 2}  # of 40 rows: a standard error of 0.047
    (folder / runs.REPORT).write_text(json.dumps(report))
    values = (0.8, 0.9, 0.84, 0.86, 0.85)
    lines = [f"{number},{value}" for number, value in enumerate(values, 1)]
    (folder / runs.METRICS).write_text("\n".join(["epoch,validation_accuracy", *lines]))
    assert refit(folder, tmp_path / "again").report["epochs"] == 4


def test_a_fitted_operator_is_taken_over(fitted: Path, tmp_path: Path) -> None:
    before = runs.load(fitted, torch.device("cpu")).model.root.fusion.temperature
    assert (before != 1).any()
    run = refit(fitted, tmp_path / "again")
    assert torch.equal(run.model.root.fusion.temperature, before)
    assert f"calibrated is as it was fitted in {fitted}" in run.report["notes"]
    assert not any("was fitted on" in note for note in run.report["notes"])


def test_another_table_is_noted(fitted: Path, tmp_path: Path) -> None:
    run = mmreg.refit(fitted, tmp_path / "again", table=toys.rows(150), epochs=1, device="cpu")
    assert any("is not as it was when" in note for note in run.report["notes"])
    same = refit(fitted, tmp_path / "same", epochs=1)
    assert not any("is not as it was when" in note for note in same.report["notes"])


class InFiles(toys.Numbers):
    """Numbers that stand in files."""

    paths = True

    def load(self, value: Any) -> Any:
        return super().load(np.load(value))


def test_a_table_that_is_elsewhere_by_now_is_written_as_before(tmp_path: Path) -> None:
    rows = [{**row, "a": json.dumps(row["a"]), "b": json.dumps(row["b"])} for row in toys.rows()]
    lines = ["~".join(map(str, row)) for row in (rows[0], *(row.values() for row in rows))]
    for name in ("table.csv", "moved.csv"):
        (tmp_path / name).write_text("\n".join(lines))
    mmreg.registry.register("modality", "json_numbers", JsonNumbers)
    recipe = toys.recipe(
        {"path": str(tmp_path / "table.csv"), "separator": "~"},
        modalities={"a": {"type": "json_numbers", "encoder": "linear"}},
        fusion=None,
    )
    mmreg.train(recipe, tmp_path / "run", device="cpu")
    (tmp_path / "table.csv").unlink()
    again = mmreg.refit(tmp_path / "run", tmp_path / "again", table=tmp_path / "moved.csv", device="cpu")
    assert again.report["test"]["rows"] == 40


class JsonNumbers(toys.Numbers):
    """Numbers that are written as JSON."""

    def load(self, value: Any) -> Any:
        return super().load(json.loads(value))


class Weighing(mmreg.ModelFusion):
    """The first part's scores times a weight, which training moves, and which is fitted besides."""

    fitted = True

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: mmreg.Space) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, scores: Mapping[str, Tensor], present: Tensor, features: Any = None) -> mmreg.Fused:
        return mmreg.Fused((next(iter(scores.values())) * self.weight).log_softmax(-1))

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            self.weight.fill_(3.0)


def test_training_leaves_what_is_taken_over_as_it_is(tmp_path: Path) -> None:
    mmreg.registry.register("fusion", "weighing", Weighing)
    train(tmp_path / "run", fusion="weighing")
    run = refit(tmp_path / "run", tmp_path / "again", epochs=2)
    assert run.model.root.fusion.weight.item() == 3.0


def test_one_that_was_stopped_goes_on_bit_for_bit_without_the_run(fitted: Path, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(fitted, tmp_path / "run"))
    settings: dict[str, Any] = {"table": toys.rows(150), "device": "cpu", "epochs": EPOCHS}
    mmreg.refit(earlier, tmp_path / "whole", **settings)
    at = StopAt(12)
    with pytest.raises(Stopped):
        mmreg.refit(earlier, tmp_path / "stopped", **settings, callback=at, stop=at.stop)
    shutil.rmtree(earlier)
    with pytest.raises(RunError, match=r"training.refit.epochs: was 5, is 4"):
        mmreg.refit(earlier, tmp_path / "stopped", **{**settings, "epochs": 4}, resume=True)
    mmreg.refit(earlier, tmp_path / "stopped", table=toys.rows(150), device="cpu", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    before, after = (read_report(tmp_path / name)["notes"] for name in ("whole", "stopped"))
    assert before == after
    assert any("is not as it was when" in note for note in after)
    assert any("calibrated is as it was fitted in" in note for note in after)


def test_one_that_goes_on_is_that_of_the_run(fitted: Path, tmp_path: Path) -> None:
    refit(fitted, tmp_path / "again", epochs=2)
    train(tmp_path / "other", **toys.NOISY, overrides=COURSE)
    with pytest.raises(RunError, match="was started with another recipe"):
        refit(tmp_path / "other", tmp_path / "again", resume=True)
    with pytest.raises(RunError, match="was started with another recipe"):
        refit(fitted, tmp_path / "other", resume=True)
    with pytest.raises(RunError, match="there is no run folder"):
        refit(tmp_path / "nowhere", tmp_path / "new", resume=True)


def test_paths_in_cells_are_relative_to_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mmreg.registry.register("modality", "in_files", InFiles)
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "a": f"{number}.npy"} for number, row in enumerate(toys.rows())]
    for row, other in zip(rows, toys.rows(), strict=True):
        np.save(row["a"], np.asarray(other["a"], np.float32))
    recipe = {**toys.recipe(rows), "modalities": {"a": {"type": "in_files", "encoder": "linear"}}, "fusion": None}
    mmreg.train(recipe, tmp_path / "runs/run", device="cpu")
    run = mmreg.refit("runs/run", "runs/again", table=rows, device="cpu")
    assert run.report["test"]["rows"] == 40


def test_a_cross_validation_becomes_one_model_of_all_rows(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "split"} for row in toys.rows()]
    recipe = {**toys.recipe(rows, **{**toys.NOISY, "fusion": "calibrated"}), "split": None}
    mmreg.cross_validate(recipe, tmp_path / "cv", folds=2, device="cpu")
    for fold, epoch in ((1, 1), (2, 3)):
        path = tmp_path / "cv" / f"fold-{fold}" / runs.REPORT
        report = json.loads(path.read_text())
        path.write_text(json.dumps({**report, "best": {"metric": "f1", "value": 0.5, "epoch": epoch}}))
    run = mmreg.refit(tmp_path / "cv", tmp_path / "one", table=rows, device="cpu")
    facts = runs.read_facts(tmp_path / "one")
    assert facts["table"]["rows"] == {"train": 200, "validation": 0, "test": 0}
    assert run.report["epochs"] == 2
    first = runs.load(tmp_path / "cv" / "fold-1", torch.device("cpu"))
    assert torch.equal(run.model.root.fusion.temperature, first.model.root.fusion.temperature)


def test_a_recipe_can_say_it_of_itself(tmp_path: Path) -> None:
    train(tmp_path / "said", **toys.NOISY, overrides=["training.refit=true"])
    train(tmp_path / "merged", merged(), **toys.NOISY)
    assert_same(tmp_path / "said", tmp_path / "merged")


@pytest.mark.parametrize(
    ("override", "needs"),
    [
        ("fusion=calibrated", "calibrated is fitted on validation rows, and training.refit learns from these"),
        ("training.early_stopping=3", "training.early_stopping is judged on validation rows, and training.refit"),
        ("training.keep=soup", "training.keep: soup is chosen by validation rows, and training.refit"),
    ],
)
def test_what_needs_validation_rows_is_refused(override: str, needs: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationRowsError, match=needs):
        train(tmp_path / "run", overrides=["training.refit=true", override])


def test_what_cannot_be_refitted_says_why(fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="trains another run beside"):
        refit(fitted, fitted)
    with pytest.raises(RunError, match="was trained on a table in memory; pass it as table"):
        mmreg.refit(fitted, tmp_path / "again", device="cpu")
    with pytest.raises(OptionError, match=r"epochs can be at most the 5 of .* recipe, found 6"):
        refit(fitted, tmp_path / "again", epochs=6)
    with pytest.raises(RunError, match="there is no run folder"):
        refit(tmp_path / "nowhere", tmp_path / "again")
    train(tmp_path / "last", merged())
    with pytest.raises(RunError, match="had no validation rows: there are no more rows for it to learn from"):
        refit(tmp_path / "last", tmp_path / "again")
    train(tmp_path / "blended", overrides=["training.balance=gradient_blending"])
    with pytest.raises(ValidationRowsError, match="learns from these: such a run cannot be refitted"):
        refit(tmp_path / "blended", tmp_path / "again")
    mmreg.fuse([fitted, fitted], "mean", tmp_path / "fused")
    with pytest.raises(RunError, match="combines runs; refit each of them"):
        refit(tmp_path / "fused", tmp_path / "again")
    with pytest.raises(RecipeError, match=r"training.refit.run: there is no run folder"):
        train(tmp_path / "again", overrides=["training.refit={run: /nowhere}"])
    with pytest.raises(RecipeError, match=r"training.refit.epochs: must be at most training.epochs, 3; found 4"):
        train(tmp_path / "again", overrides=["training.refit={epochs: 4}"])
    train(tmp_path / "other")
    with pytest.raises(RunError, match="does not fit: it is another operator"):
        train(tmp_path / "again", fusion="calibrated", overrides=[f"training.refit={{run: {tmp_path / 'other'}}}"])
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("damage", [b"epoch,loss\n1,2\n", b"\xff", b"", None])
def test_figures_that_cannot_be_read_are_told(fitted: Path, tmp_path: Path, damage: bytes | None) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "run"))
    (folder / runs.METRICS).unlink() if damage is None else (folder / runs.METRICS).write_bytes(damage)
    with pytest.raises(RunError, match=r"what the epochs of .* came to cannot be read \((?!(\w+): \1).*--epochs"):
        refit(folder, tmp_path / "again")
    assert refit(folder, tmp_path / "again", epochs=1).report["epochs"] == 1


def test_a_run_that_was_gone_on_with_is_not_refitted_before_it_has_ended(fitted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "run"))
    runs.mark_continued(folder)
    with pytest.raises(RunError, match="was gone on with, and has not ended"):
        refit(folder, tmp_path / "again")


def test_what_is_noted_reaches_the_terminal(tmp_path: Path) -> None:
    listening = Listening()
    train(tmp_path / "run", overrides=["training.refit=true"], callback=listening)
    assert any("as training.refit says" in message for message in listening.messages)
