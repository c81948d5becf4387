"""The public contract, as a snapshot: what plugins and scripts rely on changes on purpose only.

`python tests/core/test_contract.py` writes the snapshot anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import inspect
import json
import os
import re
import sys
import tempfile
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
from typer.testing import CliRunner

import mmreg
from mmreg import console, convolution, errors, files, layers, messages, pretrained, registry, testing
from mmreg.cli import doctor
from mmreg.cli.app import build_app
from mmreg.contract import hookspecs
from mmreg.contract.components import CommandSpec
from mmreg.contract.kinds import KINDS
from mmreg.importing import import_target
from mmreg.registry.installed import BUNDLED
from mmreg.registry.plugins import call_hook
from mmreg.runs import read_facts

SNAPSHOT = Path(__file__).with_name("contract.json")

ROWS = [{"a": f"{side} one", "b": f"{side} two", "side": side, "split": "train"} for side in ("left", "right") * 8]
ROWS += [{**row, "split": split} for split in ("validation", "test") for row in ROWS[:6]]
TEXT = {"type": "text", "encoder": {"name": "small", "embedding_size": 2, "hidden_size": 2, "num_layers": 1}}
RECIPE = {
    "table": "rows.jsonl",
    "split": "split",
    "target": {"column": "side"},
    "modalities": {"a": TEXT, "b": TEXT},
    "fusion": "mean",
    "training": {"epochs": 1, "batch_size": 8},
}

JSON_COMMANDS = {
    "list": ["list"],
    "info": ["info", "image_cnn"],
    "plugins": ["plugins"],
    "doctor": ["doctor"],
    "check": ["check", "task/regression"],
    "evaluate": ["evaluate", "run"],
    "compare": ["compare", "recipe.yaml", "--fusion", "mean,product", "--seeds", "0", "--quiet", "--device", "cpu"],
    "robustness": [
        *("robustness", "recipe.yaml", "--training-rates", "0.5", "--use-rates", "0.5", "--seeds", "0"),
        *("--quiet", "--device", "cpu"),
    ],
    "prepare": ["prepare", "recipe.yaml", "--quiet"],
    "explain": ["explain", "run", "rows.jsonl", "--device", "cpu"],
    "neighbours": ["neighbours", "run", "rows.jsonl", "1", "--quiet", "--device", "cpu"],
    "tune": [
        *("tune", "recipe.yaml", "--set", "training.modality_dropout={choice: [0, 0.1]}", "--trials", "1"),
        *("--quiet", "--device", "cpu"),
    ],
}
"""How each command that has `--format json` is called here."""


def contract() -> dict[str, Any]:
    """Everything that is promised, as plain data in a fixed order."""
    public = {name: getattr(mmreg, name) for name in mmreg.__all__}
    return {
        "mmreg": list(mmreg.__all__),
        "functions": {name: signature(value) for name, value in public.items() if inspect.isfunction(value)},
        "classes": {name: describe(value) for name, value in public.items() if inspect.isclass(value)},
        "registry": {name: either(value) for name, value in listed(registry).items()},
        "testing": {name: either(getattr(testing, name)) for name in testing.__all__},
        **{
            module.__name__.removeprefix("mmreg."): {n: either(v) for n, v in own(module).items()}
            for module in (console, convolution, files, layers, messages, pretrained)
        },
        "errors": {
            name: [base.__name__ for base in value.__mro__[1:] if base not in (object, BaseException)]
            for name, value in vars(errors).items()
            if inspect.isclass(value) and not name.startswith("_")
        },
        "kinds": {kind: sorted(each.interfaces) for kind, each in KINDS.items()},
        "hooks": {
            "mmreg_api": hookspecs.API_VERSION,
            **{name: signature(value) for name, value in functions(hookspecs).items() if name.startswith("mmreg_")},
        },
        "commands": commands(),
        "json": json_outputs(),
    }


def listed(module: Any) -> dict[str, Any]:
    """The functions and classes that a package lists as its own, from wherever they are."""
    public = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in public.items() if inspect.isfunction(value) or inspect.isclass(value)}


def functions(module: Any) -> dict[str, Any]:
    """A module's own public functions."""
    return {name: value for name, value in own(module).items() if inspect.isfunction(value)}


def own(module: Any) -> dict[str, Any]:
    """The public functions and classes that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }


def either(value: Any) -> Any:
    """A function's signature, what a class defines, or the names in a mapping of lists of functions."""
    if inspect.isclass(value):
        return describe(value)
    if inspect.isfunction(value):
        return signature(value)
    if not isinstance(value, Mapping):  # an annotated type, as of a parameter that commands share
        return str(value).partition(",")[0]
    return {key: [each.__name__ for each in values] for key, values in value.items()}


