"""Plugins that are broken in every way known, and what mmreg is to say of each."""

from __future__ import annotations

from wheels import Distribution

HEAD = """
import mmreg
from mmreg import CommandSpec, ComponentSpec, SourceSpec

mmreg_api = 1

"""


def returning(expression: str, hook: str = "mmreg_components", head: str = "") -> str:
    """A plugin module whose hook returns an expression's value."""
    return f"{HEAD}{head}\n@mmreg.hookimpl\ndef {hook}():\n    return {expression}\n"


ENCODER = '''
import torch
from mmreg import Encoder, Features, Signal, Spec


class Tiny(Encoder):
    """The mean of an embedding.

    Args:
        width: features.
    """

    def __init__(self, spec: Spec, *, width: int = 4) -> None:
        super().__init__()
        self.out_features = width
        self.embedding = torch.nn.Embedding(spec.vocabulary_size or 2, width)

    @classmethod
    def accepts(cls, spec, options):
        return None if spec.axes == "T" else "it takes tokens"

    def forward(self, signal: Signal) -> Features:
        inside = torch.arange(signal.values.shape[1]) < signal.lengths[:, None]
        return Features(pooled=(self.embedding(signal.values) * inside[..., None]).sum(1) / signal.lengths[:, None])
'''


def component(name: str, target: str = "nowhere.at_all:Thing", kind: str = "encoder", **more: str) -> str:
    arguments = "".join(f", {key}={value!r}" for key, value in more.items())
    return f"ComponentSpec({kind!r}, {name!r}, {target!r}{arguments})"


def one_encoder(name: str, version: str = "1.0") -> Distribution:
    """A plugin without fault that brings one encoder, called as the distribution."""
    target = f"{name.replace('-', '_')}.encoder:Tiny"
    return Distribution(name, returning(f"[{component(name, target)}]"), version=version, more={"encoder": ENCODER})


BROKEN: dict[str, tuple[str, str, str]] = {
    # name: (the plugin's module, its status, a pattern of the error)
    "raises-at-import": (
        "raise RuntimeError('out\\nof \\x1b[31morder')",
        "failed",
        r"RuntimeError: out of \?\[31morder",
    ),
    "raises-in-hook": (
        returning("1 / 0"),
        "failed",
        "mmreg_components raised ZeroDivisionError: division by zero",
    ),
    "raises-without-text": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
        "failed",
        "it cannot be imported: Mute",
    ),
    "lacks-package": ("import a_package_that_is_nowhere", "failed", "needs the package 'a_package_that_is_nowhere'"),
    "lacks-core-module": ("import mmreg.from_the_future", "failed", "which the installed 'mmreg' does not have"),
    "misspelt-import": (
        "import mmreg_misspelt_import.modul",
        "failed",
        r"names a module that does not exist: 'mmreg_misspelt_import.modul' \(mmreg_misspelt_import.plugin imports it",
    ),
    "unknown-argument": (
        f"{HEAD}@mmreg.hookimpl\ndef mmreg_components(config):\n    return []\n",
        "failed",
        r"Argument\(s\) \{'config'\}",
    ),
    "misspelt-hook": (
        returning("[]", hook="mmreg_component"),
        "failed",
        "no hook 'mmreg_component'; did you mean 'mmreg_components'",
    ),
    "no-hook": (f"{HEAD}def mmreg_components():\n    return []\n", "failed", "implements no hook"),
    "returns-nothing": (returning("None"), "failed", "must return a list of ComponentSpec, found None"),
    "returns-text": (returning("'encoder'"), "failed", "must return a list of ComponentSpec, found 'encoder'"),
    "returns-texts": (returning("['encoder']"), "failed", "found 'encoder' in it"),
    "returns-dict": (
        returning("{'encoder': 1}"),
        "failed",
        "must return a list of ComponentSpec, found {'encoder': 1}",
    ),
    "returns-class": (returning("[ComponentSpec]"), "failed", "ComponentSpec.*in it"),
    "returns-huge": (returning("['x' * 10_000_000]"), "failed", r"found 'xxxxx.{,40}xxxx' in it"),
    "returns-mute": (
        returning("[Mute()]", head="class Mute:\n    def __repr__(self):\n        raise ValueError\n"),
        "failed",
        "found <Mute instance> in it",
    ),
    "returns-twice": (returning(f"[{component('x')}, {component('x')}]"), "failed", "declares the encoder 'x' twice"),
    "unknown-kind": (returning(f"[{component('x', kind='encodr')}]"), "failed", "unknown kind 'encodr'"),
    "unknown-level": (returning(f"[{component('x', kind='fusion')}]"), "failed", "has the level ''"),
    "empty-name": (returning(f"[{component('')}]"), "failed", "'' is no name"),
    "colon-in-name": (returning(f"[{component('a:b')}]"), "failed", "'a:b' is no name"),
    "no-class": (returning(f"[{component('x', 'module')}]"), "failed", "must read 'package.module:name'"),
    "number-for-name": (returning("[ComponentSpec('encoder', 3, 'a:b')]"), "failed", "name must be text, found 3"),
    "other-api": (
        returning("[]").replace("mmreg_api = 1", "mmreg_api = 99").replace("return", "raise SystemError('called');"),
        "incompatible",
        "written for mmreg API 99, this mmreg has 1",
    ),
    "exits": ("import sys\nsys.exit(3)", "failed", "SystemExit: 3"),
    "exits-in-hook": (returning("exit()"), "failed", "mmreg_components raised SystemExit"),
    "panics": (
        "class Panic(BaseException):\n    pass\nraise Panic('a panic')",
        "failed",
        "Panic: a panic",
    ),
}


