"""What a plugin declares: a component as plain data, so that listing it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass

KINDS: dict[str, dict[str, str]] = {
    "modality": {"": "mmreg.interfaces:Modality"},
    "encoder": {"": "mmreg.interfaces:Encoder"},
    "fusion": {"feature": "mmreg.interfaces:FeatureFusion", "model": "mmreg.interfaces:ModelFusion"},
    "task": {"": "mmreg.interfaces:Task"},
}
"""Every kind of component, with its levels (mostly none) and the interface that each has to implement."""

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

    Raises:
        TypeError: a field that is no text.
        ValueError: an unknown kind or level, an empty name or one with a forbidden character, a target of another form.
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    level: str = ""
    install_hint: str = ""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if not isinstance(value, str):
                raise TypeError(f"a component's {field} must be text, found {value!r}")
        check_name(self.kind, self.name, self.level)
        module, _, attribute = self.target.partition(":")
        if not module or not attribute:
            raise ValueError(
                f"the target of {self.kind} {self.name!r} must read 'package.module:Class', found {self.target!r}"
            )


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
    if level not in KINDS[kind]:
        allowed = " or ".join(repr(key) for key in KINDS[kind])
        raise ValueError(f"{kind} {name!r} has the level {level!r}, it must be {allowed}")


@dataclass(frozen=True)
class CommandSpec:
    """A command that a plugin adds to the command line.

    Attributes:
        name: it is called as `mmreg NAME`.
        help: one sentence for `mmreg --help`.
        target: a `typer.Typer`, as "package.module:app"; imported when the command is called.
    """

    name: str
    help: str
    target: str


@dataclass(frozen=True)
class SourceSpec:
    """A place that tables can be read from.

    Attributes:
        name: a scheme, for `name://...`, or a file ending with its dot, such as ".sas7bdat".
        target: a function, as "package.module:function", that takes the text which names the table (a path made
            absolute, or all of `name://...`) and gives anything that `mmreg.data.table.read_table` takes; imported when
            such a table is read.
        summary: one sentence for messages.
    """

    name: str
    target: str
    summary: str = ""
