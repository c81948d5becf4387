"""The recipes of the page for those who come from elsewhere are right for a table as it describes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import call, make_files, write_table

from mmreg import registry

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^<!-- recipe: (\S+) -->\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
DOWNLOADED = {
    "from-autogluon.yaml": ["modalities.image.encoder.weights=none", "modalities.description.encoder.model=tiny"],
    "from-mmf.yaml": ["modalities.image.encoder.weights=none", "modalities.description.encoder.model=tiny"],
}
"""What replaces names of weights that would be downloaded."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_its_table_fits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in DOWNLOADED:
        for package in ("timm", "transformers"):
            pytest.importorskip(package)
        import tiny_models

        tiny_models.bert(tmp_path / "tiny")
    names = {"image": "image_path", "title": "description", "audio": "sound"}
    rows = [{names.get(key, key): value for key, value in row.items()} for row in make_files(tmp_path)]
    write_table(tmp_path / "table.csv", [{**row, "district": "NS"[at % 2]} for at, row in enumerate(rows)])
    (tmp_path / name).write_text(RECIPES[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    overrides = [word for each in DOWNLOADED.get(name, []) for word in ("--set", each)]
    done = call(monkeypatch, capsys, "validate", name, *overrides)
    assert done.code == 0, done.err
    assert f"{name} is right" in done.out


def test_there_is_one_for_each_of_the_four() -> None:
    assert list(RECIPES) == [f"from-{name}.yaml" for name in ("ludwig", "autogluon", "mmf", "multibench")]


def test_the_components_that_it_names_as_equal_are_there() -> None:
    section = PAGE.partition("\n## MultiBench\n")[2]
    (row,) = re.findall(r"^\| `fusions/`.* \| (.*) \|$", section, re.MULTILINE)
    for name in [*re.findall(r"`(\w+)`", row), "cross_attention", "canonical"]:
        assert registry.find("fusion", name)
    assert registry.find("balance", "gradient_blending")
