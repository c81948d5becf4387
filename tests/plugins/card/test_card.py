"""Model cards: what a run's folder says, as the hub and as people read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toys
import yaml
from small import Called, call

import mmreg
from mmreg.errors import RunError
from mmreg_card.card import model_card
from mmreg_card.facts import Facts, read_facts, told
from mmreg_card.plugin import mmreg_commands


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toys.register()
    return toys.train(tmp_path_factory.mktemp("card") / "toy run").folder


def front(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def test_the_hub_reads_the_figures_that_the_report_has(run: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    path = tmp_path / "README.md"
    path.write_text(model_card(read_facts(run), "Toys", "mit"), encoding="utf-8")
    card = hub.ModelCard.load(path)
    report = json.loads((run / "report.json").read_text())
    results = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert results["accuracy"] == report["test"]["metrics"]["accuracy"]
    assert {each.dataset_split for each in card.data.eval_results} == {"test"}
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("mit", "mmreg", "Toys")


def test_people_read_what_goes_in_and_what_came_out(run: Path) -> None:
    text = model_card(read_facts(run), "Toys")
    assert "| a | numbers | a | linear |" in text
    assert "| test | all |" in text
    assert "license" not in front(text)
    assert {"mmreg", "multimodal", "numbers", "classification"} <= set(front(text)["tags"])


def test_runs_that_were_combined_have_a_card(run: Path, tmp_path: Path) -> None:
    combined = mmreg.fuse([run, run], "mean", tmp_path / "both", device="cpu").folder
    text = model_card(read_facts(combined), "Both")
    assert "- combined of these runs: " in text
    assert "predicts label (classification) from a (numbers), b (numbers), fused by mean" in text
    assert front(text)["model-index"][0]["results"][0]["dataset"]["name"].startswith("of ")


def test_names_from_a_table_are_no_markup(run: Path) -> None:
    facts = read_facts(run)
    hostile = "<script>x</script> [a](javascript:b) | `c`"
    components = {**facts.components, "table": {**facts.components["table"], "name": hostile}}
    recipe = {**facts.recipe, "modalities": {hostile: facts.modalities["a"]}}
    text = model_card(Facts(hostile, recipe, facts.report, components), hostile)
    body = text.split("---\n", 2)[2]
    assert "<script" not in body
    assert "[a](" not in body.replace("\\[a](", "")
    assert front(text)["model-index"][0]["name"] == hostile


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("components.json", None, "is no run folder"),
        ("report.json", None, "its report.json is gone"),
        ("model.safetensors", None, "has lost its weights"),
        ("report.json", "{", "measured cannot be read"),
        ("recipe.yaml", "modalities: {}", "damaged"),
        ("recipe.yaml", "[", "damaged"),
        ("recipe.yaml", "3", "damaged"),
    ],
)
def test_what_is_no_whole_run_is_refused(run: Path, tmp_path: Path, name: str, text: str | None, message: str) -> None:
    for each in ("components.json", "report.json", "recipe.yaml", "model.safetensors"):
        (tmp_path / each).write_bytes((run / each).read_bytes())
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=message), told(tmp_path):
        model_card(read_facts(tmp_path), "Toys")


def test_the_command_writes_into_the_run_and_replaces_nothing_unasked(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mmreg_cli(*arguments: str) -> Called:
        return call(monkeypatch, capsys, *arguments)

    written = mmreg_cli("card", str(run), "--license", "apache-2.0")
    assert written.code == 0
    path = run / "README.md"
    assert front(path.read_text(encoding="utf-8"))["license"] == "apache-2.0"
    path.write_text("mine")
    refused = mmreg_cli("card", str(run))
    assert (refused.code, path.read_text()) == (2, "mine")
    assert "--overwrite" in refused.err
    assert mmreg_cli("card", str(run), "--overwrite").code == 0
    assert path.read_text(encoding="utf-8").startswith("---\nlibrary_name: mmreg\n")
    path.unlink()
    assert mmreg_cli("card", str(run), "--license", "My Licence").code == 2
    assert mmreg_cli("card", str(run), "--out", str(run)).code == 2


def test_nothing_heavy_is_imported() -> None:
    (spec,) = mmreg_commands()
    assert spec.name == "card"
    code = "import sys, mmreg_card.command; sys.exit(any(name in sys.modules for name in ('torch', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pretrained_weights_of_a_run_are_named(run: Path) -> None:
    facts = read_facts(run)
    assert "pretrained weights" not in model_card(facts, "Toys")
    first = next(iter(facts.modalities))
    encoder = {"name": "timm", "model": "lite<0>", "weights": "assets/0123abcd-lite.safetensors"}
    for weights, shown in ((encoder["weights"], "lite.safetensors"), ("default", "the default ones")):
        known = {**facts.modalities, first: {**facts.modalities[first], "encoder": {**encoder, "weights": weights}}}
        text = model_card(Facts(facts.name, {**facts.recipe, "modalities": known}, facts.report, facts.components), "T")
        assert f"| timm | lite&lt;0>: {shown} |" in text
