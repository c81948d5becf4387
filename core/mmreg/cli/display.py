"""What a person sees of a training: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mmreg.console import print_table, say
from mmreg.training.events import Step

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mmreg.runs import Run

INTERVAL = 0.2
"""Seconds between two readings of the loss, each of which waits for the device."""


class Display:
    """Shows a training; a watcher.

    Args:
        quiet: whether to show nothing but warnings and the result.

    Attributes:
        epochs: epochs done and kept, those before a resumption included.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.epochs = 0
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._read = 0.0
        self._rows = 0
        self._metric = ""
        self._started = time.perf_counter()

    def __enter__(self) -> Display:
        # Where stdout goes into a file, the lines that belong there must not go to the bar's console.
        if not self.quiet and sys.stderr.isatty() and sys.stdout.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_prepare(self, done: int, total: int, name: str) -> None:
        """Show how far the decoding of a modality's values is."""
        self._advance(f"preparing {name}", done, total)

    def on_start(self, facts: Mapping[str, Any]) -> None:
        """Say what is trained on what."""
        self.epochs = facts["resumed_after_epoch"]
        self._metric = facts["metric"]
        self._started = self._read = time.perf_counter()
        if self._bar is not None:
            for task in self._tasks.values():  # what is prepared
                self._bar.remove_task(task)
            self._tasks.clear()
        rows = ", ".join(f"{count} {split}" for split, count in facts["rows"].items())
        self._print(f"rows: {rows}; {facts['parameters']:,} parameters; {facts['device']}, {facts['precision']}")
        if facts["resumed_after_epoch"]:
            self._print(f"resumed after epoch {self.epochs} of {facts['epochs']}")

    def on_step(self, step: Step) -> None:
        """Move the bar, with speed and loss now and then."""
        self._rows += step.rows
        now = time.perf_counter()
        if self._bar is None or (now - self._read < INTERVAL and step.step < step.steps):
            return
        speed = self._rows / (now - self._read)
        self._read, self._rows = now, 0
        self._advance("training", step.step, step.steps, f"{speed:,.0f} samples/s  loss {step.loss():.4f}")

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """One line an epoch."""
        self.epochs = int(row["epoch"])
        now = time.perf_counter()
        self._read, self._rows = now, 0  # what validation took is not counted as training's
        names = {"train_loss": "loss", "validation_loss": "validation loss"}
        shown = [f"{names[key]} {row[key]:.4f}" for key in names if key in row]
        whole, ending = f"validation_{self._metric}", f"_{self._metric}"
        if whole in row:
            shown.append(f"{self._metric} {row[whole]:.3f}")
        parts = [key for key in row if key.startswith("validation_") and key.endswith(ending) and key != whole]
        if parts:
            each = (f"{key.removeprefix('validation_').removesuffix(ending)} {row[key]:.3f}" for key in parts)
            shown.append(f"({', '.join(each)})")
        self._print(f"epoch {row['epoch']:>3}  {now - self._started:6.1f} s  {'  '.join(shown)}")

    def on_message(self, text: str) -> None:
        """Something that a person should know, however quiet it is to be; on stderr."""
        self._line(f"note: {text}", say)

    def finish(self, run: Run) -> None:
        """The table of figures, the line that says how good it is, and what to type next."""
        report = run.report
        splits = [split for split in ("validation", "test") if split in report]
        rows = []
        for split in splits:
            metrics = report[split]["metrics"]
            rows.append({"split": split, "part": "all", "rows": report[split]["rows"], **_numbers(metrics)})
            rows += [{"split": split, "part": name, **part} for name, part in metrics["modalities"].items()]
        if rows and not self.quiet:
            print()
            print_table(rows, list(dict.fromkeys(key for row in rows for key in row)))
            print()
        if splits:
            last = splits[-1]
            print(run.task.headline(report[last]["metrics"], report[last]["rows"]))
        if not self.quiet:
            if splits:
                what = "the test rows" if splits[-1] == "test" else "the validation rows, as there are no test rows"
                print(f"measured on {what}")
            folder = shlex.quote(str(run.folder))
            table = "" if run.fingerprint else " TABLE --split test"
            print(f"\neverything is in {run.folder}; next:")
            print(f"  mmreg evaluate {folder}{table}")
            print(f"  mmreg predict {folder} TABLE --out predictions.csv")

    def _print(self, text: str) -> None:
        if not self.quiet:
            self._line(text, lambda line: print(line, flush=True))

    def _line(self, text: str, plain: Callable[[str], None]) -> None:
        """A line above the bar, or where there is none, as it is."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            plain(text)

    def _advance(self, name: str, done: int, total: int, note: str = "") -> None:
        if self._bar is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, note=note)
        self._bar.update(self._tasks[name], completed=done, total=total, note=note)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
