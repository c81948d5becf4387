"""YAML that was made to break its reader is refused in a message that names the line, soon and without much memory."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmreg.errors import RecipeError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.yaml import DEEPEST, MOST_BYTES, MOST_REPEATED, _Reader, read_yaml, yaml_text

LETTERS = "abcdefghi"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n" for before, here in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 1: aliases repeat more than 10,000 values"),
        ("a: 1\nb: 12345678901234567890123", "line 2: the number '12345678901234567890123' has more than 64 bits"),
        ("a: " + "9" * 5000, "line 1: the number '999999999999...9999999999999' has more than 64 bits"),
        ("a: 0x" + "f" * 5000, "has more than 64 bits"),
        ("\na: !!binary x", "line 2: the tag 'tag:yaml.org,2002:binary' is refused"),
        ("a: !!int foo", "line 1: 'foo' is no int"),
        ("a: !!float foo", "line 1: 'foo' is no float"),
        ("a: !!bool maybe", "line 1: 'maybe' is no bool"),
        ("a: !!null foo", "line 1: 'foo' is no null"),
        ("a: !!set {x, y}", "line 1: the tag 'tag:yaml.org,2002:set' is refused"),
        ("a: !!omap [x: 1]", "the tag 'tag:yaml.org,2002:omap' is refused"),
        ("a: !!timestamp 2020-99-99", "the tag 'tag:yaml.org,2002:timestamp' is refused"),
        ("a: !!python/name:os.system", "the tag 'tag:yaml.org,2002:python/name:os.system' is refused"),
        ("a: !!str [x]", "the tag 'tag:yaml.org,2002:str' is refused"),
        ("a: !!seq {x: 1}", "the tag 'tag:yaml.org,2002:seq' is refused"),
        ("!mine k: 1", "the tag '!mine' is refused"),
        ("? [x]\n: 1", "line 1: a key must be a word, found a sequence"),
        ("a: &a [x]\n? [*a, *a]\n: 1", "line 2: a key must be a word"),
        ("a: *nope", "line 1: this is no valid YAML: found undefined alias"),
        ('a: "\\UFFFFFFFF"', "this is no valid YAML"),
        ("a: 1\nb: con\x1bcat", "line 2: this is no valid YAML: the character U+001B may not stand in it"),
        ('a: "\\uD800"', "line 1: '\\ud800' holds what is no character of Unicode"),
        ("a: \udc80", "this is no valid YAML"),
        ("[" * 10_000, "nested too deeply"),
        ("{" * 10_000, "nested too deeply"),
        ("- " * 10_000, "nested too deeply"),
        ("? " * 10_000, "nested too deeply"),
        ("x" * (MOST_BYTES + 1), "characters of YAML are refused"),
    ],
)
def test_what_was_made_to_break_a_reader_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_yaml(text, "r.yaml")
    assert str(caught.value).startswith("r.yaml")
    assert message in str(caught.value)


def test_aliases_are_counted_as_they_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    plain = _Reader.plain
    monkeypatch.setattr(_Reader, "plain", lambda self, *rest: visited.append(1) or plain(self, *rest))
    with pytest.raises(RecipeError, match="aliases"):
        read_yaml(LAUGHS, "r.yaml")
    assert len(visited) <= len(LAUGHS) + MOST_REPEATED + 1
    assert read_yaml("a: &a [1, 2]\nb: *a\n", "r.yaml")[0] == {"a": [1, 2], "b": [1, 2]}


def test_brackets_are_counted_as_they_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    start = yaml.SafeLoader.fetch_flow_collection_start
    monkeypatch.setattr(
        yaml.SafeLoader, "fetch_flow_collection_start", lambda self, kind: opened.append(1) or start(self, kind)
    )
    with pytest.raises(RecipeError, match="nested too deeply"):
        read_yaml("[" * 10_000, "r.yaml")
    assert len(opened) == DEEPEST


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("18446744073709551615", 2**64 - 1),
        ("1:30:30", "1:30:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e999999", float("inf")),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ("=", "="),
        ("<<", "<<"),
        ('!!str "1"', "1"),
        ("!!int 7", 7),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert read_yaml(f"a: {text}", "r.yaml")[0] == {"a": value}


VALUES = ["1e3", "0o14", "010", "yes", "null", "~", "1:30", "2020-01-01", "a: b", "#c", "x{", "- a", "0x1F", ".inf"]
VALUES += ["x\ny", "", " a", "1_000", "=", "<<", "\u00e9", "a" * 3000, "'", '"', "a, b", "]"]


@pytest.mark.parametrize("value", [*VALUES, 1, 1.5, 1e-5, 1e300, None, True, float("inf"), 2**63, [], {}])
def test_what_is_written_is_read_back(value: Any) -> None:
    data = {"k": value, "list": [value]}
    assert read_yaml(yaml_text(data), "r.yaml")[0] == data
    assert (
        read_yaml(f"{{k: {yaml_text(value, flow=True)}, list: [{yaml_text(value, flow=True)}]}}", "r.yaml")[0] == data
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_recipe_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(RecipeError, match="is a FIFO, where a recipe's file is needed"):
        read_recipe(tmp_path / "r.yaml")
    with pytest.raises(RecipeError, match="is a device"):
        read_recipe("/dev/zero")


def test_a_recipe_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "r.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecipeError, match="is no recipe: it has 1,099,511,627,776 bytes"):
        read_recipe(tmp_path / "r.yaml")


def test_texts_that_cannot_be_written_are_refused_in_python_as_well() -> None:
    recipe = {"table": "a\udc80.csv", "target": {"column": "x"}, "modalities": {"text": {}}}
    with pytest.raises(RecipeError, match="must hold characters of Unicode only"):
        read_recipe(recipe)
