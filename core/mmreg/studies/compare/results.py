"""What a comparison finds: variants with their figures, tested pairs, and trainings that failed."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmreg.studies.compare.predictions import ComparedRun
from mmreg.studies.statistics import interval


class Verdict(StrEnum):
    """What a variant is, seen from another one."""

    BETTER = "better"
    WORSE = "worse"
    NOT_DISTINGUISHABLE = "not distinguishable"

    @property
    def opposite(self) -> Verdict:
        """What the other one is."""
        return {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}.get(self, self)

    def than(self, others: str) -> str:
        """The verdict with what it is about, such as "better than concat"."""
        return f"{self} {'from' if self is Verdict.NOT_DISTINGUISHABLE else 'than'} {others}"


@dataclass(frozen=True)
class Variant:
    """One way to build the model, trained with one or more seeds.

    Attributes:
        name: unique in the comparison.
        runs: its runs in the order of their seeds.
        draws: (R, S) the metric of its S runs on each of the bootstrap's R draws of the rows.
    """

    name: str
    runs: Sequence[ComparedRun]
    draws: NDArray[np.float64]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bootstrap interval (95%, over test rows) of the mean of the metric; None if it is undefined."""
        return interval(self.mean_draws(self.seeds))

    def mean_draws(self, seeds: Collection[int]) -> NDArray[np.float64]:
        """(R,) the metric's mean over the runs with these seeds on each of the bootstrap's draws."""
        return np.asarray(self.draws[:, [seed in seeds for seed in self.seeds]].mean(1))

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
        return [name for name in self.runs[0].figures if all(name in run.figures for run in self.runs)]

    def mean(self, metric: str) -> float:
        """A metric's mean over seeds."""
        return statistics.fmean(run.figures[metric] for run in self.runs)

    def deviation(self, metric: str) -> float | None:
        """A metric's standard deviation over seeds (of a sample); None with one seed."""
        return statistics.stdev(run.figures[metric] for run in self.runs) if len(self.runs) > 1 else None

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
        verdict: what the first is, seen from the second: better or worse only if `adjusted_p` is below 0.05 and it
            wins (or loses) more seeds than the other, and with McNemar's test more rows.
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

    def verdict_of(self, name: str) -> Verdict:
        """What the variant of that name is, seen from the other one."""
        return self.verdict if name == self.first else self.verdict.opposite


@dataclass(frozen=True)
class FailedTraining:
    """A training that did not end.

    Attributes:
        variant: the variant's name.
        seed: its seed.
        reason: why.
    """

    variant: str
    seed: int
    reason: str
