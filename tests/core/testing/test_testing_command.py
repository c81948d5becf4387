"""`mmreg check`: components and distributions, tables and JSON, exit codes."""

from __future__ import annotations

import json

import mutants
import pytest
import torch
from good import Choice, Recurrent
from PIL import Image
from records import RecordMLP, Records
from typer.testing import CliRunner

from mmreg import Encoder, Spec, registry
from mmreg.cli.app import build_app
from mmreg.cli.check import _value
from mmreg.contract.components import CommandSpec, SourceSpec
from mmreg.errors import SpecError
from mmreg.registry.installed import Plugin


@pytest.fixture
def components(monkeypatch):
    """Two components registered by hand: one passes, the other fails; without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    registry.register("task", "choice", Choice)
    registry.register("modality", "rhythm", mutants.StateIsNotLoaded)
    yield
    registry.unregister("task", "choice")
    registry.unregister("modality", "rhythm")


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
    assert lines[-2:] == ["", "task/choice: 12 run, 4 skipped, 0 failed"]


def test_all_lists_what_passed_too(components):
    lines = mmreg("choice", "--all").stdout.splitlines()
    assert "task/choice  labels_round_trip       passed" in lines
    assert len(lines) == 16 + 3


def test_a_component_that_fails_has_exit_code_1_and_a_reason(components):
    result = mmreg("rhythm")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "  failed  " in line]
    assert line.startswith(
        "modality/rhythm  modality_state     failed   the state of one that loaded a state should be"
    )


def test_json_is_one_document_with_every_check(components):
    result = mmreg("rhythm", "--format", "json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert data["ok"] is False
    assert data["summary"] == "15 run, 2 skipped, 1 failed"
    assert {row["result"] for row in data["results"]} == {"passed", "skipped", "failed"}
    assert list(data["results"][0]) == ["component", "check", "result", "detail"]


def test_a_distribution_stands_for_all_its_components(components):
    result = mmreg("local", "--format", "json")
    assert {row["component"] for row in json.loads(result.stdout)["results"]} == {"task/choice", "modality/rhythm"}


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


class Clip(Encoder):
    """Takes videos of 8 x 8 pixels alone.

    Args:
        size: of an image; it has no default.
    """

    provides = frozenset({"pooled", "tokens"})

    def __init__(self, spec, *, size: int, outputs="pooled"):
        if reason := self.accepts(spec, {}):
            raise SpecError(reason)
        super().__init__()
        self.frames = Recurrent(Spec("TC", (None, 3)), outputs=outputs)
        self.out_features = self.frames.out_features

    @classmethod
    def accepts(cls, spec, options):
        return None if spec == Spec("TCHW", (None, 3, 8, 8)) else "it takes TCHW (any, 3, 8, 8)"

    def forward(self, signal):
        return self.frames(signal.replace(signal.values.mean((3, 4))))


@pytest.fixture
def further():
    """Components that need material, registered by hand."""
    added = []

    def add(kind, name, cls):
        registry.register(kind, name, cls)
        added.append((kind, name))

    yield add
    for kind, name in added:
        registry.unregister(kind, name)


SPEC = ("--spec", "{axes: TCHW, shape: [null, 3, 8, 8]}")
RECORDS = [
    {"price": 1.5, "brand": "acme", "weight": 3.0},
    {"price": None, "brand": "best", "weight": 1.0},
    {"price": 4.0, "brand": None, "weight": 2.0},
    {"price": 0.5, "brand": "acme", "weight": 0.0},
    {"price": 2.5, "brand": "best", "weight": 4.0},
]


def test_an_encoder_is_built_with_the_options_and_for_the_spec_that_are_given(further):
    further("encoder", "clip", Clip)
    result = mmreg("clip", "--option", "size=8", *SPEC, "--format", "json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["warnings"] == []
    skipped = {row["check"] for row in data["results"] if row["result"] == "skipped"}
    assert skipped <= {"light_module", "devices"}


def test_a_warning_says_what_to_give_where_most_checks_are_skipped(further):
    further("encoder", "clip", Clip)
    for arguments, needed in (((), "--option"), (("--option", "size=8"), "--spec")):
        result = mmreg("clip", *arguments, "--format", "json")
        assert result.exit_code == 0, result.output
        (warning,) = json.loads(result.stdout)["warnings"]
        assert f"warning: {warning}" in result.stderr
        assert warning.startswith("encoder/clip: ")
        assert "checks were skipped" in warning
        assert needed in warning


def test_a_class_gives_its_own_material_and_what_the_caller_gives_takes_its_place(further):
    class Declared(Clip):
        __doc__ = Clip.__doc__

        @classmethod
        def conformance_material(cls):
            return {"options": {"size": 8}, "specs": [Spec("TCHW", (None, 3, 8, 8))]}

    further("encoder", "clip", Declared)
    result = mmreg("clip", "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)["warnings"]) == (0, []), result.output
    other = mmreg("clip", "--spec", '{"axes": "TCHW", "shape": [null, 3, 9, 9]}', "--format", "json")
    assert other.exit_code == 1
    assert "it should take TCHW (any, 3, 9, 9) float32, which was given for it" in other.stdout


@pytest.mark.parametrize("given", [{"sizes": [1]}, ["specs"]])
def test_material_of_another_form_is_a_failure(further, given):
    class Misspelt(Choice):
        """Classes."""

        @classmethod
        def conformance_material(cls):
            return given

    further("task", "misspelt", Misspelt)
    result = mmreg("task/misspelt", "--format", "json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)["results"]
    assert (row["check"], row["result"]) == ("material", "failed")
    assert "Misspelt.conformance_material should give a mapping of some of bad_values, options" in row["detail"]


def test_values_may_be_json_and_specs_may_be_of_several_arrays(further):
    further("modality", "records", Records)
    further("encoder", "record_mlp", RecordMLP)
    values = [part for record in RECORDS for part in ("--value", json.dumps(record))]
    result = mmreg("modality/records", *values, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["warnings"] == []
    spec = {
        "numbers": {"axes": "C", "shape": [2]},
        "categories": {"axes": "T", "shape": [3], "dtype": "int64", "vocabulary_size": 9},
    }
    result = mmreg("encoder/record_mlp", "--spec", json.dumps(spec), "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["warnings"] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a cat", "a cat"),
        ("[1, 2.5]", [1, 2.5]),
        ("42", 42),
        ('"42"', "42"),
        ('{"a": [1]}', {"a": [1]}),
        ("true", "true"),
        ("NaN", "NaN"),
    ],
)
def test_a_value_is_json_or_else_a_text(text, value):
    assert _value(text, Records) == value


def test_what_cannot_be_read_is_refused(further):
    further("encoder", "clip", Clip)
    for arguments, told in (
        (("clip", "--option", "size"), "it needs KEY=VALUE"),
        (("clip", "--spec", "{axes: T}"), "it needs axes and shape"),
        (("mmreg", "--option", "size=8"), "it is for one component"),
    ):
        result = mmreg(*arguments)
        assert result.exit_code == 2
        assert told in " ".join(result.stderr.replace("│", " ").split())
    wrong = mmreg("clip", "--option", "sizes=8")
    assert wrong.exit_code != 0
    assert "sizes" in str(wrong.exception)
