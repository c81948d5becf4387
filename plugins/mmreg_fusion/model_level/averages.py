"""Fixed rules and a learned average of the models' probabilities: mean, weighted, product, max.

Axes: B batch, K classes, M modalities (parts).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreg import Fused, Space
from mmreg_fusion.model_level.common import DISTRIBUTIONS, EVERY, LARGE, ScoreFusion, over_classes


class Mean(ScoreFusion):
    """Mean of the probabilities: p_k = 1/n sum_m p_mk over the n parts that a row has (sum rule, Kittler 1998).

    Classes: log p_k, by a log-sum-exp. Labels: the log-odds of each label's mean probability. Values and
    quantiles: the mean of each. Log-hazards: their mean, which is the geometric mean of the hazards; as each part's
    have a zero of their own, rows that lack a part are less well compared with others. Of equal models it gives each
    of them. Cost: O(M K) a row; no parameters. Sums in float32.

    Kittler et al., On Combining Classifiers, IEEE TPAMI 20(3), 1998.
    """

    spaces = EVERY

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        return Fused(self.mixture(scores, present))


class Weighted(ScoreFusion):
    """Learned convex weights of the probabilities: p_k = sum_m w_m p_mk, w = softmax(v) (linear opinion pool).

    The softmax runs over the parts that a row has, so the weights of absent ones are shared out in proportion. It
    starts as the mean (v = 0) and is trained by the loss of the combined scores. Classes, labels and all else as for
    `mean`. Cost: O(M K) a row; M parameters. Sums in float32.

    Stone, The Opinion Pool, Annals of Mathematical Statistics 32(4), 1961.
    """

    spaces = EVERY

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.logits = nn.Parameter(torch.zeros(len(inputs)))

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        return Fused(self.mixture(scores, present, self.logits))


class Product(ScoreFusion):
    """Normalised product: p_k = prod_m p_mk / Z over the parts that a row has (logarithmic opinion pool, Hinton 2002).

    Classes: log_softmax(sum_m log p_m). Labels: the sum of the log-odds, which is the same rule for each label's two
    outcomes. The product of one model is itself. It has no meaning for values. Cost: O(M K) a row; no parameters.
    Sums in float32: log-probabilities of -1e4 and beyond stay finite.

    Hinton, Training Products of Experts by Minimizing Contrastive Divergence, Neural Computation 14(8), 2002.
    """

    spaces = DISTRIBUTIONS

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        # An absent part's distribution is uniform, and the factor of it cancels.
        return Fused(self.to_scores(self.log_distributions(scores, present).sum(1)))


class Max(ScoreFusion):
    """The greatest probability of each class, renormalised: p_k = max_m p_mk / Z (max rule, Kittler 1998).

    Over the parts that a row has. Labels: the rule for each label's two outcomes, so a model that is sure that a
    label is not there counts as much as one that is sure that it is: max_m p_mk / (max_m p_mk + max_m (1 - p_mk)).
    It has no meaning for values. Cost: O(M K) a row; no parameters. In float32.

    Kittler et al., On Combining Classifiers, IEEE TPAMI 20(3), 1998.
    """

    spaces = DISTRIBUTIONS

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        distributions = self.log_distributions(scores, present)
        there = over_classes(present, distributions)
        return Fused(self.to_scores(torch.where(there, distributions, -LARGE).amax(1)))
