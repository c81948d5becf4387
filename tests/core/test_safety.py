"""Nothing that mmreg reads can run code: what could let it is used in the places named here, each with its reason."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULES = {
    *("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy", "ctypes", "subprocess"),
    *("tarfile", "zipfile", "socket", "urllib", "http", "ftplib", "requests", "httpx", "huggingface_hub"),
}
"""Modules that run what they read, start processes, unpack archives or reach the network."""
CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "importlib.import_module",
        "importlib.__import__",
        "os.system",
        "os.popen",
    ),
    *("os.execv", "os.execve", "os.execvp", "os.spawnv", "shutil.unpack_archive"),
    *(
        "torch.load",
        "torch.jit.load",
        "torch.hub.load",
        "torch.hub.load_state_dict_from_url",
        "torch.package.PackageImporter",
    ),
    *("numpy.load", "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
}
"""Functions that do."""
ATTRIBUTES = {"extractall", "enable_load_extension", "load_extension", "UnsafeLoader", "FullLoader", "allow_pickle"}
"""Methods and arguments that do, whatever they belong to."""

ALLOWED = {
    ("core/mmreg/training/checkpoint.py", "torch.load"): "weights_only=True, which the test below holds it to",
    ("core/mmreg/pretrained.py", "torch.load"): "weights_only=True, likewise",
    ("core/mmreg/pretrained.py", "urllib"): "the name in an address, and the error of a download that fails",
    ("plugins/mmreg_vector/reading.py", "numpy.load"): "allow_pickle=False, which the test below holds it to",
    ("plugins/mmreg_vector/reading.py", "allow_pickle"): "to forbid it",
    ("plugins/mmreg_export/runtime.py", "numpy.load"): "allow_pickle=False, likewise",
    ("plugins/mmreg_export/runtime.py", "allow_pickle"): "to forbid it",
    ("core/mmreg/training/checkpoint.py", "zipfile"): "to compare the checksums of a checkpoint; nothing is unpacked",
    ("core/mmreg/__init__.py", "importlib.import_module"): "its own modules, by a table in the file",
    ("core/mmreg/files.py", "importlib.import_module"): "fcntl, which Windows lacks",
    ("core/mmreg/model/allocator.py", "ctypes"): "two limits of the C library that the process runs on",
    ("core/mmreg/importing.py", "importlib.import_module"): "what an installed plugin declares: code that a user chose",
    ("core/mmreg/registry/interfaces.py", "importlib.import_module"): "interfaces of its own, by a table of kinds",
    ("core/mmreg/cli/probe.py", "importlib.import_module"): "installed packages whose names stand in the code",
    ("core/mmreg/cli/health.py", "subprocess"): "this Python, to see whether a device hangs or crashes",
    ("core/mmreg/studies/compare/jobs.py", "subprocess"): "this Python, to train a variant in a process of its own",
    ("core/mmreg/runs/hub.py", "huggingface_hub"): "runs that a user names by hf://, the files of a run alone",
    ("plugins/mmreg_hf/folders.py", "huggingface_hub"): "models that a recipe names: settings and safetensors alone",
    ("core/mmreg/training/joining.py", "socket"): "to ask whether the name of the first one's machine is known",
    ("plugins/mmreg_ray/engine.py", "socket"): "to see whether anything listens at the cluster's address that is given",
    ("plugins/mmreg_serve/command.py", "socket"): "to listen at the address that the command line gives",
    ("core/mmreg/testing/general.py", "subprocess"): "this Python, to import a plugin afresh",
    ("core/mmreg/data/addresses.py", "urllib"): "to take addresses apart",
    ("plugins/mmreg_remote/web.py", "urllib"): "to take addresses apart",
    ("plugins/mmreg_remote/tar.py", "tarfile"): "members are read into a table; nothing is unpacked",
    ("plugins/mmreg_timm/weights.py", "huggingface_hub"): "weights that a recipe names, read as safetensors",
}


def sources() -> list[Path]:
    """What users run: the core, and the bundled plugins."""
    return [path for folder in ("core", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]


def dangers(source: str) -> Iterator[tuple[str, ast.AST]]:
    """What of the above some code uses, and where."""
    tree = ast.parse(source)
    full: dict[str, str] = {}  # what each imported name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {
                each.asname or each.name.partition(".")[0]: each.name if each.asname else "" for each in node.names
            }
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            full |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            names = [node.module or ""]
        else:
            continue
        yield from ((name.partition(".")[0], node) for name in names if name.partition(".")[0] in MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            name = f"{full.get(first) or first}{dot}{rest}"
            if name in CALLS:
                yield name, node
            yield from ((keyword.arg, node) for keyword in node.keywords if keyword.arg in ATTRIBUTES)
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            yield node.attr, node


@functools.cache
def used() -> list[tuple[str, str, ast.AST]]:
    """What users run that is dangerous: its file, its name, and where."""
    return [
        (path.relative_to(ROOT).as_posix(), name, node)
        for path in sources()
        for name, node in dangers(path.read_text("utf-8"))
    ]


def test_what_could_run_code_is_used_where_there_is_a_reason_and_nowhere_else() -> None:
    assert {(file, name) for file, name, _ in used()} == set(ALLOWED)


@pytest.mark.parametrize(
    ("function", "argument", "value"), [("torch.load", "weights_only", "True"), ("numpy.load", "allow_pickle", "False")]
)
def test_what_could_unpickle_is_told_not_to(function: str, argument: str, value: str) -> None:
    loads = [node for _, name, node in used() if name == function]
    assert loads
    for load in loads:
        assert isinstance(load, ast.Call)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in load.keywords}
        assert given[argument] == value


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import urllib.request", "urllib"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch as t\nt.load(path)", "torch.load"),
        ("from torch import load as read\nread(path)", "torch.load"),
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("def read():\n    import yaml\n    return yaml.load(text, yaml.UnsafeLoader)", "yaml.load"),
        ("eval(text)", "eval"),
        ("archive.extractall()", "extractall"),
        ("f(x, allow_pickle=True)", "allow_pickle"),
    ],
)
def test_each_of_them_is_seen(source: str, name: str) -> None:
    assert name in [found for found, _ in dangers(source)]


def test_methods_that_are_called_alike_are_none_of_them() -> None:
    assert not list(dangers("import re, json\nre.compile('a')\nmodel.eval()\njson.load(file)\nyaml.safe_load(text)"))
