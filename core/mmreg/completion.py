"""What a shell offers at TAB: runs, recipes, tables, components and plugins; imports neither torch nor a component.

A name that a shell would not take as it stands, such as one with a blank or a `$`, is left out: bash writes what it is
offered into the line as it is.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from mmreg import registry
from mmreg.contract.kinds import KINDS
from mmreg.run_files.facts import COMPONENTS, RECIPE

SAFE = re.compile(r"[\w@%+=:,./~-]+", re.ASCII)
"""What stands for itself in every shell."""
DEEPEST = 3
"""Levels of folders below the typed one that are looked through."""
MOST_FOLDERS = 500
"""Folders that are looked into: whoever presses TAB waits."""
MOST_BYTES = 1 << 16
"""Bytes of a YAML file that are read to see whether it is a recipe."""
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")


def typed_words() -> list[str]:
    """What is typed after the command's name, of a shell that asks for what to complete; nothing otherwise."""
    words = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    complete = [*words.split(), ""] if words.endswith(" ") else words.split()
    return complete[1:-1] if "_MMREG_COMPLETE" in os.environ else []


def complete_runs(incomplete: str) -> list[str]:
    """Folders of runs below what is typed, for the argument of a command, those of plugins too.

    Example:
        >>> import typer
        >>> argument = typer.Argument(metavar="RUN", autocompletion=complete_runs)
    """
    found = (path for path, names in _folders(incomplete) if {COMPONENTS, RECIPE} <= names and path)
    return sorted(filter(SAFE.fullmatch, found))


def complete_recipes(incomplete: str) -> list[str]:
    """Recipes below what is typed: YAML files that describe modalities."""
    return sorted(path for path in _files(incomplete, (".yaml", ".yml")) if _is_recipe(path))


def complete_recipes_and_tables(incomplete: str) -> list[str]:
    """Recipes, and files that hold tables, below what is typed."""
    return sorted([*complete_recipes(incomplete), *_files(incomplete, TABLES)])


def components(*kinds: str, many: bool = False) -> Callable[[str], list[str]]:
    """What completes the names of components.

    Args:
        kinds: of which kinds; of all, by their names and as kind/name, if none is given.
        many: whether there may be several, apart by commas.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",") if many else ("", "", incomplete)
        found = [entry.spec for entry in registry.specs() if not kinds or entry.spec.kind in kinds]
        names = {spec.name for spec in found} | (set() if kinds else {f"{spec.kind}/{spec.name}" for spec in found})
        return _beginning(incomplete, (f"{before}{comma}{name}" for name in names))

    return complete


def complete_kinds(incomplete: str) -> list[str]:
    """Kinds of components."""
    return _beginning(incomplete, iter(KINDS))


def complete_plugins(incomplete: str) -> list[str]:
    """Installed plugins, by the names of their entry points and distributions."""
    names = {name for plugin in registry.all_plugins() for name in (plugin.entry_point, plugin.distribution)}
    return _beginning(incomplete, iter(names))


def _beginning(incomplete: str, names: Iterator[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete) and SAFE.fullmatch(name))


def _folders(incomplete: str) -> Iterator[tuple[str, set[str]]]:
    """Folders that are typed in part, and those below, nearest first: each as typed, with the names in it.

    First comes the folder that holds all these, as "".
    """
    typed, slash, begin = incomplete.rpartition("/")
    waiting = deque([(typed + slash, "", 0)])
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return
        path, shown, level = waiting.popleft()
        try:
            with os.scandir(os.path.expanduser(path) or ".") as entries:  # noqa: PTH111 (as typed, not normalised)
                there = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except (OSError, ValueError):  # it may not be read, or its name is none
            continue
        yield shown, set(there)
        if level == DEEPEST or (shown and {COMPONENTS, RECIPE} <= set(there)):
            continue
        for name, is_folder in there.items():
            if is_folder and not name.startswith(".") and (level or name.startswith(begin)):
                below = f"{path}{name}"
                waiting.append((f"{below}/", below, level + 1))


def _files(incomplete: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Files with one of some endings, as typed; none of a run's own."""
    start = incomplete[: incomplete.rfind("/") + 1]
    for folder, names in _folders(incomplete):
        if not {COMPONENTS, RECIPE} <= names:
            for name in names:
                path = f"{folder}/{name}" if folder else f"{start}{name}"
                if name.endswith(endings) and path.startswith(incomplete) and SAFE.fullmatch(path):
                    yield path


def _is_recipe(path: str) -> bool:
    """Whether a YAML file describes modalities, as far as that can be seen without parsing it."""
    file = Path(path).expanduser()
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return re.search(rb"^modalities\s*:", opened.read(MOST_BYTES), re.MULTILINE) is not None
    except OSError:
        return False
