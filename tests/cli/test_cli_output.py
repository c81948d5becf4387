"""`list`, `info`, `plugins` and `schema`: one JSON document, plain tables in a pipe, and words for people."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from small import RECIPE, Caller

from mmreg.console import figure_rows, print_json, print_table

COMPONENT = {"kind", "name", "level", "summary", "distribution", "version", "status"}
PLUGIN = {"distribution", "version", "entry_point", "status", "error", "components"}


def document(cli: Caller, *arguments: str) -> Any:
    """What a command gives as JSON: the whole of stdout, and nothing else anywhere."""
    done = cli(*arguments, "--format", "json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_components_are_listed_alike_as_json_and_as_plain_columns(cli: Caller) -> None:
    rows = document(cli, "list")
    assert all(set(row) >= COMPONENT for row in rows)
    names = {(row["kind"], row["name"]) for row in rows}
    assert {("modality", "image"), ("encoder", "text_rnn"), ("fusion", "concat"), ("task", "regression")} <= names
    assert {row["level"] for row in rows if row["kind"] == "fusion"} == {"feature", "model"}
    table = cli("list")
    lines = table.out.splitlines()
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        for column in COMPONENT:
            assert row[column] in line  # in full, however wide
    assert "\x1b" not in table.out
    encoders = document(cli, "list", "encoder")
    assert encoders == [row for row in rows if row["kind"] == "encoder"]


def test_plugins_are_listed_with_what_they_bring(cli: Caller) -> None:
    rows = document(cli, "plugins")
    assert all(set(row) >= PLUGIN for row in rows)
    by_name = {row["entry_point"]: row for row in rows if row["distribution"] == "mmreg"}
    assert by_name["image"]["status"] == "ok"
    assert {"modality/image", "encoder/image_cnn"} <= set(by_name["image"]["components"])
    lines = cli("plugins").out.splitlines()
    assert len(lines) == len(rows) + 1


def test_every_component_is_described_with_options_and_a_snippet(cli: Caller) -> None:
    for row in document(cli, "list"):
        name = f"{row['kind']}/{row['name']}"
        facts = document(cli, "info", name)
        assert COMPONENT | {"documentation", "options", "recipe"} <= set(facts), name
        for option in facts["options"]:
            assert option["description"], f"{name}: {option['name']} is not described"
        assert isinstance(yaml.safe_load(facts["recipe"]), dict), name
        printed = cli("info", name)
        assert printed.code == 0
        assert f"{row['kind']} {row['name']}" in printed.out.splitlines()[0]
        assert not re.search(r"^(Raises|Example|Args|Attributes):$", printed.out, re.MULTILINE), name
        for option in facts["options"]:
            assert re.search(rf"^{option['name']}  .*{re.escape(option['description'])}$", printed.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "encodr"], "there is no kind 'encodr'; did you mean 'encoder'"),
        (["info", "image_cn"], "did you mean 'image_cnn'"),
        (["info", "encoder/image"], "there is no encoder 'image'"),
        (["info", "nowhere:image_cnn"], "nowhere"),
        (["info"], "Missing argument"),
        (["list", "--format", "xml"], "'table', 'json'"),
        (["plugin"], "Did you mean"),
        (["trian", "recipe.yaml"], "Did you mean 'train'"),
        (["eval", "run"], "Did you mean 'evaluate'"),
        (["reprot", "run"], "'report'"),  # of a plugin
        (["cache", "prun"], "Did you mean 'prune'"),
        (["train", "recipe.yaml", "--overwrit"], "--overwrite"),
        (["card", "run", "--licence", "mit"], "--license"),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest(arguments: list[str], said: str, cli: Caller) -> None:
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "ü"})
    assert capsys.readouterr().out == '{\n  "a": null,\n  "b": [\n    null,\n    1.5\n  ],\n  "c": "ü"\n}\n'


def test_figures_are_rows_with_intervals_beside_their_metrics_and_the_baseline_last() -> None:
    metrics = {"f1": 0.5, "accuracy": 0.75, "rows": 3, "modalities": {"image": {"rows": 3, "accuracy": 0.5}}}
    known = {"intervals": {"accuracy": [0.5, 0.98765]}, "baseline": {"prediction": [1, 2], "accuracy": 0.25}}
    whole, part = {"part": "all", "rows": 4, "f1": 0.5, "accuracy": 0.75}, {"part": "image", "rows": 3, "accuracy": 0.5}
    assert figure_rows({"rows": 4, "metrics": metrics}) == [whole, part]
    rows = figure_rows({"rows": 4, "metrics": metrics | known})
    assert rows == [
        whole | {"accuracy 95% interval": "0.5 to 0.988"},
        part,
        {"part": "always the means", "rows": 4, "accuracy": 0.25},
    ]
    assert list(rows[0])[-2:] == ["accuracy", "accuracy 95% interval"]


def test_a_row_of_a_plain_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"a": "two\nlines", "b": 0.123456}, {"a": "x" * 300}], ("a", "b"), title="T")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["T"], ["a", "b"], ["two", "lines", "0.1235"], ["x" * 300]]


def test_the_schema_takes_right_recipes_and_no_wrong_ones(cli: Caller) -> None:
    schema = json.loads(cli("schema").out)
    right = yaml.safe_load(RECIPE)
    assert problems(right, schema) == []
    nested = {"name": "mean", "of": [{"name": "concat", "hidden": [8], "of": ["image", "title"]}, "audio"]}
    further = {"fusion": nested, "split": {"test": 0.2, "by": "speaker"}, "on_bad": "skip", "metrics": ["auroc"]}
    assert problems(right | further, schema) == []
    assert problems(right | {"fusion": "mmreg:concat"}, schema) == []
    for changes in (
        {"tabel": "x.csv"},
        {"target": {"column": "label", "task": "clasification"}},
        {"target": {"column": "label", "smoothing": 0.1}},
        {"modalities": {}},
        {"modalities": {"image": {"sizes": 16}}},
        {"modalities": {"image": {"size": 0}}},
        {"modalities": {"picture": {"column": "image"}}},
        {"modalities": {"title": {"type": "text", "encoder": "text_rn"}}},
        {"modalities": {"title": {"type": "text", "encoder": {"name": "text_rnn", "cell": "gruu"}}}},
        {"fusion": "concatenate"},
        {"fusion": {"name": "low_rank", "rank": 0}},
        {"fusion": {"name": "mean", "of": [{"name": "concat", "hiden": [8], "of": ["image", "title"]}, "audio"]}},
        {"training": {"epochs": 0}},
        {"on_bad": "ignore"},
    ):
        assert problems(right | changes, schema), changes
    without = {key: value for key, value in right.items() if key != "target"}
    assert problems(without, schema)
    several = {"targets": {"kind": right["target"]}}
    assert problems(without | several, schema) == []
    assert problems(right | several, schema)


TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
BOUNDS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}
ANNOTATIONS = {"title", "description", "default", "examples", "$defs", "$schema"}


def problems(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> list[str]:
    """What a JSON schema has against a value; knows the keywords that recipes' schema uses, and refuses others."""
    root = root or schema

    def check(part: Any, rule: Any) -> list[str]:
        return problems(part, rule, root)

    found: list[str] = []
    for keyword, rule in schema.items():
        if keyword in ANNOTATIONS or keyword == "then":
            continue
        if keyword == "$ref":
            found += check(value, root["$defs"][rule.removeprefix("#/$defs/")])
        elif keyword == "type":
            truth = isinstance(value, bool) and rule != "boolean"
            found += [] if isinstance(value, TYPES[rule]) and not truth else [f"{value!r} is no {rule}"]
        elif keyword in ("enum", "const"):
            found += [] if value in (rule if keyword == "enum" else [rule]) else [f"{value!r} is none of {rule}"]
        elif keyword == "anyOf":
            found += [] if any(not check(value, one) for one in rule) else [f"{value!r} fits none"]
        elif keyword == "oneOf":
            found += [] if sum(not check(value, one) for one in rule) == 1 else [f"{value!r} fits none, or several"]
        elif keyword == "allOf":
            found += [problem for one in rule for problem in check(value, one)]
        elif keyword == "not":
            found += [] if check(value, rule) else [f"{value!r} is what it must not be"]
        elif keyword == "if":
            found += check(value, schema["then"]) if not check(value, rule) else []
        elif keyword == "pattern":
            found += [] if not isinstance(value, str) or re.search(rule, value) else [f"{value!r} is not {rule}"]
        elif keyword in BOUNDS:
            number = isinstance(value, int | float)
            found += [] if not number or BOUNDS[keyword](value, rule) else [f"{value} breaks {keyword} {rule}"]
        elif keyword in ("minItems", "maxItems", "minProperties"):
            sized = isinstance(value, list if keyword.endswith("Items") else dict)
            fits = not sized or (len(value) <= rule if keyword == "maxItems" else len(value) >= rule)
            found += [] if fits else [f"{value!r} breaks {keyword} {rule}"]
        elif keyword == "items":
            found += [problem for item in value for problem in check(item, rule)] if isinstance(value, list) else []
        elif isinstance(value, dict) and keyword == "required":
            found += [f"{key} is missing" for key in rule if key not in value]
        elif isinstance(value, dict) and keyword == "properties":
            found += [problem for key in value if key in rule for problem in check(value[key], rule[key])]
        elif isinstance(value, dict) and keyword == "additionalProperties":
            for key in value.keys() - schema.get("properties", {}).keys():
                found += ([] if rule else [f"{key} is unknown"]) if isinstance(rule, bool) else check(value[key], rule)
        else:
            assert keyword in ("required", "properties", "additionalProperties"), f"unknown keyword {keyword}"
    return found


