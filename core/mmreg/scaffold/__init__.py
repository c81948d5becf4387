"""`mmreg new-plugin`: writes the project of a new plugin, tests included, from the templates beside this module."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmreg import registry
from mmreg.errors import MmregError

PREFIX = "mmreg-"
"""How the names of published plugins begin, so that they are found."""

TEMPLATES = Path(__file__).parent / "templates"


class NewPluginError(MmregError, ValueError):
    """A project that cannot be written: a name that no plugin can have, or something in the way."""


def new_plugin(name: str, kind: str, parent: Path) -> list[Path]:
    """Write a project into a new folder, `parent / name`.

    It brings one component, called as the distribution without its prefix, and passes the conformance checks as it is.

    Args:
        name: the distribution's name, such as "mmreg-depth".
        kind: the component's kind, "modality", "encoder", "fusion" or "task".
        parent: the folder to write into; made if it is not there.

    Returns:
        The files.

    Raises:
        NewPluginError: the name cannot be used, or `parent / name` exists.
    """
    component = check_name(name, kind)
    words = {
        "KIND": kind,
        "mmreg-skeleton": name,
        "mmreg_skeleton": package_name(name),
        "Skeleton": "".join(word[:1].upper() + word[1:] for word in component.split("_")),
        "skeleton": component,
    }
    project = parent / name
    try:
        project.mkdir(parents=True)
    except FileExistsError as error:
        raise NewPluginError(f"{str(project)!r} exists already, and nothing is overwritten; choose another") from error
    return [
        _write(source, project / _replaced(source.relative_to(template).as_posix(), words), words)
        for template in (TEMPLATES / "common", TEMPLATES / kind)
        for source in sorted(template.rglob("*"))
        if source.is_file() and "__pycache__" not in source.parts  # an installed template may have been compiled
    ]


def package_name(name: str) -> str:
    """A distribution's name as the name of its import package."""
    return re.sub(r"[-_.]+", "_", name).lower()


def check_name(name: str, kind: str) -> str:
    """The name of the component that a distribution of this name brings.

    Raises:
        NewPluginError: no distribution can have the name, or something that is installed has it; says which.
    """
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise NewPluginError(
            f"{name!r} is no name for a distribution (PEP 508): it may hold letters, digits, - _ and . and must begin "
            "and end with a letter or digit; try one such as mmreg-depth"
        )
    package = package_name(name)
    component = package.removeprefix(package_name(PREFIX))
    if not component.isidentifier() or keyword.iskeyword(package):
        raise NewPluginError(
            f"{name!r} would make the package {package!r} with a component {component!r}, which Python cannot name a "
            "class by; begin it with a letter"
        )
    if found := _installed(name, package):
        raise NewPluginError(f"{name!r} would hide {found}, which is installed; choose another name")
    if component in registry.names(kind):
        entries = ", ".join(e.distribution for e in registry.specs(kind) if e.spec.name == component)
        raise NewPluginError(f"the {kind} {component!r} is there already, in {entries}; choose another name")
    return component


def _installed(name: str, package: str) -> str:
    """What has the name already: a distribution or a module; empty if nothing has."""
    try:
        return f"the distribution {name} {version(name)}"
    except PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        # A mere folder in the working directory looks like a package without an origin, and hides nothing.
        return f"the module {package!r}" if spec is not None and spec.origin is not None else ""


def _replaced(text: str, words: dict[str, str]) -> str:
    # In one pass, as a replacement may hold one of the words itself.
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def _write(source: Path, target: Path, words: dict[str, str]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_replaced(source.read_text(encoding="utf-8"), words), encoding="utf-8")
    return target
