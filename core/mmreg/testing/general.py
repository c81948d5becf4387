"""Checks of what all kinds of components have in common: a light plugin, a target, and options."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

from mmreg import registry
from mmreg.errors import OptionError
from mmreg.registry.options import check_options, describe_options, find_problems, option_names
from mmreg.registry.signature import argument_docs, documentation, parameters
from mmreg.testing.cases import cases_of
from mmreg.testing.expectations import Skipped, expect, expect_refused
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject, kind_of

HEAVY = ("torch", "torchvision", "torchaudio")
"""What a light module must not import: each costs every command of the command line a second or more."""

SECONDS = 120
"""How long a light module's import may take before it counts as hung."""

_IMPORT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
importlib.import_module(sys.argv[2])
print("\\nfound", *(name for name in sys.argv[3:] if name in sys.modules))
"""


@check()
def check_light_module(subject: Subject) -> None:
    """The plugin's module, imported in a fresh process, does not import torch."""
    if not subject.module:
        raise Skipped("it comes from no plugin")
    problem = light_module_problem(subject.module)
    expect(not problem, f"its light module {subject.module} {problem}")


@functools.cache
def light_module_problem(module: str) -> str:
    """What is wrong with a plugin's light module, in words that read on after its name; empty if nothing is."""
    command = [sys.executable, "-c", _IMPORT, json.dumps(sys.path), module.partition(":")[0], *HEAVY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {SECONDS} seconds to import"
    first, *heavy = (done.stdout.strip().splitlines() or [""])[-1].split() or [""]
    if done.returncode or first != "found":
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"cannot be imported in a process of its own: {said}"
    return f"imports {', '.join(heavy)}; import it in the components' modules instead" if heavy else ""


@check()
def check_target(subject: Subject) -> None:
    """The import string leads to a class that implements all of its kind's interface."""
    if subject.entry is not None:
        found = registry.load(subject.entry)
        expect(found is subject.cls, f"its target {subject.entry.spec.target} is {found!r}, not {subject.cls!r}")
    kind, level = kind_of(subject.cls)
    expect(kind == subject.kind, f"expected a subclass of the interface of a {subject.kind}, found {subject.cls!r}")
    expect(level == subject.level, f"it is declared with level {subject.level!r}, but its class is of {level!r}")
    missing = sorted(getattr(subject.cls, "__abstractmethods__", ()))
    expect(not missing, f"its class does not implement {', '.join(missing)}")


@check()
def check_options_documented(subject: Subject) -> None:
    """The class has a docstring, whose `Args:` section describes every option and nothing that is not there."""
    expect(documentation(subject.cls), "its class has no docstring, which `mmreg info` would show")
    options = describe_options(subject.cls)
    silent = [option["name"] for option in options if not option["description"]]
    expect(not silent, f"the docstring's Args: section says nothing of {', '.join(silent)}")
    unknown = sorted(set(argument_docs(subject.cls)) - set(parameters(subject.cls)))
    expect(not unknown, f"the docstring's Args: section describes {', '.join(unknown)}, which the constructor lacks")


@check()
def check_options_typed(subject: Subject) -> None:
    """Every option has a type that says something, and its default is of that type."""
    names = option_names(subject.cls)
    for name, parameter in parameters(subject.cls).items():
        if name not in names:
            continue
        bare = getattr(parameter.annotation, "__origin__", parameter.annotation)  # without the bounds, if there are any
        expect(bare not in (Any, object), f"the option {name} has no type that says what it may be")
    # A default is not validated where the options are read, so it is here.
    defaults = {row["name"]: row["default"] for row in describe_options(subject.cls) if not row["required"]}
    problems = find_problems(subject.cls, defaults)
    wrong = [str(problem) for problem in problems if problem.path and problem.path[0] in defaults]
    expect(not wrong, f"a default does not fit its own type or bounds: {'; '.join(wrong)}")


@check()
def check_unknown_option_refused(subject: Subject) -> None:
    """The constructor takes keyword-only options by name, and no others; `**options` go to that of a base class."""
    given = {"no_such_option": 1}
    kinds = {parameter.kind: parameter.name for parameter in inspect.signature(subject.cls).parameters.values()}
    by_position = inspect.Parameter.VAR_POSITIONAL not in kinds
    expect(by_position, "the constructor takes any number of arguments by position; options have names")
    if name := kinds.get(inspect.Parameter.VAR_KEYWORD):
        remedy = "hand them on to the base class's constructor, or name every one of them"
        expect(not _builds(subject, given), f"the constructor's **{name} swallows options that are misspelt; {remedy}")
    expect_refused(lambda: check_options(subject.cls, {**subject.options, **given}), OptionError, "an unknown option")


def _builds(subject: Subject, given: dict[str, Any]) -> bool:
    """Whether the constructor itself takes options besides the component's own."""
    options = {**subject.all_options, **given}
    try:
        cases = cases_of(subject)
        if cases is None:
            subject.cls(**options)
        else:
            replace(cases[0], options=options).build()
    except TypeError:
        return False
    return True
