"""What commands share, those of plugins too: parameters with one spelling, tables, JSON, and a progress bar."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from mmreg.completion import complete_recipes as complete_recipes
from mmreg.completion import complete_runs as complete_runs
from mmreg.contract.metrics import by_target as by_target
from mmreg.contract.metrics import detail_rows as detail_rows
from mmreg.contract.metrics import figure_rows as figure_rows
from mmreg.contract.metrics import numbers as numbers
from mmreg.errors import OptionError, TableError
from mmreg.files import all_columns, columns_csv, replacing, unwritable, write_text
from mmreg.messages import absent_columns, cell
from mmreg.run_files.facts import run_file as run_file
from mmreg.run_files.finished import finished_facts as finished_facts
from mmreg.run_files.finished import finished_report as finished_report
from mmreg.run_files.finished import unmeasured as unmeasured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from mmreg.data.table import Table
    from mmreg.runs.run import Run


NARROWEST = 8
"""Characters of a longer column below which nobody reads a table on a terminal."""
SILENCE = 30.0
"""Seconds after which something is said, whatever is going on."""
TYPED = "MMREG_COMMAND"
"""The environment variable that tells a process what a person has typed."""


class Format(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


class BadCells(StrEnum):
    """What is done about cells that cannot be loaded."""

    ERROR = "error"
    ABSENT = "absent"
    SKIP = "skip"


def _debug(value: bool) -> bool:
    if value:
        os.environ["MMREG_DEBUG"] = "1"
    return value


FormatOption = Annotated[
    Format, typer.Option("--format", help="A table for people, or one JSON document on stdout.", show_default=True)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_debug, is_eager=True)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result, warnings and errors.")]
Device = Annotated[
    str, typer.Option("--device", help="Where to compute: auto (the best one there is), cpu, cuda, cuda:1, mps.")
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        min=1,
        help="So many processes together, each on a device of its own; with --device cpu, on cores of this machine.",
    ),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="auto, float32, bfloat16 or float16, instead of the recipe's.")
]
OnBad = Annotated[
    BadCells | None,
    typer.Option(
        "--on-bad",
        help="What to do about cells that cannot be loaded, instead of what the recipe says: stop, take them for "
        "absent, or leave out their rows.",
    ),
]
AugmentedVersions = Annotated[
    int,
    typer.Option(
        "--augmented",
        min=0,
        metavar="K",
        help="Predict K augmented versions of each row as well, and take the mean of all probabilities.",
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Trainings at the same time; 1 on a CPU, else one for each device.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="The seed, instead of the recipe's.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as training.epochs=3. May be repeated."
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows at a time.")]
Separator = Annotated[
    str | None,
    typer.Option(
        "--separator", metavar="CHARACTER", help='Between the cells of a delimited TABLE: ";", tab, ...; else found.'
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Of a delimited TABLE: cp1252, latin-1, utf-16, ...; else UTF-8."),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ENGINE[:ADDRESS]",
        help="Work in other processes, of this machine or of many, by a plugin's engine such as ray.",
    ),
]
RecipeArgument = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A recipe (YAML).", show_default=False, autocompletion=complete_recipes),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="The runs' folders.", show_default=False, autocompletion=complete_runs),
]


def _run_folder(context: typer.Context, run: Path) -> Path:
    """A run's folder; one that is on the Hugging Face hub is downloaded."""
    if run.parts[:1] != ("hf:",) or context.resilient_parsing:
        return run
    from mmreg.runs.hub import fetch

    return fetch(run)


RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run's folder; or hf://USER/NAME, of one on the Hugging Face hub.",
        show_default=False,
        callback=_run_folder,
        autocompletion=complete_runs,
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option("--accept-changes", help="Go on although components, versions or files have changed since."),
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run's folder, to be made.")]


def recipe_overrides(settings: list[str] | None, precision: str | None = None, seed: int | None = None) -> list[str]:
    """All overrides of a recipe as `--set` spells them."""
    overrides = list(settings or [])
    if precision is not None:
        overrides.append(f"training.precision={precision}")
    if seed is not None:
        overrides.append(f"training.seed={seed}")
    return overrides


