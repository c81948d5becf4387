"""Commands of plugins: in the help, imported only when called, and never in the way of others."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from faulty_plugins import WRONG_HOOKS
from wheels import mmreg


def test_help_names_them_without_importing_them(help_page: CompletedProcess[str]) -> None:
    assert re.search(r"hello +Say hello\.", help_page.stdout)
    assert re.search(r"many +Several commands\.", help_page.stdout)
    assert re.search(r"lost +Cannot be imported\.", help_page.stdout)
    assert "imported hello" not in help_page.stderr


@pytest.mark.parametrize("name", [name for name in WRONG_HOOKS if name.startswith("commands")])
def test_a_wrong_hook_is_one_line(name: str, help_page: CompletedProcess[str]) -> None:
    (line,) = [line for line in help_page.stderr.splitlines() if f"(mmreg-{name} " in line]
    assert re.search(WRONG_HOOKS[name][2], line)


def test_the_name_of_a_command_of_mmreg_stays_its_own(everything: Path, help_page: CompletedProcess[str]) -> None:
    line = "mmreg: plugin commands (mmreg-commands 1.0) brings a command 'list', which mmreg has itself"
    assert line in help_page.stderr.splitlines()
    assert "image_cnn" in mmreg("list", path=everything).stdout


def test_it_gets_its_arguments_as_they_are(everything: Path) -> None:
    found = mmreg("hello", "--loudly", "you", "--", "--me", path=everything)
    assert (found.returncode, found.stdout) == (0, "hello you --me!\n")


def test_its_exit_code_is_kept(everything: Path) -> None:
    assert mmreg("hello", "you", "--code", "7", path=everything).returncode == 7


def test_its_own_help_is_shown(everything: Path) -> None:
    found = mmreg("hello", "--help", path=everything)
    assert found.returncode == 0
    assert re.search(r"Usage: .*mmreg hello \[OPTIONS\]", found.stdout)
    assert "Say hello to people." in found.stdout
    assert "--loudly" in found.stdout
    assert "--install-completion" not in found.stdout


def test_a_wrong_option_is_its_own_usage_error(everything: Path) -> None:
    found = mmreg("hello", "--lowdly", "you", path=everything)
    assert found.returncode == 2
    assert "--loudly" in found.stderr


def test_several_commands_are_called_by_their_names(everything: Path) -> None:
    assert mmreg("many", "second", path=everything).stdout == "the second\n"
    found = mmreg("many", "--help", path=everything)
    assert "first" in found.stdout
    assert "mmreg many" in found.stdout


def test_a_command_that_cannot_be_imported_says_why(everything: Path) -> None:
    found = mmreg("lost", path=everything)
    assert (found.returncode, found.stdout) == (1, "")
    assert (
        "mmreg: the command 'lost' of plugin commands (mmreg-commands 1.0) names a module that does not exist: "
        "'mmreg_commands.lost' (its target; is it misspelt?)" in found.stderr.splitlines()
    )


def test_a_command_that_is_no_typer_app_says_so(everything: Path) -> None:
    found = mmreg("nothing", path=everything)
    assert found.returncode == 1
    assert "must be a typer.Typer, found function in mmreg_commands.hello:hello" in found.stderr


def test_a_plugin_that_is_left_out_has_no_command(everything: Path) -> None:
    found = mmreg("--no-plugin", "commands", "many", "first", path=everything)
    assert found.returncode == 2
    assert "No such command 'many'" in found.stderr
