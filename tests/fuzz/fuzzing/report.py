"""Counts what came of all cases, keeps the inputs that failed, and reads one of them again."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fuzzing.cases import Case, Verdict

KEPT = 3
"""Inputs that are kept of those that fail alike."""
COLUMNS = ("cases", "refused", "accepted", "compared", "failed", "slowest s", "most MB")


class Report:
    """What came of all cases.

    Args:
        folder: where inputs that failed are kept.
        seed: what all cases were drawn by.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.failures: dict[tuple[str, str], list[tuple[Case, str]]] = defaultdict(list)

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count a case; keep it if it failed."""
        counts = self.counts[case.kind]
        counts.update(["cases", verdict.outcome, *(["compared"] if verdict.compared else [])])
        counts["slowest"] = max(counts["slowest"], round(verdict.seconds * 10))
        counts["most"] = max(counts["most"], verdict.bytes >> 20)
        if verdict.outcome == "failed":
            alike = self.failures[case.kind, _signature(verdict.detail)]
            alike.append((case, verdict.detail))
            if len(alike) <= KEPT:
                keep(self.folder, case, verdict.detail, self.seed)

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(counts["failed"] for counts in self.counts.values())

    def table(self) -> str:
        """The counts by kind."""
        lines = [("kind", *COLUMNS)]
        total: Counter[str] = Counter()
        for kind, counts in sorted(self.counts.items()):
            lines.append((kind, *_cells(counts)))
            total.update(counts)
        for name in ("slowest", "most"):
            total[name] = max(counts[name] for counts in self.counts.values())
        lines.append(("all", *_cells(total)))
        return "\n".join(f"{name:16}" + "".join(f"{cell:>11}" for cell in cells) for name, *cells in lines)

    def problems(self) -> str:
        """Failures that are alike in one place, with one that shows it."""
        found = []
        for (kind, _), alike in sorted(self.failures.items(), key=lambda item: -len(item[1])):
            case, detail = alike[0]
            shown = "\n    ".join(detail.strip().splitlines()[:4])[:600]
            where = f"{self.folder / case.name}.json"
            found.append(f"{len(alike)} x {kind} ({case.original or 'made up'})\n    {shown}\n    {where}")
        return "\n".join(found)


def _cells(counts: Mapping[str, int]) -> tuple[str, ...]:
    return (*(f"{counts[name]:,}" for name in COLUMNS[:5]), f"{counts['slowest'] / 10:.1f}", f"{counts['most']:,}")


def _signature(detail: str) -> str:
    """What alike failures have in common: their words without numbers, names and values, and the innermost place."""
    words = re.sub(r"'[^']*'|\"[^\"]*\"|0x\w+|\d+|/\S+", "_", detail.strip()[:200]).partition("\n")[0][:90]
    place = re.search(r"/(mmreg\w*/\S+)\", line \d+ in (\w+)", detail)
    return f"{words} {place[1]}:{place[2]}" if place else words


def keep(folder: Path, case: Case, detail: str, seed: int) -> None:
    """Write a case into files, from which it can be run again."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {**asdict(case), "data": f"{case.name}.bin", "seed": seed, "detail": detail}
    (folder / f"{case.name}.bin").write_bytes(case.data)
    (folder / f"{case.name}.json").write_text(json.dumps(facts, indent=2) + "\n")


def kept(path: Path) -> Case:
    """A case that was kept."""
    facts = json.loads(path.read_text())
    data = (path.parent / facts.pop("data")).read_bytes()
    return Case(**{name: value for name, value in facts.items() if name not in ("seed", "detail")}, data=data)
