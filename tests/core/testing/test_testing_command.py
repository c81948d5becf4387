"""`mmreg check`: components and distributions, tables and JSON, exit codes."""

from __future__ import annotations

import json

import mutants
import pytest
import torch
from good import Choice
from PIL import Image
from typer.testing import CliRunner

from mmreg import registry
from mmreg.cli.app import build_app
from mmreg.contract.components import CommandSpec, SourceSpec
from mmreg.registry.installed import Plugin


@pytest.fixture
def components(monkeypatch):
    """Two components registered by hand: one passes, the other fails; without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    registry.register("task", "choice", Choice)
    registry.register("modality", "series", mutants.StateIsNotLoaded)
    yield
    registry.unregister("task", "choice")
    registry.unregister("modality", "series")


def mmreg(*arguments):
    return CliRunner().invoke(build_app(), ["check", *arguments])


def test_a_component_that_passes_has_exit_code_0_and_its_skips_are_listed(components):
    result = mmreg("task/choice")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "component    check         result   detail",
        "task/choice  light_module  skipped  it comes from no plugin",
    ]
    assert lines[-2:] == ["", "task/choice: 10 run, 3 skipped, 0 failed"]


def test_all_lists_what_passed_too(components):
    lines = mmreg("choice", "--all").stdout.splitlines()
    assert "task/choice  labels_round_trip       passed" in lines
    assert len(lines) == 13 + 3


def test_a_component_that_fails_has_exit_code_1_and_a_reason(components):
    result = mmreg("series")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "  failed  " in line]
    assert line.startswith(
        "modality/series  modality_state     failed   the state of one that loaded a state should be"
    )


def test_json_is_one_document_with_every_check(components):
    result = mmreg("series", "--format", "json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert data["ok"] is False
    assert data["summary"] == "14 run, 2 skipped, 1 failed"
    assert {row["result"] for row in data["results"]} == {"passed", "skipped", "failed"}
    assert list(data["results"][0]) == ["component", "check", "result", "detail"]


def test_a_distribution_stands_for_all_its_components(components):
    result = mmreg("local", "--format", "json")
    assert {row["component"] for row in json.loads(result.stdout)["results"]} == {"task/choice", "modality/series"}


def test_a_plugin_that_could_not_be_loaded_is_a_failure(components, monkeypatch):
    broken = Plugin("depth", "mmreg-depth", "1", "", "mmreg_depth.plugin", status="failed", error="ImportError: no")
    monkeypatch.setattr(registry, "all_plugins", lambda: [broken])
    result = mmreg("mmreg_Depth", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["results"] == [
        {"component": "plugin depth", "check": "loads", "result": "failed", "detail": "failed: ImportError: no"}
    ]


def plugin_results(monkeypatch, plugin):
    monkeypatch.setattr(registry, "all_plugins", lambda: [plugin])
    result = mmreg(plugin.distribution, "--format", "json")
    rows = json.loads(result.stdout)["results"]
    assert {row["component"] for row in rows} <= {f"plugin {plugin.entry_point}"}
    return result.exit_code, {row["check"]: (row["result"], row["detail"]) for row in rows}


def test_a_plugin_that_is_blocked_is_a_failure(monkeypatch):
    blocked = Plugin("depth", "mmreg-depth", "1", "", "json", status="blocked", error="blocked by --no-plugin")
    assert plugin_results(monkeypatch, blocked) == (1, {"loads": ("failed", "blocked: blocked by --no-plugin")})


def test_a_plugin_whose_place_another_one_takes_is_no_failure(monkeypatch):
    duplicate = Plugin("depth", "mmreg-depth", "1", "", "json", status="duplicate", error="another comes first")
    assert plugin_results(monkeypatch, duplicate) == (0, {})


def test_the_commands_and_sources_of_a_plugin_without_components_are_imported(monkeypatch):
    hooks = {
        "mmreg_commands": lambda: [
            CommandSpec("demo", "The demo.", "mmreg_demo.command:app"),
            CommandSpec("lost", "Lost.", "no_such_package:app"),
            CommandSpec("number", "No app.", "math:pi"),
        ],
        "mmreg_sources": lambda: [
            SourceSpec("sqlite", "mmreg_sqlite.reading:read"),
            SourceSpec(".lost", "math:no_such_function"),
        ],
    }
    code, results = plugin_results(monkeypatch, Plugin("tool", "mmreg-tool", "1", "", "json", hooks=hooks))
    assert code == 1
    passed = {name for name, (outcome, _) in results.items() if outcome == "passed"}
    assert passed == {
        "loads",
        "light_module",
        "mmreg_commands",
        "mmreg_commands: demo",
        "mmreg_sources",
        "mmreg_sources: sqlite",
    }
    why = {name: detail for name, (outcome, detail) in results.items() if outcome == "failed"}
    assert set(why) == {"mmreg_commands: lost", "mmreg_commands: number", "mmreg_sources: .lost"}
    assert "no_such_package" in why["mmreg_commands: lost"]
    assert why["mmreg_commands: number"].endswith("no Typer")
    assert "no_such_function" in why["mmreg_sources: .lost"]


def test_a_hook_that_raises_or_lists_something_else_is_a_failure(monkeypatch):
    hooks = {"mmreg_commands": lambda: 1 / 0, "mmreg_sources": lambda: ["sqlite"]}
    code, results = plugin_results(monkeypatch, Plugin("tool", "mmreg-tool", "1", "", "json", hooks=hooks))
    assert code == 1
    assert results["mmreg_commands"] == ("failed", "it raised ZeroDivisionError: division by zero")
    assert results["mmreg_sources"] == ("failed", "it must list SourceSpecs only, found 'sqlite'")


def test_a_plugin_whose_module_imports_torch_is_a_failure(monkeypatch):
    code, results = plugin_results(monkeypatch, Plugin("heavy", "mmreg-heavy", "1", "", "mmreg.layers"))
    assert code == 1
    assert results["light_module"][1].startswith("mmreg.layers imports torch")


def test_a_component_that_cannot_be_imported_is_a_failure(monkeypatch):
    from mmreg.contract.components import ComponentSpec
    from mmreg.registry import Entry

    entry = Entry(ComponentSpec("task", "lost", "no_such_package.task:Task"), "mmreg-lost", "1")
    monkeypatch.setattr("mmreg.registry.lookup.specs", lambda kind=None: [entry])
    result = mmreg("task/lost", "--format", "json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)["results"]
    assert (row["check"], row["result"]) == ("target", "failed")
    assert "no_such_package" in row["detail"]


def test_what_a_component_prints_does_not_get_into_the_json(components):
    class Noisy(Choice):
        def fit(self, values):
            print("fitting")
            super().fit(values)

    registry.register("task", "noisy", Noisy)
    try:
        json.loads(mmreg("task/noisy", "--format", "json").stdout)
    finally:
        registry.unregister("task", "noisy")


def test_an_unknown_name_is_an_error_that_lists_what_there_is():
    result = mmreg("no_such_component")
    assert result.exit_code != 0
    assert "there is no component 'no_such_component'" in str(result.exception)


def test_values_for_a_modality_are_given_as_paths_or_texts(tmp_path, components):
    values = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (6 + number, 5), (number, 50, 100)).save(path)
        values += ["--value", str(path)]
    result = mmreg("modality/image", *values, "--format", "json")
    assert result.exit_code == 0, result.output
    missing = mmreg("modality/image", *values, "--value", str(tmp_path / "missing.png"), "--format", "json")
    assert missing.exit_code == 1
    assert ", which was given for it, cannot be loaded: no such file" in missing.stdout