def broken_distributions() -> list[Distribution]:
    return [Distribution(f"mmreg-{name}", source) for name, (source, _, _) in BROKEN.items()]


NOISY = """
import os, subprocess, sys
import mmreg

print("NOISE")
os.write(1, b"NOISE\\n")
sys.__stdout__.write("NOISE\\n")
subprocess.run([sys.executable, "-c", "print('NOISE')"])


@mmreg.hookimpl
def mmreg_components():
    print("NOISE")
    os.write(1, b"NOISE\\n")
    return []


@mmreg.hookimpl
def mmreg_commands():
    print("NOISE")
    os.write(1, b"NOISE\\n")
    return []
"""

REENTRANT = """
import mmreg
from mmreg import registry

assert registry.names("encoder") == []
assert registry.all_plugins() == []


@mmreg.hookimpl
def mmreg_components():
    assert registry.specs() == []
    return []
"""

PARTIAL = returning(
    "["
    + ", ".join(
        [
            component("neighbour", "mmreg_partial.encoder:Tiny"),
            component("lacking", "mmreg_partial.lacking:Tiny", install_hint="pip install mmreg-partial[all]"),
            component("misspelt", "mmreg_partial.encodr:Tiny"),
            component("no_such_class", "mmreg_partial.plugin:mmreg_component"),
            component("exiting", "mmreg_partial.exiting:Tiny"),
        ]
    )
    + "]"
)
PARTIAL_MODULES = {
    "encoder": ENCODER,
    "lacking": "import a_package_that_is_nowhere\n",
    "exiting": "print('NOISE')\nexit(3)\n",
}

COMMANDS = f"""{HEAD}
@mmreg.hookimpl
def mmreg_commands():
    return [
        CommandSpec("hello", "Say hello.", "mmreg_commands.hello:app"),
        CommandSpec("many", "Several commands.", "mmreg_commands.many:app"),
        CommandSpec("lost", "Cannot be imported.", "mmreg_commands.lost:app"),
        CommandSpec("nothing", "Is no Typer.", "mmreg_commands.hello:hello"),
        CommandSpec("list", "Has the name of another one.", "mmreg_commands.hello:app"),
    ]
"""
HELLO = """
import sys
import typer

print("imported hello", file=sys.stderr)
app = typer.Typer()


@app.command()
def hello(names: list[str], loudly: bool = False, code: int = 0) -> None:
    "Say hello to people."
    print("hello " + " ".join(names) + "!" * loudly)
    raise typer.Exit(code)
"""
MANY = """
import typer

app = typer.Typer()


@app.command()
def first() -> None:
    print("the first")


@app.command()
def second() -> None:
    print("the second")
"""

CALLBACKS = """
import json
import mmreg


class Following(mmreg.Callback):
    def __init__(self):
        self.events = []

    def on_start(self, run, facts):
        self.events.append(["start", facts["rows"]["train"]])
        facts.clear()

    def on_epoch_end(self, run, epoch):
        self.events.append(["epoch", epoch.number])
        epoch.row().clear()

    def on_evaluation(self, run, split, result):
        self.events.append(["evaluation", split, result["rows"]])
        result.clear()

    def on_end(self, run, report):
        self.events.append(["end", report["epochs"], (run.folder / "model.safetensors").is_file()])
        (run.folder / "events.json").write_text(json.dumps(self.events))


class Failing(mmreg.Callback):
    def on_epoch_end(self, run, epoch):
        raise ValueError("one" + chr(10) + "error")

    def on_end(self, run, report):
        raise SystemError("it is told of nothing more")


class Exiting(mmreg.Callback):
    def on_start(self, run, facts):
        raise SystemExit(4)


@mmreg.hookimpl
def mmreg_callbacks():
    return [Failing(), Following(), Exiting()]
"""

