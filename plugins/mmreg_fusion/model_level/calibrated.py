"""Product of models whose confidence was calibrated by a temperature each.

Axes: B batch, N held-out rows, K classes, M modalities (parts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mmreg import Fused, Space
from mmreg_fusion.model_level.common import DISTRIBUTIONS, ScoreFusion, over_classes

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
STEPS = 60
"""Halvings of the interval of log T: it ends narrower than float64 can tell apart."""


class Calibrated(ScoreFusion):
    """A temperature per model, then the product: p_k = prod_m p_mk^(1 / T_m) / Z over the parts that a row has.

    `fit` chooses each T_m on held-out rows that have part m, as the minimum of the negative log-likelihood of
    softmax(log p_m / T_m) (Guo 2017; labels: of sigmoid(log-odds / T_m), all labels together). This is convex in 1/T,
    so halving an interval finds it: T lies in [0.05, 20], and a model that is right on every held-out row ends at
    the lower bound. A part without held-out rows keeps T = 1, and before `fit` all have: then it is `product`.
    T is a buffer, so training leaves it alone. It has no meaning for values.
    Cost: O(M K) a row, and 60 passes of O(N M K) for the fit, in float64; M numbers. Sums in float32.

    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """

    spaces = DISTRIBUTIONS
    fitted = True
    temperature: Tensor

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.register_buffer("temperature", torch.ones(len(inputs)))

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        distributions = self.log_distributions(scores, present)
        temperature = over_classes(self.temperature.to(distributions.dtype)[None], distributions)
        # An absent part's distribution is uniform at any temperature, and the factor of it cancels.
        return Fused(self.to_scores((distributions / temperature).sum(1)))

    @torch.no_grad()
    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Choose each part's temperature on N held-out rows.

        Args:
            scores: for each part (N, K).
            present: (N, M) bool.
            targets: (N,) int64 classes, or (N, K) 0/1 labels.

        Raises:
            TrainingError: no row has any part, or a score is not a number.
        """
        chosen, present, targets = self.held_out(scores, present, targets)
        distributions = self.log_distributions(chosen, present)
        if self.space == "log_odds":
            truth = torch.stack([targets, 1 - targets], -1).to(distributions.dtype)
        else:
            truth = torch.nn.functional.one_hot(targets, self.num_outputs).to(distributions.dtype)
        for index in range(len(self.names)):
            rows = present[:, index]
            if rows.any():
                self.temperature[index] = best_temperature(distributions[rows, index], truth[rows])


def best_temperature(log_probabilities: Tensor, truth: Tensor) -> float:
    """The T in [0.05, 20] under which softmax(log p / T) gives the greatest likelihood.

    Args:
        log_probabilities: (..., K) float64.
        truth: (..., K), the probabilities to meet, one-hot for classes.
    """
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(STEPS):
        middle = (low + high) / 2
        sharpened = (log_probabilities / math.exp(middle)).softmax(-1)
        # The derivative by 1/T of the negative log-likelihood; it grows with 1/T.
        if ((sharpened - truth) * log_probabilities).sum() > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
