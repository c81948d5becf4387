"""`mmreg new-plugin` writes projects that install, pass their own tests and conform, unedited."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import wave
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner
from wheels import several

from mmreg.cli.app import build_app
from mmreg.contract.kinds import KINDS
from mmreg.errors import MmregError
from mmreg.scaffold import SUMMARIES, TEMPLATES, new_plugin

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, which must succeed."""
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The Python of a new environment that has all that this one has, and can be installed into."""
    folder = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=tmp_path)
    own = run(str(folder / "bin/python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    outer = sysconfig.get_path("purelib")
    (Path(own.stdout.strip()) / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    return str(folder / "bin/python")


def test_everything_that_a_plugin_may_bring_has_a_template() -> None:
    assert set(SUMMARIES) == {*KINDS, "command", "source"}
    assert {path.name for path in TEMPLATES.iterdir() if path.is_dir()} == {"common", *SUMMARIES}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "encoder")) for kind in SUMMARIES]
)
def test_a_project_installs_and_passes_its_tests_and_the_checks_unedited(
    kind: str, python: str, tmp_path: Path
) -> None:
    name = f"mmreg-deep-{kind}"
    run(python, "-m", "mmreg", "new-plugin", name, "--kind", kind, cwd=tmp_path)
    install = ("install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", name)
    run(python, "-m", "pip", *install, cwd=tmp_path)
    tested = run(python, "-m", "pytest", "-W", "error", name, cwd=tmp_path)
    assert "failed" not in tested.stdout

    write_rows(tmp_path)
    if kind == "command":
        (tmp_path / "run").mkdir()
        (tmp_path / "run/report.json").write_text('{"test": {"rows": 50, "metrics": {"accuracy": 0.5}}}')
        tried = ["deep-command", "run"]
    else:
        (recipe,) = re.findall(r"^```yaml\n(.*?)^```$", (tmp_path / name / "README.md").read_text(), re.M | re.S)
        (tmp_path / "recipe.yaml").write_text(recipe)
        tried = ["validate", "recipe.yaml"]
    if kind == "encoder":
        tried = ["train", "recipe.yaml", "--set", "training.epochs=1", "--out", "run"]
    ended = several(["check", name], ["list"], tried, path=(), cwd=tmp_path, executable=python)
    assert [each.returncode for each in ended] == [0, 0, 0], [each.stdout + each.stderr for each in ended]
    if kind in KINDS:
        listed = ended[1].stdout.splitlines()
        assert any(name in line and f"deep_{kind}" in line and "0.1.0" in line for line in listed)
    if kind == "command":
        assert "0.5" in ended[2].stdout
    if kind == "encoder":
        written = json.loads((tmp_path / "run/components.json").read_text())["components"]["encoder/audio"]
        assert (written["name"], written["distribution"], written["version"]) == ("deep_encoder", name, "0.1.0")


def write_rows(folder: Path) -> None:
    """What the recipes of the templates name: a table with the sounds of one column, and a folder of photos."""
    rows = ["sound,series,photo,title,label,amount"]
    for number in range(20):
        rows.append(f"{number}.wav,{number}.npy,{number}.png,title {number},{'ab'[number % 2]},{number}.5")
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(range(100)))
        photo = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.touch()
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("kind", SUMMARIES)
def test_nothing_of_the_template_is_left_in_a_project(kind: str, tmp_path: Path) -> None:
    files = new_plugin("mmreg-Depth.Map", kind, tmp_path)
    written = {path.relative_to(tmp_path / "mmreg-Depth.Map").as_posix(): path.read_text() for path in files}
    assert set(written) == {
        ".github/workflows/test.yml",
        "README.md",
        "pyproject.toml",
        "src/mmreg_depth_map/__init__.py",
        f"src/mmreg_depth_map/{kind}.py",
        "src/mmreg_depth_map/plugin.py",
        "src/mmreg_depth_map/py.typed",
        "tests/test_depth_map.py",
    }
    for path, text in written.items():
        assert "skeleton" not in text.lower(), path
        assert not re.search("KIND|SUMMARY|USAGE", text), path
        assert SUMMARIES[kind] in text or path not in ("README.md", "src/mmreg_depth_map/plugin.py"), path
    if kind in KINDS:
        assert f"class DepthMap{kind.capitalize()}(" in written[f"src/mmreg_depth_map/{kind}.py"]
    project = tomllib.loads(written["pyproject.toml"])["project"]
    assert project["name"] == "mmreg-Depth.Map"
    assert project["dependencies"] == ["mmreg>=0.1"]
    assert project["entry-points"] == {"mmreg": {"depth_map": "mmreg_depth_map.plugin"}}


@pytest.mark.parametrize("kind", SUMMARIES)
def test_a_project_is_linted_and_formatted(kind: str, tmp_path: Path) -> None:
    """With names that are as long as those of the templates, on which the width of lines depends."""
    new_plugin("mmreg-sceleton", kind, tmp_path)
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    known = [
        "--config",
        "lint.isort.known-first-party = ['mmreg']",
        "--config",
        "lint.pydocstyle.convention = 'google'",
    ]
    for command in (
        ["check", f"--select={','.join(rules['select'])}", f"--ignore={','.join([*rules['ignore'], 'D1'])}", *known],
        ["format", "--check"],
    ):
        run(sys.executable, "-m", "ruff", *command, "--isolated", "--line-length=120", "mmreg-sceleton", cwd=tmp_path)


def test_a_name_that_holds_the_templates_own_words_is_kept(tmp_path: Path) -> None:
    files = new_plugin("mmreg-skeleton-KIND", "encoder", tmp_path)
    assert any(path.name == "test_skeleton_kind.py" for path in files)
    assert "mmreg_skeleton_kind.encoder:SkeletonKindEncoder" in "".join(path.read_text() for path in files)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mmreg-depth").mkdir()
    (tmp_path / "mmreg-depth" / "mine.txt").write_text("mine")
    with pytest.raises(MmregError, match="exists already"):
        new_plugin("mmreg-depth", "encoder", tmp_path)
    assert [path.name for path in (tmp_path / "mmreg-depth").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no name for a distribution"),
        ("mmreg depth", "no name for a distribution"),
        ("-depth", "no name for a distribution"),
        ("../depth", "no name for a distribution"),
        ("mmreg-depth-", "no name for a distribution"),
        ("mmreg-tiéfe", "no name for a distribution"),
        ("mmreg-3d", "begin it with a letter"),
        ("import", "begin it with a letter"),
        ("mmreg", "the distribution mmreg 0"),
        ("mmreg-image", "the module 'mmreg_image'"),
        ("json", "the module 'json'"),
        ("torch", "the distribution torch"),
        ("text-rnn", "the encoder 'text_rnn' is there already, in mmreg"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MmregError, match=reason):
        new_plugin(name, "encoder", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("sqlite", "source", "the source 'sqlite' is there already, in mmreg"),
        ("demo", "command", "the command 'demo' is there already, in mmreg"),
        ("new.plugin", "command", "mmreg has a command 'new-plugin' of its own"),
        ("depth", "encodr", "there is no kind 'encodr'; did you mean 'encoder'?"),
    ],
)
def test_what_cannot_be_brought_is_refused_with_the_reason(name: str, kind: str, reason: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(build_app(), ["new-plugin", name, "--kind", kind, "--out", str(tmp_path)])
    assert isinstance(done.exception, MmregError)
    assert reason in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_name_without_the_prefix_is_warned_of(tmp_path: Path) -> None:
    for name, warned in (("depth-things", True), ("mmreg-depth-things", False), ("mmreg_depth_others", False)):
        done = CliRunner().invoke(build_app(), ["new-plugin", name, "--kind", "task", "--out", str(tmp_path)])
        assert done.exit_code == 0
        assert ("mmreg-depth-things would be better" in done.stderr) == warned
        assert str(tmp_path / name / "pyproject.toml") in done.stdout
        assert f"mmreg check {name}" in done.stderr


def test_the_templates_name_no_host() -> None:
    texts = [path.read_text() for path in TEMPLATES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(texts) >= 6 + 3 * len(SUMMARIES)
    assert not [text for text in texts if "http" in text or ".org" in text]


def test_the_wheel_of_mmreg_holds_every_template(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path), cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT / "core").as_posix() for path in TEMPLATES.rglob("*") if path.is_file()}
    assert not {path for path in expected if "__pycache__" not in path} - inside