SOURCES = f"""{HEAD}
@mmreg.hookimpl
def mmreg_sources():
    return [
        SourceSpec("lines", "mmreg_sources.reading:lines"),
        SourceSpec(".csv", "mmreg_sources.reading:broken"),
        SourceSpec(".words", "mmreg_sources.reading:words"),
        SourceSpec("broken", "mmreg_sources.reading:broken"),
        SourceSpec("number", "mmreg_sources.reading:number"),
        SourceSpec("lost", "mmreg_sources.lost:read"),
        SourceSpec("twice", "mmreg_sources.reading:lines"),
    ]
"""
READING = """
from pathlib import Path


def lines(name):
    print("NOISE")
    rows = Path(name.removeprefix("lines://")).read_text().splitlines()
    columns = rows[0].split(",")
    return [dict(zip(columns, row.split(","))) for row in rows[1:]]


def words(path):
    assert Path(path).is_absolute()
    return {"word": Path(path).read_text().split()}


def broken(name):
    raise RuntimeError("no connection to it")


def number(name):
    return 3
"""


def working_distributions() -> list[Distribution]:
    """Plugins that load: one hook, one component or one line of their output is wrong."""
    twins = [
        Distribution(
            f"mmreg-{name}",
            returning(f"[{component('tiny', f'mmreg_{name}.encoder:Tiny')}]"),
            entry_point="same",
            version=version,
            more={"encoder": ENCODER},
        )
        for name, version in (("one", "1.5"), ("two", "2.5"))
    ]
    return [
        *twins,
        Distribution("mmreg-noisy", NOISY),
        Distribution("mmreg-reentrant", REENTRANT),
        Distribution("mmreg-partial", PARTIAL, more=PARTIAL_MODULES),
        Distribution("mmreg-commands", COMMANDS, more={"hello": HELLO, "many": MANY}),
        Distribution("mmreg-callbacks", CALLBACKS),
        Distribution("mmreg-sources", SOURCES, more={"reading": READING}),
        Distribution("mmreg-more-sources", returning("[SourceSpec('twice', 'a:b')]", hook="mmreg_sources")),
    ]


WRONG_HOOKS: dict[str, tuple[str, str, str]] = {
    # name: (the hook, what it returns, a pattern of what is said of it)
    "commands-nothing": ("mmreg_commands", "None", "must return a list of CommandSpec, found None"),
    "commands-texts": ("mmreg_commands", "['hello']", "found 'hello' in it"),
    "commands-raise": ("mmreg_commands", "1 / 0", "mmreg_commands raised ZeroDivisionError"),
    "commands-name": ("mmreg_commands", "[CommandSpec('-x', '', 'a:b')]", "'-x' is no name for a command"),
    "commands-target": ("mmreg_commands", "[CommandSpec('x', '', 'a')]", "must read 'package.module:name'"),
    "commands-same": ("mmreg_commands", "[CommandSpec('hello', '', 'a:b')]", "brings a command 'hello', as commands"),
    "callbacks-nothing": ("mmreg_callbacks", "None", "must return a list of Callback, found None"),
    "callbacks-class": ("mmreg_callbacks", "[mmreg.Callback]", "Callback.* in it"),
    "callbacks-exit": ("mmreg_callbacks", "exit()", "mmreg_callbacks raised SystemExit"),
    "sources-text": ("mmreg_sources", "'sqlite'", "must return a list of SourceSpec, found 'sqlite'"),
    "sources-name": ("mmreg_sources", "[SourceSpec('A b', 'a:b')]", "'A b' is no name for a source"),
    "sources-raise": ("mmreg_sources", "{}['x']", "mmreg_sources raised KeyError: 'x'"),
}


def wrong_hook_distributions() -> list[Distribution]:
    return [Distribution(f"mmreg-{name}", returning(value, hook)) for name, (hook, value, _) in WRONG_HOOKS.items()]


CHATTY = f"""{HEAD}
class Following(mmreg.Callback):
    def on_end(self, run, report):
        print("NOISE of a callback")


@mmreg.hookimpl
def mmreg_components():
    return [{component("chatty", "mmreg_chatty.encoder:Tiny")}]


@mmreg.hookimpl
def mmreg_callbacks():
    return [Following()]
"""


def costly_distributions() -> list[Distribution]:
    """Plugins that load at a cost, that declare a component twice, and one whose components print."""
    chatty = ENCODER.replace("        inside", "        print('NOISE of an encoder')\n        inside")
    same = returning(f"[{component('same')}]")
    return [
        Distribution("mmreg-heavy", returning("[]", head="import torch")),
        Distribution("mmreg-slow", returning("[]", head="import time\ntime.sleep(0.3)")),
        Distribution("mmreg-same", same, more={"again": same}, entry_points={"same-again": "mmreg_same.again"}),
        Distribution("mmreg-chatty", CHATTY, more={"encoder": chatty}),
    ]