def print_json(data: Any) -> None:
    """One JSON document on stdout; numbers that are not finite, which JSON has none of, are null."""
    print(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str = "") -> None:
    """Rows as a table: drawn on a terminal, else plain columns apart by two blanks or more, never shortened.

    Args:
        rows: each by its columns' names; a row may lack some.
        columns: which columns; those of all rows in the order in which they first appear, if not given.
        title: what stands above.
    """
    rows = list(rows)
    columns = all_columns(rows) if columns is None else columns
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        terminal = Console()
        longest = [max(map(len, texts)) for texts in zip(columns, *cells, strict=True)]
        if sum(min(each, NARROWEST) + 3 for each in longest) > terminal.width:
            _print_blocks(cells, columns, title, terminal)
            return
        table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for number, column in enumerate(columns):
            right = bool(cells) and all(_is_number(line[number]) for line in cells if line[number])
            table.add_column(column, overflow="fold", justify="right" if right else "left")
        for line in cells:
            table.add_row(*map(Text, line))
        terminal.print(table)
        return
    if title:
        print(title)
    widths = [max(len(column), *(len(line[n]) for line in cells), 0) for n, column in enumerate(columns)]
    for line in [list(columns), *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_blocks(cells: Sequence[Sequence[str]], columns: Sequence[str], title: str, terminal: Console) -> None:
    """Rows one below the other, each with its columns' names, for a terminal that is too narrow for a table."""
    blocks = ["\n".join(f"{name}: {text}" for name, text in zip(columns, line, strict=True) if text) for line in cells]
    text = "\n\n".join([*([title] if title else []), *blocks])
    terminal.print(text, markup=False, highlight=False, overflow="fold")


def table_source(table: str | None, separator: str | None, encoding: str | None) -> Any:
    """A table as a run takes it: its path, which may be that of the run's own table, or all that was said of it.

    Raises:
        OptionError: something is said of no table.
    """
    if separator is None and encoding is None:
        return table
    if table is None:
        raise OptionError("--separator and --encoding say how a TABLE is written; name the table")
    from mmreg.data.dialect import TableFile

    return TableFile(table, separator, encoding)


def check_out(out: Path, endings: Sequence[str], *reads: Path | str | None) -> str:
    """The ending of a file that can be written.

    Args:
        out: the file.
        endings: that it may have.
        reads: what the command reads, which must not be lost under what it writes.

    Raises:
        TableError: it cannot, or ends otherwise, or is one that is read.
    """
    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder; name a file")
    ending = out.suffix.lower()
    if ending not in endings:
        raise TableError(f"--out {str(out)!r} must end in {', '.join(endings)}")
    if not out.parent.is_dir():
        raise TableError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    why = unwritable(out)
    if why is not None:
        raise TableError(f"--out {str(out)!r}: {why}")
    if any(read is not None and _is_same(out, read) for read in reads):
        raise TableError(f"--out {str(out)!r} is what is read, and would be lost; name another file")
    return ending


def _is_same(out: Path, read: Path | str) -> bool:
    try:
        return out.samefile(read)
    except (OSError, ValueError):  # one of them is not there, or no file
        return False


def note_absent_columns(run: Run, table: Table) -> None:
    """Say which columns a table lacks of those that a run reads."""
    read = (column for given in run.plan.inputs.values() for column in given.columns)
    if told := absent_columns(table.name, read, table.columns):
        note(told)


def write_columns(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of the same length to a .csv, .jsonl or .parquet file."""
    ending = out.suffix.lower()
    if ending == ".csv":
        write_text(out, columns_csv(columns))
    elif ending == ".jsonl":
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        write_text(out, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with replacing(out) as temporary:
            pq.write_table(pa.table(dict(columns)), temporary)


def say(text: str) -> None:
    """A line for people on stderr, where it does not get into the result."""
    # In one piece, as another thread may write, too.
    print(f"{text}\n", end="", file=sys.stderr, flush=True)


def note(text: str, line: Callable[[str], None] = say) -> None:
    """Something about data or a run that a person should know; in every command by the same word.

    Args:
        text: what.
        line: how the line is written.
    """
    line(f"note: {text}")


def typed() -> list[str]:
    """The arguments that a person has typed, also in a process that was started for them."""
    return shlex.split(os.environ[TYPED]) if TYPED in os.environ else sys.argv[1:]


def typed_command() -> str:
    """The command that a person has typed, to be typed again."""
    return shlex.join(["mmreg", *typed()])


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True


class Heartbeat:
    """Says what is going on whenever nothing has been said for a while, from a thread of its own.

    Args:
        say: what writes a line.
        clock: gives seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._last = clock()
        self._doing = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mmreg-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def doing(self, text: str) -> None:
        """This is going on."""
        self._doing = text

    def said(self) -> None:
        """Something has been said just now."""
        self._last = self._clock()

    def beat(self) -> None:
        """Say what is going on, if nothing has been said for long."""
        if self._doing and self._clock() - self._last >= SILENCE:
            self._say(self._doing)
            self.said()

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            self.beat()


class Bar:
    """A progress bar on stderr where that is a terminal, with lines above it; elsewhere the lines alone.

    Args:
        shown: whether there may be a bar.
        sign_of_life: without a bar, what writes how far things are whenever no line has been written for half a minute;
            None for silence.
    """

    def __init__(self, shown: bool = True, sign_of_life: Callable[[str], None] | None = None) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._heartbeat = None if self._shown or sign_of_life is None else Heartbeat(sign_of_life)
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    @property
    def live(self) -> bool:
        """Whether it is shown how far things are, by a bar or by signs of life."""
        return self._bar is not None or self._heartbeat is not None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            note = TextColumn("{task.fields[note]}")
            self._bar = Progress(*columns, note, console=Console(stderr=True), transient=True)
            self._bar.start()
        if self._heartbeat is not None:
            self._heartbeat.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._heartbeat is not None:
            self._heartbeat.__exit__(*error)

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show how far something is."""
        if self._heartbeat is not None:
            self._heartbeat.doing(f"{what}: {done:,} of {total:,}" + (f" ({note})" if note else ""))
        if self._bar is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, note=note)
        self._bar.update(self._tasks[what], completed=done, total=total, note=note)

    def clear(self) -> None:
        """Show nothing of what was shown so far."""
        if self._bar is not None:
            for task in self._tasks.values():
                self._bar.remove_task(task)
        self._tasks.clear()

    def line(self, text: str, plain: Callable[[str], None] = say) -> None:
        """A line that stays: above the bar, or where there is none, as `plain` writes it."""
        if self._heartbeat is not None:
            self._heartbeat.said()
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            plain(text)
