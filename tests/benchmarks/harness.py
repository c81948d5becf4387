"""Measures two things in interleaved rounds, keeps the ratios in one table, and compares it with a stored reference."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).with_name("reference.json")
NOTICEABLE = 0.05
"""By what share a ratio has to be worse than its reference, beyond both spreads, to be called a regression."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, unique in the table.
        against: what it was measured against.
        ratio: the median over the rounds.
        low: their first quartile.
        high: their third quartile.
        rounds: how many there were.
        at_least: the bound of a ratio of which more is better; None for the other kind.
        at_most: the bound of a ratio of which less is better; None for the other kind, and where there is no bound.
    """

    what: str
    against: str
    ratio: float
    low: float
    high: float
    rounds: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the ratio is within its bound."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.at_most is None or self.ratio <= self.at_most

    def is_worse_than(self, reference: Row) -> bool:
        """Whether it is noticeably worse than an earlier row, with spreads that do not overlap."""
        if self.at_least is not None:
            return self.high < reference.low and self.ratio < reference.ratio * (1 - NOTICEABLE)
        return self.low > reference.high and self.ratio > reference.ratio * (1 + NOTICEABLE)


TABLE: list[Row] = []
"""What this session has measured so far."""


def interleaved(
    ours: Callable[[], float | None],
    theirs: Callable[[], float | None],
    *,
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[float, float]]:
    """Run two things in turns, each round in the other order, so that a busy moment of the machine meets both.

    Args:
        ours: runs once; gives what it took, where it measures that itself (or something else, such as bytes).
        theirs: the same of what it is measured against.
        rounds: how often both are run.
        warm: how often both are run before, which does not count.
        clock: gives seconds; `time.process_time` leaves out other processes, but adds up threads.

    Returns:
        For each round what ours and theirs took.
    """

    def run(call: Callable[[], float | None]) -> float:
        started = clock()
        own = call()
        return clock() - started if own is None else own

    for _ in range(warm):
        run(ours), run(theirs)
    pairs = []
    for number in range(rounds):
        if number % 2:
            second, first = run(theirs), run(ours)
        else:
            first, second = run(ours), run(theirs)
        pairs.append((first, second))
    return pairs


def record(
    what: str,
    against: str,
    ratios: Iterable[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Add a row to the table; fails if the median misses the bound.

    Args:
        what: what was measured, unique in the table.
        against: what it was measured against.
        ratios: one a round. Of times: ours / theirs with `at_most`, theirs / ours (how many times as fast) with
            `at_least`.
        at_least: the least median.
        at_most: the greatest median.
    """
    values = sorted(ratios)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    row = Row(what, against, statistics.median(values), low, high, len(values), at_least, at_most)
    assert what not in {each.what for each in TABLE}, f"there is a row {what!r} already"
    TABLE.append(row)
    assert row.is_met, f"{what}: {row.ratio:.3g} ({row.low:.3g} to {row.high:.3g}) times {against}; {bound(row)}"
    return row


def compare(
    what: str,
    against: str,
    ours: Callable[[], float | None],
    theirs: Callable[[], float | None],
    *,
    rounds: int = 9,
    warm: int = 1,
    at_least: float | None = None,
    at_most: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """`interleaved` and `record`: how many times as long ours takes, or with `at_least` how many times as fast."""
    pairs = interleaved(ours, theirs, rounds=rounds, warm=warm, clock=clock)
    ratios = [b / a if at_least is not None else a / b for a, b in pairs]
    return record(what, against, ratios, at_least=at_least, at_most=at_most)


def bound(row: Row) -> str:
    """A row's bound in short."""
    if row.at_least is not None:
        return f">= {row.at_least:g}"
    return "" if row.at_most is None else f"<= {row.at_most:g}"


def spread(row: Row) -> str:
    """A row's ratio with its quartiles."""
    return f"{row.ratio:.3g} ({row.low:.3g} to {row.high:.3g})"


def verdict(row: Row, reference: Row | None) -> str:
    """What a row says: a missed bound, a regression, or nothing of the kind."""
    if not row.is_met:
        return "MISSED"
    if reference is not None and row.is_worse_than(reference):
        return "SLOWER than the reference"
    return "new" if reference is None else "ok"


def lines(rows: Sequence[Row], references: Mapping[str, Row]) -> list[str]:
    """The table of a session as lines of text."""
    cells = [("measured", "against", "ratio (quartiles)", "bound", "reference", "verdict")]
    for row in rows:
        reference = references.get(row.what)
        known = "" if reference is None else f"{reference.ratio:.3g}"
        cells.append((row.what, row.against, spread(row), bound(row), known, verdict(row, reference)))
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def machine() -> dict[str, Any]:
    """The facts of this machine that a figure depends on."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = (text.partition(":")[2].strip() for text in info.read_text().splitlines() if "model name" in text)
        cpu = next(names, cpu)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": count,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write(path: Path, rows: Iterable[Row], facts: Mapping[str, Any]) -> None:
    """Write rows and the machine that they were measured on as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": facts, "rows": [_rounded(row) for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _rounded(row: Row) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(row).items()}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Row]]:
    """What `write` wrote: the machine, and the rows by what they measure; nothing where there is no file."""
    if not path.is_file():
        return {}, {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["machine"], {each["what"]: Row(**each) for each in document["rows"]}


def renew(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Put a session's rows in the place of those that a reference has.

    Raises:
        ValueError: the others are another machine's, whose figures do not go into one table with these.
    """
    known, references = read(path)
    fresh = {row.what: row for row in rows}
    kept = [row for what, row in references.items() if what not in fresh]
    if kept and known != dict(facts):
        raise ValueError(
            f"the reference was measured on {known}, this is {dict(facts)}: renew all of it, or remove {path} first"
        )
    write(path, {**references, **fresh}.values(), facts)
