"""Recipes as estimators of scikit-learn."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import mmreg
from mmreg.errors import RecipeError, TableError

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from mmreg_sklearn import MultimodalClassifier, MultimodalRegressor

TEXT: dict[str, Any] = {
    "modalities": {"name": {"type": "text", "encoder": {"name": "text_bag", "dropout": 0.0}}},
    "training": {"epochs": 12, "batch_size": 16, "optimizer": {"name": "AdamW", "lr": 0.02}},
}
NAMES = ["red apple", "green apple", "blue sky", "dark sky"]
ROWS = [{"name": NAMES[row % 4]} for row in range(64)]
KINDS = ["fruit" if row % 4 < 2 else "weather" for row in range(64)]
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "batches are drawn, so a row twice is not a row of weight 2"
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn")


@pytest.fixture(scope="module")
def fitted() -> MultimodalClassifier:
    return MultimodalClassifier(TEXT, device="cpu").fit(ROWS, KINDS)


def test_rows_of_texts_are_learned(fitted: MultimodalClassifier) -> None:
    assert fitted.classes_.tolist() == ["fruit", "weather"]
    assert fitted.score(ROWS, KINDS) == 1.0
    shares = fitted.predict_proba(ROWS[:3])
    assert shares.shape == (3, 2)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    expected = [row["probability_weather"] for row in fitted.run_.predict(ROWS[:3])]
    np.testing.assert_allclose(shares[:, 1], expected, atol=1e-6)


def test_a_data_frame_gives_the_same_and_keeps_its_columns(fitted: MultimodalClassifier) -> None:
    frame = pd.DataFrame(ROWS)
    again = MultimodalClassifier(TEXT, device="cpu").fit(frame, pd.Series(KINDS))
    np.testing.assert_allclose(again.predict_proba(frame), fitted.predict_proba(ROWS), atol=1e-6)
    assert list(frame.columns) == ["name"]


def test_it_is_cloned_unfitted_and_pickled_whole(fitted: MultimodalClassifier) -> None:
    with pytest.raises(NotFittedError):
        clone(fitted).predict(ROWS)
    content = pickle.dumps(fitted)
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(ROWS), fitted.predict_proba(ROWS))
    assert again.run_.folder != fitted.run_.folder
    assert pickle.loads(pickle.dumps(again)).run_.report == fitted.run_.report


def test_its_temporary_folder_goes_with_it() -> None:
    model = MultimodalClassifier(TEXT, device="cpu").fit(ROWS[:16], KINDS[:16])
    folder = model.run_.folder
    assert folder.is_dir()
    del model
    gc.collect()
    assert not folder.parent.exists()


def test_it_is_cross_validated_over_rows_of_a_table() -> None:
    scores = cross_val_score(MultimodalClassifier(TEXT, device="cpu"), pd.DataFrame(ROWS), KINDS, cv=2)
    assert scores.tolist() == [1.0, 1.0]


def test_a_recipe_on_file_and_a_folder_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TEXT, "table": "gone.csv", "target": {"column": "kind", "label_smoothing": 0.1}}))
    model = MultimodalClassifier(path, folder=tmp_path / "run", random_state=3, device="cpu").fit(ROWS, KINDS)
    assert model.run_.folder == tmp_path / "run"
    assert model.run_.recipe["training"]["seed"] == 3
    assert model.run_.recipe["target"]["label_smoothing"] == 0.1
    assert mmreg.load(tmp_path / "run", device="cpu").task.labels == ("fruit", "weather")


def test_weights_make_a_row_count_or_not() -> None:
    wrong = ["weather" if kind == "fruit" else "fruit" for kind in KINDS[32:]]
    weights = [1.0] * 32 + [0.0] * 32
    model = MultimodalClassifier(TEXT, device="cpu").fit(ROWS, KINDS[:32] + wrong, sample_weight=weights)
    assert model.score(ROWS, KINDS) == 1.0


def test_numbers_need_no_recipe(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(size=(80, 3))
    model = MultimodalRegressor(device="cpu").fit(values, 3 * values[:, 0])
    assert model.n_features_in_ == 3
    assert model.score(values, 3 * values[:, 0]) > 0.8
    assert list(model.run_.recipe["modalities"]["features"]["columns"]) == ["x0", "x1", "x2"]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (pd.DataFrame(ROWS), RecipeError, "without a recipe"),
        ([["red"], ["blue"]] * 32, RecipeError, "without a recipe"),
    ],
)
def test_texts_without_a_recipe_are_told_what_to_do(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MultimodalClassifier(device="cpu").fit(data, KINDS)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="'target' already"):
        MultimodalClassifier(TEXT).fit([{**row, "target": 1} for row in ROWS], KINDS)
    with pytest.raises(ValueError, match="1 class"):
        MultimodalClassifier(TEXT).fit(ROWS, ["fruit"] * 64)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        MultimodalClassifier(TEXT).fit(ROWS, KINDS[:-1])
    with pytest.raises(RecipeError, match="cannot be read"):
        MultimodalClassifier(tmp_path / "none.yaml").fit(ROWS, KINDS)
    with pytest.raises(TableError, match="X must be"):
        MultimodalClassifier(TEXT).fit(["red", "blue"], ["a", "b"])


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "sklearn.md").read_text(encoding="utf-8")
    block = page.split("```python\n")[1].split("```")[0]
    exec(compile(block, "sklearn.md", "exec", dont_inherit=True), {"__name__": "page"})
    assert "['fruit' 'fruit'] [[" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("cls", [MultimodalClassifier, MultimodalRegressor])
def test_scikit_learns_own_checks_pass(cls: Any) -> None:
    results = check_estimator(cls(random_state=0, device="cpu"), on_fail=None, expected_failed_checks=EXPECTED)
    assert [each["check_name"] for each in results if each["status"] == "failed"] == []
