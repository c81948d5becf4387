"""On few and noisy texts, what `mmreg init` chooses learns about as much as logistic regression on tf-idf does."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import made_texts
import numpy as np
import pyarrow.csv
import pytest

import mmreg
from mmreg.data.dialect import TableFile
from mmreg.recipe.draft import draft_recipe
from mmreg_text import table as tables

BOUND = 0.01
"""By how much the mean of the seeds may be lower."""
BOUND_WHERE_FEW_WORDS_TELL = 0.03
"""The same for texts of which one to three words in some fifteen tell: 0.024 was measured, so it is weaker there."""


def emoji(folder: Path) -> Mapping[str, made_texts.Rows]:
    """The names of emoji, and what they are of."""
    rows = pyarrow.csv.read_csv(folder / "emoji" / "manifest.csv").to_pylist()
    return {
        split: tuple([row[column] for row in rows if row["split"] == name] for column in ("text", "label"))
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    }  # type: ignore[return-value]


def write(table: Path, parts: Mapping[str, made_texts.Rows]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "text", "label"])
        for split, (texts, labels) in parts.items():
            rows.writerows([split, text, label] for text, label in zip(texts, labels, strict=True))


def of_logistic_regression(parts: Mapping[str, made_texts.Rows], longest: int) -> float:
    """Accuracy on the test rows by tf-idf of words and runs of words up to a length, with scikit-learn's defaults."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, longest)), LogisticRegression(max_iter=1000))
    return float(model.fit(*parts["train"]).score(*parts["test"]))


def check(parts: Mapping[str, made_texts.Rows], seeds: int, folder: Path, bound: float = BOUND) -> None:
    """Train what init writes with some seeds, and compare the mean."""
    table = folder / "table.csv"
    write(table, parts)
    recipe = folder / "recipe.yaml"
    recipe.write_text(draft_recipe(TableFile(table), folder=folder))
    figures = [
        mmreg.train(recipe, folder / f"run{seed}", overrides=[f"training.seed={seed}"], device="cpu").report["test"][
            "metrics"
        ]["accuracy"]
        for seed in range(seeds)
    ]
    words, pairs = (of_logistic_regression(parts, longest) for longest in (1, 2))
    told = f"{np.mean(figures):.3f} (of {[round(each, 3) for each in figures]}); words {words:.3f}, pairs {pairs:.3f}"
    print(told)
    assert np.mean(figures) >= max(words, pairs) - bound, told


@pytest.fixture(autouse=True)
def no_packages_with_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders from scratch are what is measured."""
    monkeypatch.setattr(tables, "packaged", lambda name: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "seeds", "bound"),
    [
        (made_texts.products, 3, BOUND),
        (made_texts.compounds, 3, BOUND),
        (made_texts.topics, 3, BOUND),
        (made_texts.sentiment, 5, BOUND_WHERE_FEW_WORDS_TELL),
    ],
)
def test_made_texts_are_learned_as_by_logistic_regression(
    make: Callable[[], Mapping[str, made_texts.Rows]], seeds: int, bound: float, tmp_path: Path
) -> None:
    check(make(), seeds, tmp_path, bound)


@pytest.mark.slow
def test_names_of_emoji_are_learned_as_by_logistic_regression(real_data: Path, tmp_path: Path) -> None:
    check(emoji(real_data), 5, tmp_path)
