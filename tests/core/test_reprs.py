"""What a shell and a notebook show of runs, recipes, components and results: short, escaped, and never an error."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import toys

import mmreg
from mmreg import registry
from mmreg.notebook import MOST_ROWS, harmless, html_table, in_notebook
from mmreg.runs.results import Predictions
from mmreg.studies.robustness import evaluate_robustness

HOSTILE = "<script>alert(1)</script> <img src=//x onerror=y> \"'&\x1b[31m\u202e\0"


class Tags(HTMLParser):
    """The tags of some HTML, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.opened: list[str] = []
        self.feed(text)
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.opened.append(tag)
        assert {name for name, _ in attrs} <= {"style", "value", "max"}
        assert "color" not in (dict(attrs).get("style") or "")  # the page's own, dark or light

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


PLAIN = {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}


def shown(thing: Any) -> str:
    """What a notebook shows, once it is known to be plain."""
    found = Tags(thing._repr_html_())
    assert found.tags <= PLAIN
    assert "cannot be shown" not in found.text
    return found.text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    toys.register()
    return toys.train(tmp_path_factory.mktemp("reprs") / "toy")


def test_a_run_tells_what_it_predicts_from_what_and_how_well(run: mmreg.Run) -> None:
    assert repr(run) == f"<Run {str(run.folder)!r}: classification from a, b by concat, on cpu>"
    text = shown(run)
    assert "linear" in text
    assert f"{run.report['test']['metrics']['accuracy']:.4g}" in text
    assert str(sum(each.numel() for each in run.model.parameters())) in text


def test_a_run_whose_folder_is_gone_or_damaged_is_still_shown(run: mmreg.Run, tmp_path: Path) -> None:
    copy = toys.train(tmp_path / "other")
    (copy.folder / "report.json").write_text('{"test": 1')
    assert "linear" in shown(copy)
    (copy.folder / "report.json").unlink()
    assert "linear" in shown(copy)


def test_figures_and_predictions_are_plain_data_that_a_notebook_shows_as_tables(run: mmreg.Run) -> None:
    figures = run.evaluate()
    assert json.loads(json.dumps(figures)) == figures
    assert isinstance(figures, dict)
    assert f"{figures['metrics']['accuracy']:.4g}" in shown(figures)
    rows = [{"a": [1.0, 0.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0, 0.0]}] * 50
    predictions = run.predict(rows)
    assert isinstance(predictions, list)
    assert "50 predictions" in shown(predictions)
    assert f"and {50 - MOST_ROWS} more rows" in shown(predictions)
    assert repr(predictions[:3]) == repr(list(predictions)[:3])
    assert repr(predictions).endswith("and 30 more rows")
    assert repr(run.predict(rows[:3])) == repr(list(run.predict(rows[:3])))


def test_a_robustness_is_shown_as_the_command_prints_it(run: mmreg.Run) -> None:
    robustness = evaluate_robustness(run, missing=True, rates=[0.5])
    text = shown(robustness)
    assert "each subset of the modalities" in text
    assert "missing rate" in text
    assert "a+b" in text


def test_a_comparison_is_shown_by_its_table_and_conclusions(run: mmreg.Run) -> None:
    other = toys.train(
        run.folder.parent / "second", training={"epochs": 1, "batch_size": 32, "seed": 1}, fusion="weighted"
    )
    comparison = mmreg.compare([run.folder, other.folder])
    assert repr(comparison).startswith("<Comparison by accuracy on ")
    assert len(repr(comparison)) < 300
    assert comparison.conclusions[0] in shown(comparison)


def test_a_recipe_tells_its_inputs() -> None:
    target = {"column": HOSTILE, "task": "classification"}
    given = {HOSTILE: {"type": "text", "encoder": "text_bag"}, "photo": {"type": "image"}}
    recipe = mmreg.Recipe(table="t.csv", target=target, modalities=given, fusion="concat", training={"epochs": 3})
    assert "classification of " in repr(recipe)
    assert repr(recipe).isprintable()
    assert len(repr(recipe)) < 500
    text = shown(recipe)
    assert "text_bag" in text
    assert "epochs" in text
    assert "<script>alert(1)</script>" in text  # as text, that is: escaped


def test_components_and_their_lists_are_shown_by_name() -> None:
    entry = registry.find("encoder", "image_cnn")
    assert repr(entry).startswith("<encoder image_cnn of mmreg ")
    assert entry.spec.summary in shown(entry)
    assert "image_cnn" in shown(registry.specs("encoder"))
    assert registry.specs("encoder") == list(registry.specs("encoder"))
    assert "modality" in shown(registry)


def test_to_look_at_the_registry_imports_no_plugin_and_no_torch() -> None:
    code = (
        "import sys; from mmreg import registry; before = set(sys.modules); text = registry._repr_html_()\n"
        "new = set(sys.modules) - before\n"
        "assert 'no plugin was looked for yet' in text, text\n"
        "assert not any(name.startswith(('mmreg_', 'torch', 'IPython')) for name in new), new\n"
        "registry.specs(); registry._repr_html_(); registry.specs()._repr_html_()\n"
        "assert 'torch' not in sys.modules and 'IPython' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("value", [HOSTILE, {HOSTILE: 1}, [HOSTILE] * 1000, HOSTILE.encode()])
def test_what_a_table_holds_is_no_markup(value: Any) -> None:
    text = html_table([{HOSTILE: value}], HOSTILE)
    assert Tags(text).tags <= PLAIN
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 5000


def test_the_html_of_large_things_is_small() -> None:
    long = "x" * 10**6
    rows = Predictions([{f"column {number}": long for number in range(100)}] * 1000)
    text = rows._repr_html_()
    assert len(text) < 300_000
    assert "and 980 more rows and 70 more columns" in text
    assert Tags(html_table([])).text == ""


def test_a_repr_that_fails_tells_the_type() -> None:
    class Broken:
        @harmless
        def __repr__(self) -> str:
            raise OSError

        def __str__(self) -> str:
            raise OSError

    assert repr(Broken()) == "Broken (cannot be shown)"
    broken: Any = type("B", (), {"__repr__": lambda self: 1 / 0})()
    html_table([{"a": broken}])


def test_a_script_is_no_notebook() -> None:
    assert not in_notebook()