def signature(function: Any) -> str:
    """A signature as it is written: annotations without quotes, and functions as defaults by their names alone."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", text)


def describe(cls: type) -> dict[str, str]:
    """What a class itself defines: attributes with type and default, properties, methods."""
    found = {"class": ", ".join(base.__name__ for base in cls.__bases__)}
    if dataclasses.is_dataclass(cls) or "__init__" in vars(cls):
        found["constructor"] = signature(cls)
    for name, annotation in inspect.get_annotations(cls).items():
        if not name.startswith("_"):
            found[name] = str(annotation)
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(value, property):
            found[name] = f"property -> {inspect.signature(value.fget).return_annotation}"
        elif inspect.isfunction(function):
            found[name] = f"{'classmethod ' if isinstance(value, classmethod) else ''}{signature(function)}"
        else:
            default = sorted(value) if isinstance(value, frozenset) else value
            found[name] = f"{found.get(name, '')} = {default!r}".strip()
        if getattr(function, "__isabstractmethod__", False):
            found[name] += " (abstract)"
    return found


def commands() -> dict[str, dict[str, str]]:
    """Each command of mmreg and its bundled plugins, with its arguments and options."""
    app = build_app()
    group: Any = typer.main.get_command(app)
    assert app.registered_callback is not None
    found = {"mmreg": parameters(group, app.registered_callback.callback)}
    for info in app.registered_commands:
        found[f"mmreg {info.name}"] = parameters(group.commands[info.name], info.callback)
    bundled = [plugin for plugin in registry.all_plugins() if plugin.distribution == BUNDLED]
    for _, spec in call_hook(bundled, "mmreg_commands", CommandSpec):
        app = import_target(spec.target)
        for info in app.registered_commands:
            found[f"mmreg {spec.name}"] = parameters(typer.main.get_command(app), info.callback)
    return found


def parameters(command: Any, function: Any) -> dict[str, str]:
    """The parameters of a command: names or flags, and what may be given."""
    hints = typing.get_type_hints(function)
    found = {}
    for parameter in command.params:
        if parameter.name not in hints:
            continue  # the shell's completion, which typer adds
        flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
        ending = "required" if parameter.required else f"default {parameter.default}"
        found[flags] = f"{type_name(hints[parameter.name])}, {ending}"
    return found


def type_name(hint: Any) -> str:
    """A parameter's type in words; of an enumeration its values."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else ()
    if members:
        return " or ".join(type_name(member) for member in members if member is not type(None))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "|".join(str(member.value) for member in hint)
    return getattr(hint, "__name__", "") if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def json_outputs() -> dict[str, Any]:
    """The keys of what commands print with `--format json`, and of the files of a run."""
    found = {}
    environment = {"MMREG_PLUGINS": "", "MMREG_CACHE_DIR": ""}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), mock.patch.dict(os.environ, environment):
        os.environ["MMREG_CACHE_DIR"] = str(Path(folder) / "cache")
        registry.refresh()
        # What is registered in this process is trained in it, also by `compare`, which is much faster.
        encoder = type("Small", (registry.get("encoder", "text_rnn"),), {"__module__": __name__})
        registry.register("encoder", "small", encoder)
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        Path("recipe.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
        mmreg.train("recipe.yaml", "run", device="cpu")
        for name, arguments in JSON_COMMANDS.items():
            # Whether this machine's libraries work is no part of the contract, and takes long to see.
            with mock.patch.object(doctor, "probe", return_value=([], "")):
                done = CliRunner().invoke(build_app(), [*arguments, "--format", "json"])
            if not done.stdout.startswith(("[", "{")):
                raise AssertionError(f"mmreg {name} printed no JSON: {done.output} {done.exception}")
            found[f"mmreg {name}"] = keys(json.loads(done.stdout))
        found["report.json"] = keys(json.loads(Path("run/report.json").read_text()))
        found["components.json"] = keys(read_facts(Path("run")))
        found["predictions"] = keys(mmreg.load("run", device="cpu").predict(ROWS[:1]))
        found["files of a run"] = sorted(
            path.relative_to("run").as_posix() for path in Path("run").rglob("*") if path.is_file()
        )
        registry.unregister("encoder", "small")
    registry.refresh()
    return found


def keys(data: Any) -> Any:
    """The keys of nested data, of a list those of all its members together; null for a plain value."""
    if isinstance(data, Mapping):
        return {key: keys(data[key]) for key in sorted(data)}
    if isinstance(data, list):
        return [merged(keys(each) for each in data)]
    return None


def merged(shapes: Iterable[Any]) -> Any:
    """Keys that occur in any of several shapes."""
    found: Any = None
    for shape in shapes:
        if isinstance(found, dict) and isinstance(shape, dict):
            both = {*found, *shape}
            found = {key: merged(each[key] for each in (found, shape) if key in each) for key in sorted(both)}
        elif found is None:
            found = shape
    return found


def text(data: Any) -> str:
    """The contract as the snapshot's file holds it."""
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.usefixtures("curves", "report_page")  # the files of a run are part of it
def test_the_public_contract_is_as_it_was_reviewed() -> None:
    was, now = SNAPSHOT.read_text(encoding="utf-8"), text(contract())
    difference = difflib.unified_diff(was.splitlines(), now.splitlines(), "reviewed", "now", lineterm="")
    if was != now:
        advice = "If that is intended: python tests/core/test_contract.py writes it anew; add a line to CHANGELOG.md."
        pytest.fail("\n".join(["the public contract has changed:", *difference, "", advice]), pytrace=False)


def test_every_command_that_prints_json_is_in_the_snapshot() -> None:
    with_json = {name.removeprefix("mmreg ") for name, each in commands().items() if "--format" in each}
    assert with_json == set(JSON_COMMANDS)


if __name__ == "__main__":
    SNAPSHOT.write_text(text(contract()), encoding="utf-8")
    sys.stderr.write(f"wrote {SNAPSHOT}\n")
