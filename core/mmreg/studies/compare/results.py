"""The result of a comparison: variants with their figures, tested pairs, and trainings that failed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmreg.studies.compare import report
from mmreg.studies.compare.outcomes import Outcome

LEVEL = 0.05
"""The chance of any false claim that is accepted, over all pairs of a comparison."""
RESAMPLES = 2000
"""The draws of the bootstrap unless another number is given."""

Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True)
class Variant:
    """One way to build the model, trained with one or more seeds.

    Attributes:
        name: unique in the comparison.
        runs: its runs in the order of their seeds.
        figures: for each run, its metrics.
        interval: the bootstrap interval (95%, over test rows) of the mean of the metric; None if it is undefined.
    """

    name: str
    runs: Sequence[Outcome]
    figures: Sequence[Mapping[str, float]]
    interval: tuple[float, float] | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The inputs that it uses."""
        return tuple(self.runs[0].plan.inputs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that it was trained with."""
        return tuple(run.seed for run in self.runs)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return self.runs[0].parameters

    @property
    def metrics(self) -> list[str]:
        """The metrics that all of its runs have."""
        return [name for name in self.figures[0] if all(name in figures for figures in self.figures)]

    def mean(self, metric: str) -> float:
        """A metric's mean over seeds."""
        return statistics.fmean(figures[metric] for figures in self.figures)

    def deviation(self, metric: str) -> float | None:
        """A metric's standard deviation over seeds (of a sample); None with one seed."""
        values = [figures[metric] for figures in self.figures]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def seconds(self) -> float | None:
        """The mean time of a training in seconds, validation included; None if the runs do not tell."""
        known = [run.usage["seconds"] for run in self.runs if run.usage["seconds"] is not None]
        return statistics.fmean(known) if known else None

    @property
    def memory_bytes(self) -> int | None:
        """The greatest peak memory of a training: the device's, or on a CPU the process's; None if unknown."""
        return max((run.usage["memory_bytes"] for run in self.runs if run.usage["memory_bytes"]), default=None)


@dataclass(frozen=True)
class Pair:
    """Two variants on the same test rows.

    Attributes:
        first: a variant's name.
        second: the other's.
        seeds: the seeds that both have, over which the difference is taken; all of both if they share none.
        rows: how many test rows.
        difference: of the metric's means, first minus second.
        interval: its bootstrap interval (95%, over test rows, not corrected for the number of pairs).
        seeds_won: in how many of the shared seeds the first is the better one.
        seeds_lost: in how many the second is.
        mcnemar: with exclusive classes, the rows on which the first is right in more seeds than the second, those
            with the opposite, and McNemar's exact p-value (with several seeds a sign test of the rows).
        test: what `p` comes from: McNemar's test if the metric is accuracy, else the bootstrap.
        p: the p-value.
        adjusted_p: the same after Holm's correction over all pairs.
        verdict: what the first is, seen from the second: "better" or "worse" only if `adjusted_p` is below 0.05 and
            it wins (or loses) more seeds than the other, and with McNemar's test more rows.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    rows: int
    difference: float
    interval: tuple[float, float] | None
    seeds_won: int
    seeds_lost: int
    mcnemar: tuple[int, int, float] | None
    test: Literal["mcnemar", "bootstrap"]
    p: float
    adjusted_p: float
    verdict: Verdict


@dataclass(frozen=True)
class Failure:
    """A training that did not end.

    Attributes:
        variant: the variant's name.
        seed: its seed.
        reason: why.
    """

    variant: str
    seed: int
    reason: str


@dataclass
class Comparison:
    """The result of comparing variants on the same rows.

    Attributes:
        metric: what they are compared by.
        more_is_better: its direction.
        split: the rows' split.
        rows: how many rows.
        variants: the best first.
        pairs: every pair, each once, the one that stands first in `variants` first.
        failed: trainings that did not end.
        notes: what a reader should know.
        resamples: the draws of the bootstrap.
    """

    metric: str
    more_is_better: bool
    split: str
    rows: int
    variants: list[Variant]
    pairs: list[Pair]
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    resamples: int = RESAMPLES

    @property
    def best(self) -> Variant:
        """The variant with the best mean."""
        return self.variants[0]

    @property
    def best_single(self) -> Variant | None:
        """The best variant of one modality alone: the baseline of every fusion."""
        return next((variant for variant in self.variants if len(variant.modalities) == 1), None)

    def variant(self, name: str) -> Variant:
        """A variant by name."""
        return next(variant for variant in self.variants if variant.name == name)

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of two variants, whichever stands first; None if they cannot be paired."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {one, other}), None)

    def gain(self, variant: Variant) -> float | None:
        """A variant's mean less that of the best single modality; None for a single one, or without any."""
        baseline = self.best_single
        if baseline is None or len(variant.modalities) == 1:
            return None
        return variant.mean(self.metric) - baseline.mean(self.metric)

    def sentence(self, pair: Pair) -> str:
        """What a reader may conclude of a pair."""
        return report.sentence(self, pair)

    @property
    def conclusions(self) -> list[str]:
        """What a reader may conclude of all of it."""
        return report.conclusions(self)

    def table(self) -> list[dict[str, str]]:
        """The most important figures as rows of text, the best variant first."""
        return report.table(self)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return report.to_json(self)

    def to_markdown(self) -> str:
        """A page with the tables, the conclusions, and how the tests were made."""
        return report.to_markdown(self)

    def write(self, folder: str | Path) -> list[Path]:
        """Write comparison.csv, .json, .md, and with matplotlib installed .png; returns what was written."""
        return report.write(self, Path(folder))
