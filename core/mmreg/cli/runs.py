"""`mmreg runs`: the runs below a folder, two of them side by side, and removing some; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmreg.cli.run_conditions import Named, filtered, ordered, read_condition, read_recipe_data
from mmreg.console import Debug, RunArgument, RunsArgument, print_json, print_table, say
from mmreg.errors import RunError
from mmreg.files import csv_text, markdown_table
from mmreg.messages import byte_size, cell, near, plural, printable
from mmreg.run_files.facts import read_facts
from mmreg.run_files.removing import check_removable, remove_run
from mmreg.run_files.summary import RunSummary, find_runs, summarize

HELP = """List the runs below a folder; compare the recipes and figures of two, and remove some.

`mmreg runs [DIR]` is short for `mmreg runs list [DIR]`.

Example: mmreg runs --where "accuracy>0.8" --sort accuracy --reverse
"""


class _ListIsMeant(TyperGroup):
    """A group whose command `list` is called where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        asks_for_help = first in ctx.help_option_names
        completes_the_first_word = ctx.resilient_parsing and not args
        if not (first in self.commands or asks_for_help or completes_the_first_word or self._mistyped(first)):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def _mistyped(self, word: str) -> bool:
        """Whether a word is a command of the group rather than a folder, but for a letter or two."""
        return bool(near(word, self.commands)) and not Path(word).exists()


class ListFormat(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


Rows = Annotated[
    ListFormat, typer.Option("--format", help="A table for people, one JSON document, CSV or Markdown on stdout.")
]

runs = typer.Typer(cls=_ListIsMeant, no_args_is_help=False, help=HELP)


@runs.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look for runs.")] = Path(),
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only runs for which this holds: accuracy>0.8, validation.f1>=0.7, status=whole, fusion=concat, "
            "training.epochs<20. May be repeated.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="KEY", help="A column, metric or key of the recipe to sort by.")
    ] = "",
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="The largest first.")] = False,
    format: Rows = ListFormat.TABLE,
    debug: Debug = False,
) -> None:
    """List the runs below a folder, the newest first, also those that were stopped or are damaged.

    A metric is that of the test rows where there are some; `validation.accuracy`
    names those of a split, `test.modalities.image.accuracy` those of a part.

    Example: mmreg runs list runs --where "accuracy>0.8" --where fusion=concat
    """
    conditions = [read_condition(text) for text in where or ()]
    if not folder.is_dir():
        raise RunError(f"there is no folder {printable(str(folder))!r}; name one that holds runs")
    summaries = [summarize(run) for run in find_runs(folder)]
    found = sorted(map(_named, summaries), key=_written, reverse=True)
    kept = filtered(found, conditions)
    if sort:
        kept = ordered(kept, sort, reverse=reverse)
    elif reverse:
        kept.reverse()
    if format is ListFormat.JSON:
        print_json([{**run.listed, "metrics": dict(run.summary.metrics)} for run in kept])
        return
    rows = [_row(run.listed, short=format is ListFormat.TABLE) for run in kept]
    if rows:
        _print(rows, format)
    if format is ListFormat.TABLE:
        shown = f"{len(kept):,} of " if len(kept) < len(found) else ""
        say(f"{shown}{plural(len(found), 'run')} below {printable(str(folder))}" if found else _none(folder))


@runs.command("diff")
def diff(
    first: RunArgument,
    second: RunArgument,
    format: Rows = ListFormat.TABLE,
    debug: Debug = False,
) -> None:
    """Show where two runs differ: the keys of their recipes, and their figures.

    A line a key, with what the first run has there and then the second.

    Example: mmreg runs diff runs/concat runs/low_rank
    """
    rows = list(_differences(first, second))
    if format is ListFormat.JSON:
        print_json(rows)
    elif rows and format is ListFormat.TABLE:
        for row in rows:
            print(f"{row['key']}: {_shown(row['first'])} -> {_shown(row['second'])}")
    elif rows:
        names = {"first": printable(str(first)), "second": printable(str(second))}
        if names["first"] == names["second"]:
            names = {side: side for side in names}
        _print([{"key": row["key"], **{name: row[side] for side, name in names.items()}} for row in rows], format)
    elif format is ListFormat.TABLE:
        say("they differ in nothing")


