"""Checks the import contracts of pyproject.toml, in which "mmreg_*" stands for the packages of all bundled plugins."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
ALL_PLUGINS = '"mmreg_*"'
IMPORTED = {"mmreg_mlflow", "mmreg_sklearn"}
"""Packages in the folder of plugins that bring nothing to the registry: programs import them."""


def declared(pyproject: str) -> set[str]:
    """The packages of the bundled plugins, by the entry points that bring them, and those that are imported."""
    targets = tomllib.loads(pyproject)["project"]["entry-points"]["mmreg"].values()
    return {target.partition(".")[0] for target in targets} | IMPORTED


def mismatch(packages: set[str], folder: Path) -> str:
    """What is in the folder of plugins, all of which is packed, and has no entry point, or the other way round."""
    there = {path.name for path in folder.iterdir() if path.name != "__pycache__"}
    lost = [f"plugins/{name} has no entry point in pyproject.toml" for name in sorted(there - packages)]
    return "\n".join([*lost, *(f"the entry point of {name} leads nowhere" for name in sorted(packages - there))])


def filled(pyproject: str) -> str:
    """The configuration with the plugins' packages in the place of what stands for them."""
    return pyproject.replace(ALL_PLUGINS, ", ".join(map(json.dumps, sorted(declared(pyproject)))))


def main() -> int:
    """Check; 0 if all contracts are kept."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    problem = mismatch(declared(pyproject), ROOT / "plugins")
    if problem:
        print(problem, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "contracts.toml"
        configuration.write_text(filled(pyproject), encoding="utf-8")
        return lint_imports(config_filename=str(configuration), no_logo=True)


if __name__ == "__main__":
    sys.exit(main())
