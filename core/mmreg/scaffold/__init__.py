"""`mmreg new-plugin`: writes the project of a new plugin, tests included, from the templates beside this module.

A project has the files of `templates/common` and of its kind's folder; of a file that both have it gets the kind's.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmreg import registry
from mmreg.contract.components import CommandSpec, SourceSpec
from mmreg.contract.kinds import KINDS
from mmreg.errors import MmregError
from mmreg.messages import near
from mmreg.registry.plugins import call_hook

PREFIX = "mmreg-"
"""How the names of published plugins begin, so that they are found."""

TEMPLATES = Path(__file__).parent / "templates"

USAGE = "usage.md"
"""The part of a project's README that is its kind's own."""

SUMMARIES: Mapping[str, str] = {
    "modality": "Sequences of measurements.",
    "encoder": "A perceptron for every step of a sequence, and their mean.",
    "fusion": "A sum of projections with a learned weight a modality.",
    "task": "Numbers of very different sizes, on a logarithmic scale.",
    "metric": "The share of rows whose class is among the most probable ones.",
    "optimizer": "Steps along the sign of a momentum (Lion).",
    "schedule": "A rate that rises, stays, and falls, by step.",
    "balance": "Gradients of all encoders brought towards the same length.",
    "callback": "A line of JSON for every epoch, in the run's folder.",
    "command": "The figures of several runs, side by side.",
    "source": "A folder of files, with a folder for each label.",
}
"""What a project may bring: the kinds of components, commands and sources, and what that of the template is."""


class NewPluginError(MmregError, ValueError):
    """A project that cannot be written: a name that no plugin can have, or something in the way."""


def new_plugin(name: str, kind: str, parent: Path, reserved: Collection[str] = ()) -> list[Path]:
    """Write a project into a new folder, `parent / name`.

    What it brings is called as the distribution without its prefix, and passes the conformance checks as it is.

    Args:
        name: the distribution's name, such as "mmreg-depth".
        kind: what it brings, one of `SUMMARIES`.
        parent: the folder to write into; made if it is not there.
        reserved: names that it must not bring, besides those that plugins have.

    Returns:
        The files.

    Raises:
        NewPluginError: there is no such kind, the name cannot be used, or `parent / name` exists.
    """
    if kind not in SUMMARIES:
        raise NewPluginError(f"there is no kind {kind!r}{near(kind, SUMMARIES)} (there are {', '.join(SUMMARIES)})")
    component = check_name(name, kind, reserved)
    title = "".join(word[:1].upper() + word[1:] for word in component.split("_"))
    words = {
        "KIND": kind,
        "SUMMARY": SUMMARIES[kind],
        "SkeletonClass": f"{title}{kind.capitalize()}",
        "Skeleton": title,
        "mmreg-skeleton": name,
        "mmreg_skeleton": package_name(name),
        "skeleton-name": typed_name(component),
        "skeleton": component,
    }
    words["USAGE"] = _replaced((TEMPLATES / kind / USAGE).read_text(encoding="utf-8").strip(), words)
    project = parent / name
    try:
        project.mkdir(parents=True)
    except FileExistsError as error:
        raise NewPluginError(f"{str(project)!r} exists already, and nothing is overwritten; choose another") from error
    return [_write(source, project / _replaced(path, words), words) for path, source in _files(kind).items()]


def _files(kind: str) -> dict[str, Path]:
    """The templates of a project by their paths in it."""
    return {
        source.relative_to(folder).as_posix(): source
        for folder in (TEMPLATES / "common", TEMPLATES / kind)
        for source in sorted(folder.rglob("*"))
        if source.is_file() and source.name != USAGE
        if "__pycache__" not in source.parts  # an installed template may have been compiled
    }


def typed_name(component: str) -> str:
    """A component's name as that of a command or a scheme."""
    return component.replace("_", "-")


def package_name(name: str) -> str:
    """A distribution's name as the name of its import package."""
    return re.sub(r"[-_.]+", "_", name).lower()


def check_name(name: str, kind: str, reserved: Collection[str] = ()) -> str:
    """The name of the component that a distribution of this name brings; arguments as for `new_plugin`.

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
    called = component if kind in KINDS else typed_name(component)
    if called in reserved:
        raise NewPluginError(f"mmreg has a {kind} {called!r} of its own; choose another name")
    if owners := _owners(kind, called):
        raise NewPluginError(f"the {kind} {called!r} is there already, in {', '.join(owners)}; choose another name")
    return component


def _owners(kind: str, name: str) -> list[str]:
    """The distributions that bring a component, a command or a source of a name."""
    if kind in KINDS:
        return [entry.distribution for entry in registry.specs(kind) if entry.spec.name == name]
    item: type[CommandSpec | SourceSpec] = CommandSpec if kind == "command" else SourceSpec
    listed = call_hook(registry.all_plugins(), f"mmreg_{kind}s", item)
    return [plugin.distribution for plugin, spec in listed if spec.name == name]


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