@runs.command("remove")
def remove(
    folders: RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    others: Annotated[
        bool, typer.Option("--others", help="Remove also what is in their folders that no training writes.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Remove runs: their folders, and nothing that is not a run.

    Folders that are links, that somebody writes to, or that hold something
    else beside the run, are refused, before any is removed.

    Example: mmreg runs remove runs/first runs/second --yes
    """
    chosen = list({os.path.normpath(folder.absolute()): folder for folder in reversed(folders)}.values())[::-1]
    for folder in chosen:
        check_removable(folder, others=others)
    if not yes:
        for folder in chosen:
            say(f"{printable(str(folder))}: {byte_size(_bytes(folder))}")
        if not typer.confirm(f"Remove {plural(len(chosen), 'run')}?", err=True):
            say("nothing was removed")
            raise typer.Exit(1)
    for folder in chosen:
        remove_run(folder, others=others)
        say(f"removed {printable(str(folder))}")


def _named(summary: RunSummary) -> Named:
    """A run with what is listed of it."""
    listed = {
        "run": printable(str(summary.folder)),
        "date": summary.date.astimezone().isoformat(" ", "seconds") if summary.date else None,
        "status": summary.status,
        "modalities": list(summary.modalities),
        "fusion": summary.fusion,
        "rows": sum(summary.rows.values()) or None,
        "metric": summary.metric,
        "value": summary.metrics.get(summary.metric) if summary.metric else None,
        "split": summary.split,
        "seconds": summary.seconds,
        "about": summary.about,
    }
    return Named(summary, listed)


def _written(run: Named) -> float:
    """When, in seconds; what has no time comes before all others."""
    return run.summary.date.timestamp() if run.summary.date else 0.0


def _row(listed: Mapping[str, Any], *, short: bool) -> dict[str, Any]:
    """A run for people; in a table that is `short`, its metric is told in one cell."""
    seconds = listed["seconds"]
    row = {
        **listed,
        "date": (listed["date"] or "")[:16],
        "modalities": ", ".join(listed["modalities"]),
        "seconds": None if seconds is None else round(seconds, 1 if seconds < 10 else None),
    }
    if short:
        metric, value, split = (row.pop(name) for name in ("metric", "value", "split"))
        row["result"] = f"{metric} {cell(value)} ({split})" if metric else None
        row["about"] = row.pop("about")
    return row


def _print(rows: list[dict[str, Any]], format: ListFormat) -> None:
    """Rows in one of the formats; columns that are empty in all of them are left out of a table for people."""
    if format is ListFormat.CSV:
        print(csv_text(rows), end="")
    elif format is ListFormat.MARKDOWN:
        print(markdown_table(rows))
    else:
        print_table(rows, [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)])


def _none(folder: Path) -> str:
    return f"there is no run below {printable(str(folder))!r}; name another folder, or make one: mmreg train RECIPE"


def _differences(first: Path, second: Path) -> Iterator[dict[str, Any]]:
    """Where two runs differ, one row a key: of the recipes without the table's place, then of the figures."""
    from mmreg.recipe.diff import recipe_differences

    recipes = []
    for folder in (first, second):
        read_facts(folder)  # says what is wrong with what is no run
        recipe = read_recipe_data(folder)
        recipes.append(recipe if isinstance(recipe, Mapping) else {})
    told = list(recipe_differences(*recipes))
    before, now = ({k: v for key, *sides in told for k, v in _leaves(sides[side], key).items()} for side in (0, 1))
    yield from _differing(before, now)
    yield from _differing(*(dict(_figures(summarize(folder))) for folder in (first, second)))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key in dict.fromkeys([*before, *now]):
        if before.get(key) != now.get(key):
            yield {"key": printable(key), "first": before.get(key), "second": now.get(key)}


def _leaves(value: Any, path: str) -> dict[str, Any]:
    """What is below a key of a recipe by dotted keys, also of the members of a list; of a plain value, that value."""
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {key: leaf for name, below in value.items() for key, leaf in _leaves(below, f"{path}.{name}").items()}


def _shown(value: Any) -> str:
    """A value in a line; nothing is said to be nothing."""
    return "nothing" if value is None or value == "" else printable(cell(value))


def _figures(summary: RunSummary) -> Iterator[tuple[str, Any]]:
    """A run's figures by name."""
    yield "status", summary.status
    yield from ((f"rows.{split}", count) for split, count in summary.rows.items())
    yield from ((f"{summary.split}.{name}", value) for name, value in summary.metrics.items())
    yield "seconds", summary.seconds


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
