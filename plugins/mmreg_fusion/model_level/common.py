"""What the model-level operators share: stacking scores, leaving out absent parts, converting spaces.

Axes: B batch, K classes, M modalities (parts).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmreg import ModelFusion, Space
from mmreg.errors import OptionError, TrainingError
from mmreg.layers import at_least_float32
from mmreg.messages import plural

DISTRIBUTIONS: frozenset[Space] = frozenset({"log_probabilities", "log_odds"})
"""The spaces of operators that need probabilities."""

EVERY: frozenset[Space] = DISTRIBUTIONS | {"values", "quantiles", "log_hazards"}
"""The spaces of operators that take means: of probabilities, else of the scores themselves."""

ALTERNATIVES: Mapping[Space, str] = {
    "log_probabilities": "mean, weighted, product, gated or stacking",
    "log_odds": "mean, weighted, product, gated or stacking",
    "values": "mean, weighted, gated or stacking",
    "quantiles": "mean, weighted or gated",
    "log_hazards": "mean, weighted or gated",
}
"""What to use instead where an operator has no meaning."""

LARGE = 1e30
"""Stands for infinity in a log space: its exponential is zero, and sums of many of it are still finite in float32."""


def log_weights(logits: Tensor, present: Tensor) -> Tensor:
    """Convex weights over the parts that a row has, as logarithms.

    Args:
        logits: (M,) or (B, M), before the softmax.
        present: (B, M) bool.

    Returns:
        (B, M); the exponentials of absent parts are zero. A row without any part gets equal weights.
    """
    return torch.where(present, logits, -LARGE).log_softmax(1)


def over_classes(per_part: Tensor, distributions: Tensor) -> Tensor:
    """(B, M) with the trailing axes of size one that it needs to be broadcast over (B, M, K) or (B, M, K, 2)."""
    return per_part.reshape(*per_part.shape, *[1] * (distributions.dim() - 2))


class ScoreFusion(ModelFusion):
    """The base of the operators: it checks the space, stacks the parts' scores and converts between spaces.

    Independent labels (`log_odds`) are K two-class problems, label and no label, so that a formula over an axis of
    classes serves both kinds of distributions: (B, M, K) for classes and (B, M, K, 2) for labels.

    All arithmetic is in float32 (float64 for float64 scores), under autocast as well, and so is the result.

    Args:
        inputs: name and feature size of each part.
        num_outputs: K.
        space: what the scores are.

    Raises:
        OptionError: there is no part, or the operator has no meaning in that space.
    """

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space) -> None:
        super().__init__()
        if not inputs:
            raise OptionError(f"{type(self).__name__} combines one model or more, found none")
        if space not in self.spaces:
            raise OptionError(
                f"{type(self).__name__} combines {' or '.join(sorted(self.spaces))}, found {space}; "
                f"use {ALTERNATIVES[space]}"
            )
        self.names = tuple(inputs)
        self.num_outputs = num_outputs
        self.space = space

    def stack(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """All parts' scores, (B, M, K), those of absent parts replaced by zeros."""
        stacked = torch.stack([at_least_float32(scores[name]) for name in self.names], 1)
        return torch.where(present.unsqueeze(-1), stacked, 0)

    def log_distributions(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """All parts' log-probabilities: (B, M, K) of classes, (B, M, K, 2) of labels; absent parts' are uniform."""
        stacked = self.stack(scores, present).clamp(-LARGE, LARGE)
        if self.space == "log_odds":
            stacked = torch.stack([stacked, -stacked], -1)
            return torch.nn.functional.logsigmoid(stacked)
        return stacked.log_softmax(-1)  # what half precision rounded sums to one again

    def to_scores(self, log_masses: Tensor) -> Tensor:
        """Normalise positive masses, given as logarithms (B, K) or (B, K, 2), to scores (B, K) in the space."""
        if self.space == "log_odds":
            return log_masses[..., 0] - log_masses[..., 1]
        return log_masses.log_softmax(-1)

    def mixture(self, scores: Mapping[str, Tensor], present: Tensor, logits: Tensor | None = None) -> Tensor:
        """The convex combination of the parts' probabilities, or of scores that stand for none, as scores (B, K).

        Args:
            scores: for each part (B, K).
            present: (B, M) bool.
            logits: (M,) or (B, M), the weights before the softmax over the parts that a row has; None: equal ones.
        """
        plain = self.space not in DISTRIBUTIONS
        values = self.stack(scores, present) if plain else self.log_distributions(scores, present)
        logits = values.new_zeros(()) if logits is None else logits.to(values.dtype)
        weights = over_classes(log_weights(logits, present), values)
        if plain:
            return (weights.exp() * values).sum(1)
        return self.to_scores((values + weights).logsumexp(1))

    def held_out(
        self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The rows that have any part at all, in float64 on the CPU, where a fit is exact and repeatable.

        Raises:
            TrainingError: there is none, or a score of a part that is there is not a number.
        """
        rows = present.any(1)
        if not rows.any():
            raise TrainingError(
                f"{type(self).__name__} is fitted on held-out rows that have at least one of "
                f"{', '.join(self.names)}; found none in {plural(len(present), 'row')}: give the "
                "validation split more rows"
            )
        present = present[rows].cpu()
        chosen = {name: scores[name].detach()[rows].to("cpu", torch.float64) for name in self.names}
        stacked = self.stack(chosen, present)
        # Logarithms may be infinite: each operator bounds them.
        broken = (~stacked.isfinite() if self.space == "values" else stacked.isnan()).any(0).any(-1)
        if broken.any():
            names = ", ".join(name for name, bad in zip(self.names, broken.tolist(), strict=True) if bad)
            raise TrainingError(
                f"{type(self).__name__} cannot be fitted: {names} gave scores that are not numbers or are infinite"
            )
        return chosen, present, targets[rows].cpu()
