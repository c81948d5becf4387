"""Testing every pair of variants on the rows that both have."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.studies.compare.outcomes import Outcome
from mmreg.studies.compare.results import LEVEL, Pair, Variant, Verdict
from mmreg.studies.compare.statistics import bootstrap_p, holm, interval, mcnemar


@dataclass(frozen=True)
class Pairing:
    """Tests pairs of variants.

    Attributes:
        metric: what they are compared by.
        more: whether more of it is better.
        rows: how many rows there are.
        draws: for each variant its runs' metric on the bootstrap's draws, (R, seeds).
    """

    metric: str
    more: bool
    rows: int
    draws: Mapping[str, NDArray[np.float64]]

    def all(self, variants: Sequence[Variant]) -> list[Pair]:
        """Every pair that can be tested, corrected for their number."""
        measured = [facts for one, other in itertools.combinations(variants, 2) if (facts := self.facts(one, other))]
        adjusted = holm([facts["p"] for facts in measured])
        return [
            Pair(**facts, adjusted_p=p, verdict=self.verdict(facts, p))
            for facts, p in zip(measured, adjusted, strict=True)
        ]

    def facts(self, one: Variant, other: Variant) -> dict[str, Any] | None:
        """What is measured of one pair; None if the two have neither seeds nor rows in common."""
        shared = sorted(set(one.seeds) & set(other.seeds))
        if not shared and len({run.rows.tobytes() for run in (*one.runs, *other.runs)}) > 1:
            return None
        first, second = (
            [at for at, seed in enumerate(variant.seeds) if not shared or seed in shared] for variant in (one, other)
        )
        values = [[v.figures[at][self.metric] for at in chosen] for v, chosen in ((one, first), (other, second))]
        means = [statistics.fmean(numbers) for numbers in values]
        difference = means[0] - means[1]
        if abs(difference) <= 1e-12 * max(map(abs, means)):  # the same but for rounding
            difference = 0.0
        resampled = self.draws[one.name][:, first].mean(1) - self.draws[other.name][:, second].mean(1)
        leads = [(a - b) if self.more else (b - a) for a, b in zip(*values, strict=True)] if shared else []
        discordant = self.discordant([one.runs[at] for at in first], [other.runs[at] for at in second])
        exact = None if discordant is None else (*discordant, mcnemar(*discordant))
        rows = len(np.unique(np.concatenate([one.runs[at].rows for at in first])))
        uses_mcnemar = exact is not None and self.metric == "accuracy"
        return {
            "first": one.name,
            "second": other.name,
            "seeds": tuple(shared) or tuple(sorted({*one.seeds, *other.seeds})),
            "rows": rows,
            "difference": difference,
            "interval": interval(resampled),
            "seeds_won": sum(lead > 0 for lead in leads),
            "seeds_lost": sum(lead < 0 for lead in leads),
            "mcnemar": exact,
            "test": "mcnemar" if uses_mcnemar else "bootstrap",
            "p": exact[2] if exact is not None and uses_mcnemar else bootstrap_p(difference, resampled, rows),
        }

    def discordant(self, first: Sequence[Outcome], second: Sequence[Outcome]) -> tuple[int, int] | None:
        """On how many rows the first runs are right more often than the second, and the opposite."""
        shares = []
        for group in (first, second):
            right, count = np.zeros(self.rows, np.int64), np.zeros(self.rows, np.int64)
            for run in group:
                if run.correct is None:
                    return None
                right[run.rows] += run.correct
                count[run.rows] += 1
            shares.append((right, count))
        (right, count), (other_right, other_count) = shares
        lead = right * other_count - other_right * count
        return int((lead > 0).sum()), int((lead < 0).sum())

    def verdict(self, facts: Mapping[str, Any], adjusted: float) -> Verdict:
        """What may be said: nothing if the test is not significant, or rows or seeds are won by the other one."""
        direction = 1 if (facts["difference"] > 0) == self.more else -1
        balances = [facts["seeds_won"] - facts["seeds_lost"]] if facts["seeds_won"] or facts["seeds_lost"] else []
        if facts["test"] == "mcnemar":
            wins, losses, _ = facts["mcnemar"]
            balances.append(wins - losses)
        if adjusted >= LEVEL or facts["difference"] == 0 or any(balance * direction <= 0 for balance in balances):
            return "not distinguishable"
        return "better" if direction > 0 else "worse"
