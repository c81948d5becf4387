"""What a person sees of a training: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from mmreg.cli.pace import Pace
from mmreg.console import Bar, by_target, figure_rows, note, print_table
from mmreg.contract.callback import Callback, FollowedRun, Step
from mmreg.contract.metrics import Epoch
from mmreg.messages import listed, plural, to_type

if TYPE_CHECKING:
    from mmreg.runs.run import Run

INTERVAL = 0.2
"""Seconds between two readings of the loss, each of which waits for the device."""


class Display(Callback):
    """Shows a training.

    Args:
        quiet: whether to show nothing but warnings and the result.

    Attributes:
        epochs: epochs done, those before a resumption included.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.epochs = 0
        self.begun = False
        # Where stdout goes into a file, the lines that belong there must not go to the bar's console.
        self._bar = Bar(not quiet and sys.stdout.isatty(), None if quiet else self._write)
        self._read = 0.0
        self._rows = 0
        self._metric = ""
        self._started = time.perf_counter()
        self._pace: Pace | None = None

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def on_message(self, text: str) -> None:
        """Something that a person should know, however quiet it is to be; on stderr."""
        note(text, self._bar.line)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show how far the decoding of a modality's values is."""
        self._bar.advance(what, done, total, note)

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Say what is trained on what."""
        self.begun = True
        self.epochs = facts["resumed_after_epoch"]
        self._metric = facts["metric"]
        self._started = self._read = time.perf_counter()
        self._bar.clear()  # what is prepared
        self._pace = Pace(facts, run.recipe["training"]["max_minutes"])
        rows = ", ".join(f"{count} {split}" for split, count in facts["rows"].items())
        self._print(f"rows: {rows}; {facts['parameters']:,} parameters; {facts['device']}, {facts['precision']}")
        if facts.get("processes", 1) > 1:
            self._print(f"processes: {facts['processes']}, which share the {facts['batch_size']} rows of each step")
        found = [f"{facts['batch_size']} rows each"] if run.recipe["training"]["batch_size"] == "auto" else []
        found += ["rows of similar length together"] if facts["buckets"] else []
        if found:
            self._print(f"batches: {', '.join(found)}")
        if facts["resumed_within_epoch"]:
            within = f"in epoch {self.epochs + 1} of {facts['epochs']}, "
            self._print(f"resumed {within}after step {facts['resumed_after_step']:,} of {facts['steps']:,}")
        elif self.epochs:
            self._print(f"resumed after epoch {self.epochs} of {facts['epochs']}")

    def on_step(self, step: Step) -> None:
        """Move the bar, with speed and loss now and then."""
        estimate = "" if self._pace is None else self._pace.estimate(step)
        if estimate:
            self._print(estimate)
        self._rows += step.rows
        now = time.perf_counter()
        if not self._bar.live or (now - self._read < INTERVAL and step.step < step.steps):
            return
        speed = self._rows / (now - self._read)
        self._read, self._rows = now, 0
        self._bar.advance("training", step.step, step.steps, f"{speed:,.0f} samples/s  loss {step.loss():.4f}")

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """One line an epoch."""
        self.epochs = epoch.number
        now = time.perf_counter()
        self._read, self._rows = now, 0  # what validation took is not counted as training's
        losses = {"loss": epoch.get("train", "loss"), "validation loss": epoch.get("validation", "loss")}
        shown = [f"{name} {value:.4f}" for name, value in losses.items() if value is not None]
        chosen = [each for each in epoch.values if (each.split, each.name) == ("validation", self._metric)]
        shown += [f"{self._metric} {each.value:.3f}" for each in chosen if not each.part]
        parts = [f"{each.part} {each.value:.3f}" for each in chosen if each.part]
        if parts:
            shown.append(f"({', '.join(parts)})")
        self._print(f"epoch {epoch.number:>3}  {now - self._started:6.1f} s  {'  '.join(shown)}")

    def finish(self, run: Run) -> None:
        """The table of figures, the line that says how good it is, and what to type next."""
        from mmreg.training.validation_rows import blending

        report = run.report
        splits = [split for split in ("validation", "test") if split in report]
        tables: dict[str, list[dict[str, Any]]] = {}
        for split in splits:
            for target, figures in by_target(report[split]).items():
                tables.setdefault(target, []).extend({"split": split, **row} for row in figure_rows(figures))
        if tables and not self.quiet:
            for target, rows in tables.items():
                print()
                print_table(rows, title=target)
            print()
        if splits:
            last = splits[-1]
            print(run.task.headline(report[last]["metrics"], report[last]["rows"]))
        if not self.quiet:
            if splits:
                what = "the test rows" if splits[-1] == "test" else "the validation rows, as there are no test rows"
                print(f"measured on {what}")
            elif not run.fused:
                print("\nmeasured on no rows, as there are neither validation nor test rows")
            if not run.fused:
                print(_weights(report))
            folder = to_type(run.folder)
            table = "" if run.fingerprint else " TABLE --split test"
            print(f"\neverything is in {run.folder}; next:")
            if splits or table:
                print(f"  mmreg evaluate {folder}{table}")
            print(f"  mmreg predict {folder} TABLE --out predictions.csv")
            if "validation" in report and run.fingerprint and not (run.fused or blending(run.plan)):
                print(f"  mmreg refit {folder}  # learns from the validation rows as well")

    def _print(self, text: str) -> None:
        if not self.quiet:
            self._bar.line(text, self._write)

    @staticmethod
    def _write(text: str) -> None:
        print(f"{text}\n", end="", flush=True)  # in one piece, as another thread may write, too


def _weights(report: Mapping[str, Any]) -> str:
    """Which epoch's weights a training ended with."""
    if best := report.get("best"):
        return f"weights of epoch {best['epoch']} of {report['epochs']}, the best by validation {best['metric']}"
    if soup := report.get("soup"):
        epochs = "epoch" if len(soup["epochs"]) == 1 else "the mean of the epochs"
        return f"weights of {epochs} {listed(soup['epochs'])} of {report['epochs']} (soup)"
    return f"weights of the last of {plural(report['epochs'], 'epoch')}"
