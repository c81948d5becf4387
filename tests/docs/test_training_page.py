"""The recipes of the page about training that stand there as a whole train as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import Caller, call, write_table

from mmreg import runs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^<!-- recipe: (\S+) -->\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (20, 30, 220), "grey": (120, 120, 120)}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's recipes, photos with captions, and some of them with labels."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    rows = []
    for number in range(160):
        colour = list(COLOURS)[number % len(COLOURS)]
        pixels = np.clip(COLOURS[colour] + random.normal(0, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
        rows.append({"photo": f"photos/{number}.png", "caption": f"something {colour}", "label": colour})
    write_table(tmp_path / "photos.csv", [{key: row[key] for key in ("photo", "caption")} for row in rows])
    write_table(tmp_path / "labelled.csv", [{key: row[key] for key in ("photo", "label")} for row in rows[:60]])
    for name, text in RECIPES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_on_pairs_comes_before_one_with_labels_as_the_page_has_it(folder: Path, cli: Caller) -> None:
    assert list(RECIPES) == ["pairs.yaml", "labelled.yaml"]
    pairs = cli("train", "pairs.yaml", "--out", "runs/pairs")
    assert pairs.code == 0, pairs.err
    assert "Recall@1: " in pairs.out
    measured = cli("evaluate", "runs/pairs", "photos.csv")
    assert measured.code == 0, measured.err
    assert "image to text" in measured.out
    predicted = cli("predict", "runs/pairs", "photos.csv", "--out", "similar.csv")
    assert predicted.code == 0, predicted.err
    assert (folder / "similar.csv").read_text().startswith("row,similarity_image_text,modalities\n")
    labelled = cli("train", "labelled.yaml", "--out", "runs/labelled")
    assert labelled.code == 0, labelled.err
    before, after = (runs.read_weights(folder / "runs" / name / runs.WEIGHTS) for name in ("pairs", "labelled"))
    names = [name for name in before if name.startswith("encoders.image.")]
    assert names
    assert all(name in after and after[name].shape == before[name].shape for name in names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "pairs.yaml"],
        ["robustness", "pairs.yaml"],
        ["train", "pairs.yaml", "--folds", "3"],
        ["train", "pairs.yaml", "--seeds", "0,1"],
        ["train", "pairs.yaml", "--set", "fusion=concat"],
        ["validate", "pairs.yaml", "--set", "target.column=caption"],
        ["validate", "labelled.yaml", "--set", "target={task: classification}"],
    ],
)
def test_what_the_page_says_is_refused_is(arguments: list[str], folder: Path, cli: Caller) -> None:
    (folder / "runs").mkdir()
    refused = cli(*arguments)
    assert refused.code == 2
    assert "contrastive" in refused.err or "target.column: is missing" in refused.err
