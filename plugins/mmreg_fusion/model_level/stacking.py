"""Stacking: a small model on the models' scores, fitted on rows that they were not trained on.

Axes: B batch, N held-out rows, K classes, M modalities (parts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from mmreg import Fused, Space
from mmreg_fusion.model_level.common import ScoreFusion

MAX_ITERATIONS = 1000
"""Of the fit; it takes tens to hundreds."""

MAX_LOG = 30.0
"""Scores beyond it (probabilities below 1e-13) are clipped, so that no single one rules the fit."""


class Stacking(ScoreFusion):
    """Stacked generalisation: a regression on the scores of all parts, fitted on held-out rows (Wolpert 1992).

    Held out means rows that the parts were not trained on, of a validation split or by cross-fitting: on rows that a
    part knows by heart it would look better than it is, and get too much weight.

    The inputs x (M K + M) are all parts' scores (log-probabilities or log-odds, clipped at -30 and 30; the former
    less their mean over the classes) and one indicator of presence a part; zeros where a part is absent, as a part
    that knows nothing gives. Classes: multinomial logistic regression, log_softmax(W x + b). Labels: a logistic
    regression each. Values: ridge regression of the values in units of the targets' deviation from their mean.

    To learn what each part says without the others, `fit` takes each held-out row as it is and, if it has several
    parts, once more with each one alone; these copies share the row's weight of one. It minimises the weighted sum of
    the losses (half the squared error for values) and l2 / 2 |W|^2 by L-BFGS in float64 on the CPU; for given rows
    the result is always the same, and that of scikit-learn's `LogisticRegression` with C = 1 / l2, or `Ridge` with
    alpha = l2, on the same copies and weights.

    Before `fit` it is `product` for classes and labels and `mean` for values. All it learns are buffers: `fit` sets
    them, training leaves them alone. Cost: O(M K^2) a row (with hidden units H: O((M + 1) K H)), as many numbers,
    and some hundred times that for each copy of a held-out row in the fit. Sums in float32.

    Wolpert, Stacked Generalization, Neural Networks 5(2), 1992.

    Args:
        hidden: tanh units between inputs (then standardised) and output; 0 for a linear model, which needs far
            fewer held-out rows.
        l2: strength of the penalty on the weights, biases not included; 3 suits some hundred held-out rows, fewer of
            them or more classes ask for more.
    """

    fitted = True
    is_fitted: Tensor
    centre: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_outputs: int,
        space: Space,
        hidden: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Gt(0)] = 3.0,
    ) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.hidden = hidden
        self.l2 = l2
        size = len(inputs) * (num_outputs + 1)
        self.register_buffer("is_fitted", torch.tensor(False))
        self.register_buffer("centre", torch.zeros(num_outputs))
        self.register_buffer("scale", torch.ones(num_outputs))
        if hidden:
            # Where the fit starts from: equal units would stay equal.
            self.register_buffer("hidden_weight", torch.randn(hidden, size) / size**0.5)
            self.register_buffer("hidden_bias", torch.zeros(hidden))
        self.register_buffer("weight", torch.zeros(num_outputs, hidden or size))
        self.register_buffer("bias", torch.zeros(num_outputs))
        self.learned = ("hidden_weight", "hidden_bias", "weight", "bias") if hidden else ("weight", "bias")

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) to (B, K)."""
        if self.space == "values":
            unfitted = self.mixture(scores, present)
        else:
            unfitted = self.to_scores(self.log_distributions(scores, present).sum(1))
        inputs = self.regressors(scores, present)
        with torch.autocast(inputs.device.type, enabled=False):
            outputs = self.predict(inputs, {name: getattr(self, name).to(inputs.dtype) for name in self.learned})
        if self.space == "values":
            outputs = outputs * self.scale.to(outputs) + self.centre.to(outputs)
        elif self.space == "log_probabilities":
            outputs = outputs.log_softmax(-1)
        return Fused(torch.where(self.is_fitted, outputs, unfitted))

    def regressors(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """The regression's inputs, (B, M K + M): for each part its K scores, then the M indicators."""
        stacked = self.clipped(scores, present)
        standard = (stacked - self.centre.to(stacked)) / self.scale.to(stacked)
        known = torch.where(present.unsqueeze(-1), standard, 0)
        return torch.cat([known.flatten(1), present.to(stacked.dtype)], 1)

    def clipped(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """The parts' scores (B, M, K); if they are logarithms clipped, and zero where nothing is known."""
        if self.space == "log_probabilities":
            stacked = self.log_distributions(scores, present).clamp(min=-MAX_LOG)
            return stacked - stacked.mean(-1, keepdim=True)
        stacked = self.stack(scores, present)
        return stacked.clamp(-MAX_LOG, MAX_LOG) if self.space == "log_odds" else stacked

    def predict(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The regression's outputs (B, K) of inputs (B, M K + M), before any softmax or unit."""
        if self.hidden:
            inputs = functional.linear(inputs, weights["hidden_weight"], weights["hidden_bias"]).tanh()
        return functional.linear(inputs, weights["weight"], weights["bias"])

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Fit the regression on N rows that the parts were not trained on.

        Args:
            scores: for each part (N, K).
            present: (N, M) bool; rows without any part are left out.
            targets: (N,) int64 classes, (N, K) 0/1 labels or (N, K) values.

        Raises:
            TrainingError: no row has any part, or a score is not a number.
        """
        # The caller may be in either mode, and a fit needs gradients.
        with torch.inference_mode(False), torch.enable_grad():
            chosen, present, targets = self.held_out(scores, present, targets)
            self._standardise(self.clipped(chosen, present), present, targets)
            rows, present, weights = with_each_alone(present)
            chosen = {name: value[rows] for name, value in chosen.items()}
            self._minimise(self.regressors(chosen, present), targets[rows], weights.double())
        self.is_fitted.fill_(True)

    def _standardise(self, stacked: Tensor, present: Tensor, targets: Tensor) -> None:
        """Set the units: the targets' for values; for a hidden layer the scores' own; else none."""
        if self.space == "values":
            known = targets.to(stacked.dtype)
        elif self.hidden:
            known = stacked[present]
        else:
            return
        deviation = known.std(0, correction=0)
        self.centre.copy_(known.mean(0))
        self.scale.copy_(torch.where(deviation > 0, deviation, 1))

    def _minimise(self, inputs: Tensor, targets: Tensor, row_weights: Tensor) -> None:
        """Set the weights to those of least penalised loss; a linear model's do not depend on what it held before."""
        total = row_weights.sum()
        weights = {name: getattr(self, name).to("cpu", torch.float64, copy=True) for name in self.learned}
        if not self.hidden:
            weights = {name: torch.zeros_like(value) for name, value in weights.items()}
        # Of two classes' weights only the difference counts: halved between them it would be penalised half as much
        # as the one vector of an ordinary logistic regression.
        l2 = self.l2 * 2 if self.space == "log_probabilities" and self.num_outputs == 2 and not self.hidden else self.l2
        # Models that agree make the problem badly conditioned, so L-BFGS works on inputs without their mean and
        # correlations, (x - mean) L^-T, and on the first layer's weights times L: the same problem in other variables.
        mean = row_weights @ inputs / total
        covariance = (inputs - mean).T @ (row_weights.unsqueeze(1) * (inputs - mean)) / total
        ridge = l2 / total + 1e-12 * covariance.trace()
        factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(mean), dtype=mean.dtype))
        white = torch.linalg.solve_triangular(factor, (inputs - mean).T, upper=False).T.contiguous()
        first, offset = self.learned[:2]
        weights[first] = weights[first] @ factor
        for value in weights.values():
            value.requires_grad_()
        optimiser = torch.optim.LBFGS(
            weights.values(),
            max_iter=MAX_ITERATIONS,
            tolerance_grad=1e-9,
            tolerance_change=1e-16,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def original(name: str) -> Tensor:
            solved: Tensor = weights[name]
            if name == first:
                solved = torch.linalg.solve_triangular(factor, solved, upper=False, left=False)
            return solved

        def closure() -> float:
            optimiser.zero_grad()
            penalties = [original(name).square().sum() for name in self.learned if name.endswith("weight")]
            losses = self._losses(self.predict(white, weights), targets)
            loss = (row_weights @ losses + l2 / 2 * sum(penalties)) / total
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            return float(loss.detach())

        optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        with torch.no_grad():
            weights = {name: original(name) for name in self.learned}
            weights[offset] = weights[offset] - weights[first] @ mean
            for name, value in weights.items():
                getattr(self, name).copy_(value)

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The losses (N,) of the regression's outputs (N, K)."""
        if self.space == "log_probabilities":
            return functional.cross_entropy(outputs, targets, reduction="none")
        if self.space == "log_odds":
            losses = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
            return losses.sum(1)
        wanted = (targets.to(outputs.dtype) - self.centre.to("cpu", outputs.dtype)) / self.scale.to(
            "cpu", outputs.dtype
        )
        return (outputs - wanted).square().sum(1) / 2


def with_each_alone(present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row as it is, and rows of several parts once more with each of these alone.

    Args:
        present: (N, M) bool.

    Returns:
        For each copy its row's number, (R,), the parts that it has, (R, M) bool, and its share of the row, (R,).
    """
    several = present.sum(1, keepdim=True) > 1
    row, part = (present & several).nonzero(as_tuple=True)
    alone = functional.one_hot(part, present.shape[1]).bool()
    rows = torch.cat([torch.arange(present.shape[0]), row])
    return rows, torch.cat([present, alone]), 1 / rows.bincount()[rows]
