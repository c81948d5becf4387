"""Runs combined of several with the same modalities lose and corrupt each of them as one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import toys

import mmreg
from mmreg import runs
from mmreg.errors import OptionError
from mmreg.studies.robustness import evaluate_robustness
from mmreg.studies.robustness.missing import at_rate

ASKED: dict[str, Any] = {"missing": True, "rates": [0.0, 0.5], "corruptions": "a:noise=0.5,1", "seed": 3}
"""What is measured."""
ROWS = toys.rows(80, seed=4, absent=0.2)


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two modalities."""
    toys.register()
    folder = tmp_path_factory.mktemp("single") / "run"
    mmreg.train(toys.recipe(toys.rows(), key="id", fusion="stacking"), folder, device="cpu")
    return folder


def columns_read(tmp_path: Path, name: str, column: str, **options: Any) -> Path:
    """A run of one modality that is called a, whatever column it reads."""
    given = {"a": {"type": "numbers", "column": column, **options}}
    return mmreg.train(
        toys.recipe(toys.rows(), key="id", modalities=given, fusion=None), tmp_path / name, device="cpu"
    ).folder


def measured(run: mmreg.Run, **asked: Any) -> dict[str, Any]:
    """The figures apart from those of the parts, of which a combination has others."""

    def plain(figures: Any) -> Any:
        if isinstance(figures, list):
            return [plain(each) for each in figures]
        if isinstance(figures, float):
            return pytest.approx(figures, abs=1e-6)
        if isinstance(figures, dict):
            inner = "accuracy" in figures
            return {key: plain(each) for key, each in figures.items() if not (inner and key == "modalities")}
        return figures

    return plain(evaluate_robustness(run, ROWS, **asked))


def test_a_run_combined_with_its_copy_bears_everything_as_it_does_itself(single: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(single, tmp_path / "copy")
    mmreg.fuse([single, copy], "mean", tmp_path / "fused", device="cpu")
    both = mmreg.load(tmp_path / "fused", "cpu")
    assert list(both.modalities) == ["run_a", "run_b", "copy_a", "copy_b"]
    assert measured(both, **ASKED) == measured(mmreg.load(single, "cpu"), **ASKED)
    mmreg.fuse([both.folder, copy], "mean", tmp_path / "again", device="cpu")
    assert measured(mmreg.load(tmp_path / "again", "cpu"), **ASKED) == measured(both, **ASKED)


def test_what_is_left_out_of_an_ensemble_is_left_out_of_every_member(tmp_path: Path) -> None:
    recipe = toys.recipe(toys.rows(), key="id")
    trained = mmreg.train_seeds(recipe, tmp_path / "run", seeds=[0, 1], device="cpu").run
    run = mmreg.load(tmp_path / "run", "cpu")
    found = evaluate_robustness(run, ROWS, missing=True, rates=[0.5], seed=5)
    assert [each["modalities"] for each in found["subsets"]] == [["a"], ["b"], ["a", "b"]]
    assert found["possible_subsets"] == 3
    assert evaluate_robustness(trained, ROWS, rates=[0.5], seed=5)["rates"] == found["rates"]
    masks = at_rate("ab", 0.5, len(ROWS), seed=5)
    emptied = [{**row, **{n: None for n in "ab" if masks[n][at]}} for at, row in enumerate(ROWS)]
    assert {"rate": 0.5, **run.evaluate(emptied)} == {"split": "all", **found["rates"][0]}
    assert [row["modalities"] for row in run.predict(ROWS)] == [
        "+".join(name for name in "ab" if row[name] is not None) for row in ROWS
    ]
    written = runs.read_predictions(tmp_path / "run", "test")
    assert written is not None
    assert set(written.column("modalities").to_pylist()) == {"a+b"}


def test_inputs_of_other_columns_or_options_are_modalities_of_their_own(tmp_path: Path) -> None:
    first, other = columns_read(tmp_path, "one", "a"), columns_read(tmp_path, "two", "b")
    run = mmreg.fuse([first, other], "mean", tmp_path / "columns", device="cpu")
    assert {name: list(inputs) for name, inputs in run.inputs.items()} == {"one_a": ["one_a"], "two_a": ["two_a"]}
    with pytest.raises(OptionError, match="has no modality 'a'; it has one_a, two_a"):
        evaluate_robustness(run, ROWS, corruptions="a:noise=1")
    augmented = columns_read(tmp_path, "noisy", "a", noise=0.1)  # what only training adds makes no other modality
    run = mmreg.fuse([first, augmented], "mean", tmp_path / "options", device="cpu")
    assert {name: list(inputs) for name, inputs in run.inputs.items()} == {"a": ["one_a", "noisy_a"]}
