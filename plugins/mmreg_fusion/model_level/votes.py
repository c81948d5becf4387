"""Voting by decisions and by rankings: majority vote and Borda count.

Axes: B batch, K classes, M modalities (parts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mmreg import Fused, Space
from mmreg_fusion.model_level.common import DISTRIBUTIONS, LARGE, ScoreFusion, log_weights, over_classes


class _Ballot(ScoreFusion):
    """Adds up the points that each part gives to each class, the mean probability counting as one further point.

    That point breaks ties by the summed probability, keeps the logarithm of every class finite, and is the only road
    on which a gradient reaches the parts. It overturns no difference of a whole point, since the mean probability of
    a class is below one wherever another class got points.
    """

    spaces = DISTRIBUTIONS

    def count(self, points: Tensor, distributions: Tensor, present: Tensor) -> Tensor:
        """The scores (B, K) from the points and log-probabilities of each part, both (B, M, K) or (B, M, K, 2)."""
        equal = log_weights(distributions.new_zeros(()), present)
        mean = (distributions + over_classes(equal, distributions)).logsumexp(1)
        total = torch.where(over_classes(present, points), points, 0).sum(1)
        return self.to_scores(torch.logaddexp(total.log().clamp(min=-LARGE), mean))


class Vote(_Ballot):
    """Majority vote over the parts that a row has.

    Hard: p_k = (votes_k + q_k) / (n + 1), where votes_k counts the parts whose most probable class is k (a part that
    rates several classes equal splits its vote), n is the number of parts, and q is the mean of their probabilities.
    So a class that is a whole vote ahead wins, ties (and leads of split votes, less than one) are decided by the
    summed probability as well, and every probability is positive.
    Soft: q itself, the same as `mean`. Labels: a vote on each label, for or against.
    It has no meaning for values. Cost: O(M K) a row; no parameters. Sums in float32.

    Lam and Suen, Application of Majority Voting to Pattern Recognition, IEEE TSMC-A 27(5), 1997.

    Args:
        voting: "hard" counts decisions; "soft" averages probabilities.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_outputs: int,
        space: Space,
        voting: Literal["hard", "soft"] = "hard",
    ) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.voting = voting

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        if self.voting == "soft":
            return Fused(self.mixture(scores, present))
        distributions = self.log_distributions(scores, present)
        best = (distributions == distributions.amax(-1, keepdim=True)).to(distributions.dtype)
        return Fused(self.count(best / best.sum(-1, keepdim=True), distributions, present))


class Borda(_Ballot):
    """Borda count: each part gives a class as many points as there are classes that it rates lower.

    A class rated equal counts half a point. With r_mk the points and q the mean probability over the n parts that a
    row has, p_k = (sum_m r_mk + q_k) / (n K (K - 1) / 2 + 1): a class that is a whole point ahead wins, ties (and
    leads of half a point, from equal ratings) are decided by the summed probability as well, and every probability
    is positive. Labels: one ballot for each, of two outcomes (the same
    as a hard vote). It has no meaning for values. Cost: O(M K log K) a row; no parameters. Sums in float32.

    Ho, Hull and Srihari, Decision Combination in Multiple Classifier Systems, IEEE TPAMI 16(1), 1994.
    """

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        distributions = self.log_distributions(scores, present)
        values = distributions.detach().contiguous()
        ranked = values.sort(-1).values
        lower = torch.searchsorted(ranked, values)
        not_higher = torch.searchsorted(ranked, values, right=True)
        points = (lower + not_higher - 1).to(distributions.dtype) / 2
        return Fused(self.count(points, distributions, present))
