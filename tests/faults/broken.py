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


BROKEN: dict[str, tuple[str, str, str]] = {
    # name: (the plugin's module, its status, a pattern of the error)
    "raises-at-import": ("raise RuntimeError('out\\nof \\x1b[31morder')", "failed", r"RuntimeError: out of \?\[31morder"),
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
    "returns-dict": (returning("{'encoder': 1}"), "failed", "must return a list of ComponentSpec, found {'encoder': 1}"),
    "returns-class": (returning("[ComponentSpec]"), "failed", "ComponentSpec.*in it"),
    "returns-huge": (returning("['x' * 10_000_000]"), "failed", r"found 'xxxxx.{,40}xxxx' in it"),
    "returns-mute": (
        returning("[Mute()]", head="class Mute:\n    def __repr__(self):\n        raise ValueError\n"),
        "failed",
        "<Mute instance at",
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

NOISY = Distribution(
    "mmreg-noisy",
    f"import os, subprocess, sys\nprint('NOISE 1')\nos.write(1, b'NOISE 2\\n')\nsys.__stdout__.write('NOISE 3\\n')\n"
    f"subprocess.run([sys.executable, '-c', 'print(\"NOISE 4\")'])\n"
    f"{returning('[]', head='') .replace('    return', '    print(chr(78) + chr(79) + chr(73) + chr(83) + chr(69))' + chr(10) + '    return')}",
)