def test_a_lack_of_memory_on_a_cpu_is_told_as_that(cli: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 8000000000 bytes"
        )

    monkeypatch.setattr("mmreg.registry.row", exhausted)
    done = cli("list")
    assert done.code == 1
    assert done.err.startswith(
        "mmreg: there is not enough memory; lower training.batch_size, or the sizes of the model"
    )
    assert "you tried to allocate 8000000000 bytes" in done.err


def test_a_panic_is_told_without_a_traceback(cli: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """What a panic of a Rust extension is."""

    def panic(*_: object) -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr("mmreg.registry.row", panic)
    done = cli("list")
    assert done.code == 1
    assert "an error inside mmreg or a plugin: Panic: index out of bounds" in done.err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What is printed on a terminal of some columns."""

    def printed(columns: int, *arguments: Any, **options: Any) -> str:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(*arguments, **options)
        return capsys.readouterr().out

    return printed


def test_a_terminal_that_is_too_narrow_for_a_table_gets_rows_below_each_other(terminal: Callable[..., str]) -> None:
    row = {"run": "runs/first", "status": "whole", "modalities": "image, title", "fusion": "concat", "none": None}
    rows = [row, {**row, "run": "[red]x[/red]" * 5}]
    narrow = terminal(40, rows, title="Runs").splitlines()
    assert all(len(line) <= 40 for line in narrow)
    assert narrow[:7] == [
        *("Runs", "", "run: runs/first", "status: whole", "modalities: image, title", "fusion: concat", ""),
    ]
    assert "".join(narrow[7:10]).partition("status")[0] == "run: " + "[red]x[/red]" * 5
    assert "─" in terminal(100, rows)
    assert "─" in terminal(40, [{"a": "x" * 100, "b": 1}])  # of few columns a table can be read


def test_no_colour_is_used_where_none_is_wanted(terminal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    colour = re.compile(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|38;|48;)[0-9;]*m")
    for width in (40, 100):
        assert not colour.search(terminal(width, [{"name": "x", "value": 0.5}] * 3, title="Title"))
