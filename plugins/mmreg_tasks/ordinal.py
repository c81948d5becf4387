"""The task of choosing one of several classes that have an order, such as bad, fair and good.

Axes: B batch, N rows, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import listed, plural
from mmreg_tasks import ordinal_metrics
from mmreg_tasks.classification import Classification
from mmreg_tasks.classification_metrics import confusion_matrix, summary
from mmreg_tasks.labels import SHOWN, Label, Labels, label_text
from mmreg_tasks.metrics import check_evaluation


class Ordinal(Classification):
    """One of K classes in an order, by conditional probabilities (CORN, Shi, Cao and Raschka 2021, arXiv:2111.08851).

    A head gives K - 1 logits f_j: sigmoid(f_j) is the probability that the class is above the j-th if it is not below
    it. Their products P(y > j) fall with j whatever the logits are, and give a distribution over the classes. Logit j
    learns from the rows whose class is not below j alone, by binary cross entropy. What a row adds to these losses is
    the negative log-probability of its class, which is its loss here; the paper divides the sum by the number of terms
    instead of the number of rows. The label that is told is the distribution's median, as in the paper: the first
    class that the true one is above with a probability of one half at most. It is a guess in the middle, which errs by
    fewer ranks than the most probable class.

    Numbers, and texts that all read as numbers, are in their own order; of words the recipe says it by `order`.

    Args:
        order: The labels from the lowest to the highest, such as [bad, fair, good].
        class_weights: As for classification: how much each class's rows count in the loss.

    Raises:
        OptionError: `order` names a label twice, or a weight is negative or not finite.

    Example:
        >>> task = Ordinal(order=["bad", "fair", "good"])
        >>> task.fit(["fair", "good", "bad", "good"])
        >>> task.encode(["bad", "good"])
        array([0, 2])
        >>> task.num_logits, task.num_outputs
        (2, 3)
    """

    main_metric: ClassVar[str] = "quadratic_kappa"
    metrics: ClassVar[Mapping[str, bool]] = ordinal_metrics.METRICS

    def __init__(
        self,
        *,
        order: Annotated[list[str | int | float], MinLen(2)] | None = None,
        class_weights: Literal["balanced"] | dict[Any, float] | None = None,
    ) -> None:
        super().__init__(class_weights=class_weights)
        names = list(map(label_text, order or []))
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise OptionError(f"order names {listed(map(repr, twice))} more than once")
        self.order = order

    @property
    def num_logits(self) -> int:
        """K - 1."""
        return self.num_outputs - 1

    def _found(self, labels: Labels, rows: int) -> Labels:
        """The classes from the lowest to the highest; a class of `order` that no row has is one all the same."""
        labels = super()._found(labels, rows)
        if self.order is not None:
            return _ordered(labels, self.order)
        if labels.numeric:
            return labels
        try:
            numbers = [math.nan if isinstance(label, bool) else float(label) for label in labels.values]
        except ValueError:
            numbers = []
        if len({number for number in numbers if math.isfinite(number)}) < len(labels):
            raise TargetError(
                f"the order of the labels is not known: they are no different numbers ({labels.describe()}); name them "
                "from the lowest to the highest in the target, order: [..], or use task: classification"
            )
        return Labels(tuple(label for _, label in sorted(zip(numbers, labels.values, strict=True))))

    def scores(self, logits: Tensor) -> Tensor:
        """Log-probabilities, (B, K), of logits (B, K - 1); what has K columns is log-probabilities already."""
        logits = at_least_float32(logits)
        if logits.shape[-1] == self.num_outputs:
            return logits.log_softmax(-1)
        above = nn.functional.logsigmoid(logits).cumsum(-1)  # log P(y > j), of j = 0 .. K - 2
        reached = nn.functional.pad(above, (1, 0))  # log P(y > j - 1), of j = 0 .. K - 1
        stays = nn.functional.pad(nn.functional.logsigmoid(-logits), (0, 1))
        return reached + stays

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The sum of a row's binary cross entropies, (B,), of logits (B, K - 1) or log-probabilities (B, K)."""
        return nn.functional.nll_loss(self.scores(scores), targets, reduction="none")

    def decide(self, scores: Tensor) -> Tensor:
        """The median class, (N,)."""
        below = scores.double().exp().cumsum(-1)[..., :-1]  # P(y <= j), of j = 0 .. K - 2
        return (below < 0.5).sum(-1)

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows, of the labels that are told.

        Always quadratic_kappa and mae, the mean number of ranks between the label told and the true one, and what
        classification has: accuracy, precision, recall, f1, "per_class", "confusion", "labels", "intervals" and
        "baseline", which is always saying the median class of these rows and has its accuracy and mae; further ones
        by name, as `metrics` lists them.

        Args:
            scores: (N, K) log-probabilities.
            targets: (N,) int64.
            metrics: names of further ones.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        scores, targets = scores.detach().cpu(), targets.cpu()
        confusion = confusion_matrix(self.decide(scores), targets, self.num_outputs)
        result = ordinal_metrics.summary(confusion) | summary(confusion, self.labels, self._labels.names)
        median = int(targets.median())
        constant = confusion_matrix(torch.full_like(targets, median), targets, self.num_outputs)
        result["baseline"] = {
            "prediction": self.labels[median],
            "accuracy": int(constant.trace()) / len(targets),
            "mae": ordinal_metrics.mae(constant),
        }
        return result | ordinal_metrics.further(metrics, confusion, scores, targets)

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The three metrics, and the errors of the baseline."""
        kappa, mae, accuracy = (result[name] for name in ("quadratic_kappa", "mae", "accuracy"))
        text = f"Quadratic kappa: {kappa:.3g} (MAE {mae:.3g} ranks, accuracy {accuracy:.0%}, {plural(rows, 'row')})"
        baseline = result.get("baseline")
        if baseline is None:
            return text
        label, mae, accuracy = label_text(baseline["prediction"]), baseline["mae"], baseline["accuracy"]
        return f"{text}; always saying {label}: MAE {mae:.3g} ranks, accuracy {accuracy:.0%}"


def _ordered(labels: Labels, order: Sequence[Label]) -> Labels:
    """The labels of an order, in the target column's own types where it has them."""
    known: dict[str, Label] = dict(zip(labels.names, labels.values, strict=True))
    for label in labels.values:
        if isinstance(label, float) and label.is_integer():
            known[str(int(label))] = label  # a recipe's 2 for the column's 2.0
    chosen = [known.pop(label_text(label), label) for label in order]
    missing = [label for label in labels.values if label not in chosen]
    if missing:
        raise TargetError(
            f"the target column holds {listed(map(repr, missing), SHOWN)}, which order does not name: "
            f"it has {listed(map(repr, order), SHOWN)}"
        )
    if len({type(label) in (int, float) for label in chosen}) > 1:
        strange = [label for label in chosen if label not in labels.values]
        raise TargetError(
            f"order names {listed(map(repr, strange), SHOWN)}, which no row has and which are of another kind than "
            f"the labels {listed(map(repr, labels.values), SHOWN)}"
        )
    return Labels(tuple(chosen))
