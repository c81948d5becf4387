"""Builds tiny wheels from texts, installs them with pip, and runs mmreg on what was installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Distribution:
    """A distribution with one plugin.

    Its package is called as the distribution, with underscores. `source` is the plugin's module, `more` holds further
    modules of the package, and `entry_points` are more than the one that names the plugin's module.
    """

    name: str
    source: str
    entry_point: str = ""
    version: str = "1.0"
    more: Mapping[str, str] = field(default_factory=dict)
    entry_points: Mapping[str, str] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    @property
    def name_of_entry_point(self) -> str:
        return self.entry_point or self.name.removeprefix("mmreg-")

    def files(self) -> dict[str, str]:
        """The package's files by path."""
        modules = {"__init__": "", "plugin": self.source, **self.more}
        return {f"{self.package}/{name}.py": text for name, text in modules.items()}

    def entry_points_text(self) -> str:
        entries = {self.name_of_entry_point: f"{self.package}.plugin", **self.entry_points}
        return "[mmreg]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())

    def metadata(self) -> str:
        return f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n\nA plugin for tests.\n"


def build_wheel(distribution: Distribution, folder: Path) -> Path:
    """Write a wheel; a wheel is a zip file with three files of metadata."""
    info = f"{distribution.package}-{distribution.version}.dist-info"
    files = distribution.files() | {
        f"{info}/METADATA": distribution.metadata(),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": distribution.entry_points_text(),
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / f"{distribution.package}-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def install(wheels: Sequence[Path], target: Path) -> Path:
    """Install wheels into a folder, offline."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    command += ["--disable-pip-version-check", "--target", str(target), *map(str, wheels)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def python(
    *arguments: str,
    path: Path | Sequence[Path],
    cwd: Path | None = None,
    executable: str = sys.executable,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run Python with what is installed in some folders, before all else."""
    folders = [path] if isinstance(path, Path) else path
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "COLUMNS": "120", **environment}
    return subprocess.run([executable, *arguments], env=variables, cwd=cwd, capture_output=True, text=True)


def mmreg(
    *arguments: str, path: Path | Sequence[Path], cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line, as `python` does."""
    return python("-m", "mmreg", *arguments, path=path, cwd=cwd, **environment)


SEVERAL = """
import json, sys
from mmreg import registry
from mmreg.cli import main

for arguments in json.loads(sys.argv[1]):
    registry.refresh()
    sys.argv = ["mmreg", *arguments]
    try:
        main()
    except SystemExit as leaving:
        for stream in (sys.stdout, sys.stderr):
            print(f"\\n<<{leaving.code or 0}>>", file=stream, flush=True)
"""


def several(
    *commands: Sequence[str],
    path: Path | Sequence[Path],
    cwd: Path | None = None,
    executable: str = sys.executable,
    before: str = "",
) -> list[subprocess.CompletedProcess[str]]:
    """Run commands one after the other in one process, which imports torch once; with some Python before them."""
    done = python("-c", before + SEVERAL, json.dumps(commands), path=path, cwd=cwd, executable=executable)
    assert done.returncode == 0, done.stderr
    outputs, errors = (text.split(">>\n")[:-1] for text in (done.stdout, done.stderr))
    assert len(outputs) == len(errors) == len(commands), done.stderr
    ended = []
    for command, output, error in zip(commands, outputs, errors, strict=True):
        text, _, code = output.rpartition("\n<<")
        ended.append(subprocess.CompletedProcess(command, int(code), text, error.rpartition("\n<<")[0]))
    return ended
