"""What a plugin declares, as data, so that listing imports nothing: components, commands, sources and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mmreg.contract.kinds import KINDS

FORBIDDEN = frozenset(":/\\,@ \t\n")
"""Characters that a name must not hold, as references, folders and lists on a command line give them a meaning."""


@dataclass(frozen=True)
class ComponentSpec:
    """One component of a plugin.

    Attributes:
        kind: what it is, one of `KINDS`.
        name: the name that recipes use; lower case by custom.
        target: where its class is, as "package.module:Class"; imported when it is first described or built.
        summary: one sentence for listings.
        level: for a fusion: "feature" or "model"; empty otherwise.
        install_hint: what to type when a package that only this component needs is missing,
            such as "pip install mmreg-depth[onnx]".
        requires: the packages that only this component imports, such as ("onnx",), so that a listing tells which are
            missing without importing anything; names as imported, without the modules in them.

    Raises:
        TypeError: a field that is no text (of `requires`: no tuple of texts).
        ValueError: an unknown kind or level, an empty name or one with a forbidden character, a target of another form,
            a package that has no name of one.
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    level: str = ""
    install_hint: str = ""
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_texts("component", {name: value for name, value in vars(self).items() if name != "requires"})
        check_name(self.kind, self.name, self.level)
        _check_target(f"{self.kind} {self.name!r}", self.target)
        _check_packages(f"{self.kind} {self.name!r}", self.requires)


def check_name(kind: str, name: str, level: str) -> None:
    """Refuse a kind, name or level that no component can have.

    Raises:
        ValueError: says which, and what is allowed.
    """
    if kind not in KINDS:
        raise ValueError(f"component {name!r} has the unknown kind {kind!r}; kinds are {', '.join(KINDS)}")
    if not name or FORBIDDEN & set(name):
        raise ValueError(
            f"{name!r} is no name for a component: it must not be empty nor hold any of : / \\ , @ or blanks"
        )
    levels = KINDS[kind].interfaces
    if level not in levels:
        allowed = " or ".join(map(repr, levels))
        raise ValueError(f"{kind} {name!r} has the level {level!r}, it must be {allowed}")


def _check_texts(what: str, fields: Mapping[str, object]) -> None:
    for field, value in fields.items():
        if not isinstance(value, str):
            raise TypeError(f"a {what}'s {field} must be text, found {value!r}")


def _check_target(what: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise ValueError(f"the target of {what} must read 'package.module:name', found {target!r}")


def _check_packages(what: str, names: object) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"what {what} requires must be a tuple of names such as ('onnx',), found {names!r}")
    # To look for a module within a package would import that package.
    if wrong := [name for name in names if not name.isidentifier()]:
        raise ValueError(f"what {what} requires must be packages as they are imported, found {wrong[0]!r}")


@dataclass(frozen=True)
class CommandSpec:
    """A command that a plugin adds to the command line.

    Attributes:
        name: it is called as `mmreg NAME`.
        help: one sentence for `mmreg --help`.
        target: a `typer.Typer`, as "package.module:app"; imported when the command is called. With one command it is
            called directly, with several each is called as `mmreg NAME COMMAND`.

    Raises:
        TypeError: a field that is no text.
        ValueError: a name that cannot be typed as a command, or a target of another form.
    """

    name: str
    help: str
    target: str

    def __post_init__(self) -> None:
        _check_texts("command", vars(self))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"{self.name!r} is no name for a command: it must be letters, digits, - and _")
        _check_target(f"command {self.name!r}", self.target)


@dataclass(frozen=True)
class SourceSpec:
    """A place that tables can be read from.

    Attributes:
        name: a scheme, for `name://...`, or the ending of a file with its dot, such as ".sas7bdat"; lower case. The
            endings that mmreg reads itself stay its own.
        target: a function, as "package.module:function", imported when such a table is read. It gets the text that
            names the table (all of `name://...`, or a file's absolute path) and gives what `Run.predict` takes:
            anything with the Arrow PyCapsule interface, a list of dicts or a dict of lists.
        summary: one sentence for messages.
        fetches: whether the function, of a scheme, fetches files instead, for mmreg to read as tables or as what cells
            name. It gets addresses, all of `name://...`; and by name `folder`, where copies are kept; `allowed`, the
            addresses below which the server may lead elsewhere; and `limit`, the most bytes of a file. It gives, for
            each address, the copy's path, or a text that says why there is none.

    Raises:
        TypeError: a field that is no text, or `fetches` is no truth value.
        ValueError: a name that is neither a scheme nor an ending, one of an ending that fetches, or a target of another
            form.
    """

    name: str
    target: str
    summary: str = ""
    fetches: bool = False

    def __post_init__(self) -> None:
        _check_texts("source", {name: value for name, value in vars(self).items() if name != "fetches"})
        if not isinstance(self.fetches, bool):
            raise TypeError(f"a source's fetches must be True or False, found {self.fetches!r}")
        if self.fetches and self.name.startswith("."):
            raise ValueError(f"the source {self.name!r} is an ending: only a scheme can have files fetched")
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*|\.[^\s/\\:A-Z]+", self.name):
            raise ValueError(
                f"{self.name!r} is no name for a source: give a scheme such as 'sqlite' or an ending such as "
                "'.sas7bdat', in lower case"
            )
        _check_target(f"source {self.name!r}", self.target)


@dataclass(frozen=True)
class EngineSpec:
    """What computes parts of a large work in other processes, of this machine or of many.

    Attributes:
        name: it is chosen by `--on NAME`.
        target: a class that implements `Engine`, as "package.module:Class"; imported when it is chosen.
        summary: one sentence for messages.
        install_hint: what to type when a package that only this engine needs is missing, such as
            "pip install mmreg-depth[dask]".

    Raises:
        TypeError: a field that is no text.
        ValueError: a name that cannot be typed, or a target of another form.
    """

    name: str
    target: str
    summary: str = ""
    install_hint: str = ""

    def __post_init__(self) -> None:
        _check_texts("engine", vars(self))
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.name):
            raise ValueError(f"{self.name!r} is no name for an engine: it must be lower case letters, digits, - and _")
        _check_target(f"engine {self.name!r}", self.target)


@dataclass(frozen=True)
class SectionSpec:
    """A section that a plugin adds to the report of a run, or of a folder that holds runs.

    Attributes:
        name: its figures are drawn by `mmreg plot RUN NAME`.
        title: its heading in the report.
        target: a function, as "package.module:function", imported when a report is made. It gets a
            `mmreg.sections.Reported` and gives a list of blocks of that module; an empty one where it has nothing to
            say of the run.
        of: "run"; or "folder" for what tells of a folder that is no run, such as that of a search: the function then
            gets its `pathlib.Path`, and nothing of it is drawn by `mmreg plot`.

    Raises:
        TypeError: a field that is no text.
        ValueError: a name that cannot be typed, an empty title, a target of another form, or `of` something else.
    """

    name: str
    title: str
    target: str
    of: Literal["run", "folder"] = "run"

    def __post_init__(self) -> None:
        _check_texts("section", vars(self))
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise ValueError(f"{self.name!r} is no name for a section: it must be lower-case letters, digits and -")
        if not self.title.strip():
            raise ValueError(f"the section {self.name!r} needs a title")
        if self.of not in ("run", "folder"):
            raise ValueError(f"the section {self.name!r} must be of 'run' or 'folder', found {self.of!r}")
        _check_target(f"section {self.name!r}", self.target)
