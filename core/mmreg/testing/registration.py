"""Where checks are entered: each is a function under `@check`, which says whose check it is.

A further kind of components gets its checks by a file with such functions, which `mmreg.testing` imports.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from mmreg.contract.kinds import KINDS
from mmreg.registry import Entry
from mmreg.testing.expectations import named
from mmreg.testing.subject import Subject, make_subject

ComponentCheck = Callable[[type | str | Entry | Subject], None]
"""A check takes a component and raises an `AssertionError` that says what is wrong, or `Skipped`."""


def kind_key(kind: str, level: str) -> str:
    """What a kind (and level) is called among the checks, such as "encoder" or "model fusion"."""
    return f"{level} {kind}".strip()


CHECKS: dict[str, list[ComponentCheck]] = {
    kind_key(kind, level): [] for kind, each in KINDS.items() for level in each.interfaces
}
"""The checks of each kind (and level), in the order in which they are defined, and run."""

FUSIONS = ("feature fusion", "model fusion")
"""The kinds of fusion operators."""

MODULES = ("encoder", *FUSIONS)
"""The kinds of components that are torch modules."""


def check(*kinds: str) -> Callable[[Callable[[Subject], None]], ComponentCheck]:
    """Enter a function among the checks of some kinds, or of all kinds where none is named.

    Its failures name the component, whatever it raises, and it leaves no trace: torch's random state is set for it, so
    that it always does the same, and put back.
    """

    def enter(function: Callable[[Subject], None]) -> ComponentCheck:
        def checked(component: type | str | Entry | Subject) -> None:
            subject = make_subject(component)
            with torch.random.fork_rng(devices=[]), named(str(subject)):
                torch.default_generator.manual_seed(0)
                function(subject)

        functools.update_wrapper(checked, function, ("__module__", "__name__", "__qualname__", "__doc__"))
        del checked.__wrapped__  # type: ignore[attr-defined]  # its signature is its own
        for key in kinds or CHECKS:
            CHECKS[key].append(checked)
        return checked

    return enter


def checks_of(kind: str, level: str = "") -> dict[str, ComponentCheck]:
    """The checks of a kind (and, of fusions, a level) by their names, without "check_"."""
    return {function.__name__.removeprefix("check_"): function for function in CHECKS[kind_key(kind, level)]}
