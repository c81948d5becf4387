"""The pages for plugin authors say what the code says."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import forked
import pytest

import mmreg
from mmreg import layers
from mmreg.contract.lifecycle import Restorable
from mmreg.scaffold import new_plugin
from mmreg.testing import run_checks

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [page for folder in ("", "reference", "tutorials") for page in sorted((DOCS / folder).glob("*.md"))]
EXAMPLE = DOCS / "examples" / "mmreg-motion"
TUTORIAL = (DOCS / "plugins.md").read_text(encoding="utf-8")
REFERENCE = (DOCS / "reference" / "interfaces.md").read_text(encoding="utf-8")

BLOCKS = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
CLASSES = (
    *("Modality", "Encoder", "FeatureFusion", "ModelFusion", "Task", "Spec", "Signal", "Features", "Fused"),
    *("Balance", "BalanceBatch", "Observed", "EncoderGradients"),
    *("Metric", "Optimizer", "ParameterGroup", "Schedule", "ComponentSpec", "CommandSpec", "SourceSpec"),
    *("Engine", "EngineSpec"),
    *("Callback", "FollowedRun", "Step", "Epoch", "MetricValue"),
)


def test_the_tutorial_shows_every_part_of_the_example() -> None:
    assert [path for path, _ in BLOCKS] == [
        "pyproject.toml",
        "src/mmreg_motion/plugin.py",
        *["src/mmreg_motion/modality.py"] * 5,
        "src/mmreg_motion/tcn.py",
        "src/mmreg_motion/geometric.py",
        "tests/test_conformance.py",
    ]


@pytest.mark.parametrize(("path", "block"), BLOCKS, ids=[f"{n}-{path}" for n, (path, _) in enumerate(BLOCKS)])
def test_a_block_of_the_tutorial_that_names_a_file_is_lines_of_that_file(path: str, block: str) -> None:
    lines, wanted = (EXAMPLE / path).read_text(encoding="utf-8").splitlines(), block.splitlines()
    whole = [each for each, _ in BLOCKS].count(path) == 1
    starts = [0] if whole else [n for n, line in enumerate(lines) if line == wanted[0]]
    assert any(lines[at : len(lines) if whole else at + len(wanted)] == wanted for at in starts), (
        f"this block of docs/plugins.md is no part of {path}:\n{block}"
    )


def test_the_blocks_of_a_file_are_all_of_it() -> None:
    for path in {path for path, _ in BLOCKS}:
        shown = "\n".join(block for each, block in BLOCKS if each == path)
        lines = (EXAMPLE / path).read_text(encoding="utf-8").splitlines()
        assert [line for line in shown.splitlines() if line] == [line for line in lines if line], path


def test_who_follows_the_tutorial_has_the_example(tmp_path: Path) -> None:
    written = new_plugin("mmreg-motion", "modality", tmp_path)
    project = {path.relative_to(tmp_path / "mmreg-motion").as_posix() for path in written}
    example = {
        path.relative_to(EXAMPLE).as_posix()
        for path in EXAMPLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert project - example == {"tests/test_motion.py"}
    assert "`tests/test_motion.py` tests the\ncomponent that it came with: delete it" in TUTORIAL
    linked = {path.removeprefix("examples/mmreg-motion/") for path in re.findall(r"\]\(([^)#]+)", TUTORIAL)}
    assert example - project <= {path for path, _ in BLOCKS} | linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_links_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / ".ci" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    there = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == there


@pytest.mark.parametrize("name", CLASSES)
def test_the_reference_names_every_public_attribute_and_method(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/interfaces.md has no section {name}"
    missing = [
        each for each in public_names(getattr(mmreg, name)) if not re.search(rf"`{each}(?:\([^`]*\))?`", section[1])
    ]
    assert not missing, f"the section {name} of docs/reference/interfaces.md says nothing of {', '.join(missing)}"


def test_the_reference_tells_the_life_of_a_component() -> None:
    section = REFERENCE.partition("\n## A component's life\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+(?:\([^)]*\))?)` \|", section, re.MULTILINE))
    assert told == {"version", "passed_in", "state()", "load_state(state)", "migrate(state, version)"}
    assert set(public_names(Restorable)) == {name.partition("(")[0] for name in told}


@pytest.mark.parametrize("name", CLASSES)
def test_the_arguments_in_the_reference_are_those_of_the_methods(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert section
    for method, arguments in re.findall(r"`(\w+)\(([^`]*)\)`", section[1]):
        cls = getattr(mmreg, name)
        if method == "len":
            continue
        shown = [argument.strip() for argument in arguments.split(",") if argument.strip() not in ("", "*")]
        actual = [each for each in inspect.signature(getattr(cls, method)).parameters if each != "self"]
        assert shown == actual, f"{name}.{method}"


def test_the_reference_lists_the_layers_with_their_arguments() -> None:
    section = REFERENCE.partition("\n## mmreg.layers\n")[2].partition("\n## ")[0]
    listed = {name: arguments for name, _, arguments in re.findall(r"^\| `(\w+)(\(([^`]*)\))?` \|", section, re.M)}
    public = {
        name: "" if name == "Pooling" else ", ".join(inspect.signature(value).parameters)
        for name, value in vars(layers).items()
        if name == "Pooling" or (getattr(value, "__module__", "") == layers.__name__ and not name.startswith("_"))
    }
    public["MaskedBatchNorm"] = "num_features"  # the others are those of torch.nn.BatchNorm1d
    assert listed == public


def public_names(cls: type) -> list[str]:
    """What a class itself defines or annotates, without what it has from `torch.nn.Module`, ABC or dataclasses."""
    names = {*vars(cls), *inspect.get_annotations(cls)}
    return sorted(name for name in names if not name.startswith("_"))


CELLS = """
import sys, traceback, warnings
warnings.simplefilter("error")
for cell in sys.argv[1:]:
    try:
        exec(cell)
    except Exception:
        traceback.print_exc()
