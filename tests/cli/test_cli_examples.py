"""Every command's help, of bundled plugins too, ends in an example that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from mmreg.cli.app import build_app


def all_commands() -> Iterator[tuple[str, Any, Any]]:
    """Each command with its name and what it is of, those in groups too, as they are when they are called."""
    group: Any = typer.main.get_command(build_app())
    context = typer.Context(group, info_name="mmreg")
    for name in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [name])
        yield name, command, context
        for below, each in getattr(command, "commands", {}).items():
            yield f"{name} {below}", each, typer.Context(command, info_name=name, parent=context)


COMMANDS = {name: (command, context) for name, command, context in all_commands()}


def examples(text: str) -> list[str]:
    """The command lines in a help text's examples: what follows "Example:" and, in further paragraphs, a colon."""
    rest = re.split(r"\b[Ee]xample:", text, maxsplit=1)[1:]
    lines = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", "".join(rest)))
    return [line[line.index("mmreg ") :] for line in lines if re.search(r"^mmreg |: mmreg ", line)]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example_that_is_right(name: str) -> None:
    command, _ = COMMANDS[name]
    found = examples(f"{command.help or ''}\n\n{command.epilog or ''}")
    assert found, f"the help of mmreg {name} has no paragraph that begins with 'Example: mmreg {name}'"
    for line in found:
        check(name, line)


def check(name: str, line: str) -> None:
    """Parse an example by the command that it calls; nothing runs."""
    words = [word for word in shlex.split(line.partition(" > ")[0]) if word != "..."]
    program, *called = name.split()
    assert words[:2] == ["mmreg", program], line
    command, context = COMMANDS[program]
    arguments = words[2:]
    for part in called:
        assert arguments[0] == part, line
        arguments = arguments[1:]
        context = typer.Context(command, info_name=program, parent=context)
        command = command.commands[part]
    # Options that do not exist, values that an option does not take, and missing arguments are errors here.
    made = command.make_context(program, list(arguments), parent=context)
    made.close()
    if hasattr(command, "commands"):
        command.resolve_command(made, [*made._protected_args, *made.args])


@pytest.mark.parametrize(
    "line",
    ["mmreg predict run table.csv --outt x", "mmreg predict --out x", "mmreg predict run a b c d", "mmreg train x"],
)
def test_a_wrong_example_is_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such option|missing|unexpected|mmreg train"):
        check("predict", line)


def test_examples_are_found_in_all_their_forms() -> None:
    assert examples("What it does.") == []
    assert examples("It does. For example: mmreg a b") == ["mmreg a b"]
    assert examples("It does.\n\nExample: mmreg a b\n--c") == ["mmreg a b --c"]
    assert examples("Example:\n\n    mmreg a\n\n    mmreg b\n\nIt ends.") == ["mmreg a", "mmreg b"]
    assert examples("Example: mmreg a\n\nOr so: mmreg a --b\n") == ["mmreg a", "mmreg a --b"]
