"""What shells are offered at TAB, for bash, zsh and fish: names of components, runs and recipes, without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import make_run
from small import Caller

from mmreg import registry
from mmreg.completion import complete_plugins, complete_recipes, complete_recipes_and_tables, complete_runs, components
from mmreg.contract.components import ComponentSpec
from mmreg.contract.kinds import KINDS

PROGRAM = """
import contextlib, io, json, os, sys
from mmreg.cli import main
questions, offers, environment = json.loads(sys.argv[1]), [], dict(os.environ)
sys.argv = ["mmreg"]
for asked in questions:
    os.environ.clear()
    os.environ.update(environment | asked)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    offers.append([out.getvalue().split(), sorted({"torch", "pyarrow"} & set(sys.modules))])
print(json.dumps(offers))
"""
RECIPE = "table: table.csv\nmodalities: {text: {}}\n"


def make_place(folder: Path) -> Path:
    """A folder with runs, recipes and a table, and what must not be offered."""
    for name in ("first", "runs/second", "runs/deep/third"):
        make_run(folder / name)
    for name in ("runs/much/too/deep/down", ".hidden/run", "a run", "a$(b)"):  # not to be offered
        make_run(folder / name)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "runs" / "other.yml").write_text(RECIPE)
    (folder / "mkdocs.yaml").write_text("nav: []\n")
    (folder / "folder.yaml").mkdir()
    os.mkfifo(folder / "fifo.yaml")
    (folder / "table.csv").write_text("text\n")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, made by `make_place`."""
    monkeypatch.chdir(tmp_path)
    return make_place(tmp_path)


def asked(shell: str, *words: str) -> dict[str, str]:
    """The environment in which a shell asks for what the last of some words may be."""
    environment = {"_MMREG_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        return environment | {"COMP_WORDS": " ".join(("mmreg", *words)), "COMP_CWORD": str(len(words))}
    return environment | {
        "_TYPER_COMPLETE_ARGS": " ".join(("mmreg", *words)),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


OFFERED: list[tuple[tuple[str, ...], list[str]]] = [
    (("eval",), ["evaluate"]),
    (("ser",), ["serve"]),  # of a plugin
    (("runs", ""), ["list", "diff", "remove"]),
    (("evaluate", ""), ["first", "runs/deep/third", "runs/second"]),
    (("report", "first", "runs/s"), ["runs/second"]),  # of a plugin
    (("train", ""), ["recipe.yaml", "runs/other.yml", "table.csv"]),
    (("tune", "r"), ["recipe.yaml", "runs/other.yml"]),
    (("list", ""), sorted(KINDS)),
    (("info", "encoder/image_c"), ["encoder/image_cnn"]),
    (("compare", "recipe.yaml", "--fusion", "concat,low_r"), ["concat,low_rank"]),
    (("--no-plugin", "tim"), ["timm"]),
    (("train", "--res"), ["--resume"]),
]
"""What bash is offered for words."""


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], list[list[str]]]:
    """By a shell and words: what it is given for the last of them, and the heavy modules that are there by then."""
    questions = [("bash", *words) for words, _ in OFFERED] + [(shell, "evaluate", "r") for shell in ("fish", "zsh")]
    command = [sys.executable, "-c", PROGRAM, json.dumps([asked(*question) for question in questions])]
    place = make_place(tmp_path_factory.mktemp("place"))
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert done.stderr == ""  # no warning
    return dict(zip(questions, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("words", "offered"), OFFERED)
def test_bash_is_offered_names_and_nothing_heavy_is_imported(
    words: tuple[str, ...], offered: list[str], offers: dict[tuple[str, ...], list[list[str]]]
) -> None:
    assert offers["bash", *words] == [offered, []]


def test_zsh_and_fish_are_offered_the_same(offers: dict[tuple[str, ...], list[list[str]]]) -> None:
    assert offers["fish", "evaluate", "r"] == [["runs/deep/third", "runs/second"], []]
    given, heavy = offers["zsh", "evaluate", "r"]
    assert '"runs/deep/third"' in " ".join(given)
    assert heavy == []


SETS = {"bash": "complete -o default", "zsh": "#compdef mmreg", "fish": "complete --command mmreg"}


@pytest.mark.parametrize("shell", SETS)
def test_the_script_for_a_shell_is_shown(shell: str, cli: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    done = cli("--show-completion")
    assert done.code == 0
    assert SETS[shell] in done.out
    assert "_MMREG_COMPLETE" in done.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_script_and_completes_by_it(place: Path, cli: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))
    script = cli("--show-completion").out
    program = place / "bin" / "mmreg"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom mmreg.cli import main\nmain()\n")
    program.chmod(0o755)
    function = script.partition("()")[0].strip()
    typed = f'COMP_WORDS=(mmreg evaluate "fi"); COMP_CWORD=2; {function} mmreg; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, env=environment, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["first"], "")


def test_names_that_a_shell_would_run_or_take_apart_are_not_offered(place: Path) -> None:
    assert {"a run", "a$(b)"} <= {path.name for path in place.iterdir()}
    assert complete_runs("a") == []
    assert complete_runs(f"{place}/fi") == [f"{place}/first"]
    assert complete_runs("./fi") == ["./first"]
    assert complete_runs("runs/deep/") == ["runs/deep/third"]
    assert complete_runs("nowhere/") == complete_runs("\0/") == []


def test_a_home_folder_stays_as_it_is_typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir("/")
    assert complete_runs("~/fi") == ["~/first"]
    assert complete_recipes("~/r") == ["~/recipe.yaml", "~/runs/other.yml"]


@pytest.mark.usefixtures("place")
def test_recipes_are_told_from_other_yaml_and_those_of_runs_are_left_out() -> None:
    assert complete_recipes("") == ["recipe.yaml", "runs/other.yml"]
    assert complete_recipes_and_tables("t") == ["table.csv"]


def test_components_are_offered_by_kind_and_as_they_are_listed() -> None:
    assert components("fusion")("") == registry.names("fusion")
    assert components()("fusion/con") == ["fusion/concat"]
    assert "concat" in components()("con")
    assert {"mmreg", "image"} <= set(complete_plugins(""))


def test_a_component_with_a_dangerous_name_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry(ComponentSpec("encoder", "x$(touch_gone)", "module:Class", "A name for a shell."), "x", "1")
    monkeypatch.setattr(registry, "specs", lambda: [entry])
    assert components("encoder")("x") == []


def test_plugins_take_what_completes_runs_from_the_console() -> None:
    from mmreg import console

    assert console.complete_runs is complete_runs
    assert console.complete_recipes is complete_recipes