"""


def notebook(*code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run cells one after the other, as a notebook does: one that fails says so, and the next one runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MMREG_DISABLE_PLUGINS": "report"}  # drawing takes a second
    return forked.run(["-c", CELLS, *code], cwd, environment)


TRAIN = """
import numpy as np
random = np.random.default_rng(0)
rows = [
    {"picture": random.integers(80 * k, 80 * k + 90, (8, 8, 3), np.uint8), "kind": "dark light".split()[k]}
    for k in [0, 1] * 30
]
recipe = {
    "table": rows,
    "target": {"column": "kind"},
    "modalities": {"picture": {"type": "image", "size": 8, "encoder": {"name": "flat", "features": 4}}},
    "training": {"epochs": 3, "batch_size": 8},
}
run = mmreg.train(recipe, out="run")
print("accuracy", run.evaluate(rows)["metrics"]["accuracy"])
"""


NOTEBOOK = TUTORIAL.partition("\n## In a notebook\n")[2]
CELL = re.findall(r"^```python\n(.*?)^```$", NOTEBOOK, re.MULTILINE | re.DOTALL)[0]


def test_the_class_of_the_notebook_passes_the_conformance_checks() -> None:
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(CELL, "plugins.md", "exec", dont_inherit=True), names)
    report = run_checks(names["Flat"])
    assert report.ok, str(report)


def test_a_class_of_a_notebook_trains_is_replaced_by_itself_and_is_asked_for_on_loading(tmp_path: Path) -> None:
    rerun = "print('replaced:', registry.get('encoder', 'flat') is Flat, first is not Flat)"
    done = notebook(CELL, "first = Flat", CELL, rerun, "import mmreg", TRAIN, cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    assert "replaced: True True" in done.stdout
    assert "accuracy" in done.stdout

    somebody_elses = CELL.replace('"flat"', '"image_cnn"')
    load = "mmreg.load('run'); print('loaded')"
    later = notebook("import mmreg", load, CELL, "print('registered')", load, somebody_elses, cwd=tmp_path)
    assert re.search("registered\nloaded", later.stdout), later.stderr
    unknown, _, taken = later.stderr.partition("RunError: ")[2].partition("Traceback")
    assert re.search(r"picture.*\bfrom local", unknown)
    assert "register the local ones with mmreg.registry.register before loading" in unknown
    assert "there is no encoder 'flat'" in unknown
    assert "RegistrationError: encoder 'image_cnn' is taken by mmreg" in taken
