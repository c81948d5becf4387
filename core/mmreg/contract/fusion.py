"""The interfaces of fusion: of features, and of several models' predictions.

Axes: B batch, T time or tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from mmreg.contract.interfaces import Outputs
from mmreg.contract.lifecycle import Restorable
from mmreg.contract.signals import Features, Fused
from mmreg.contract.task import Space


class FeatureFusion(nn.Module, Restorable, ABC):
    """F = [f1, ..., fn]: named features to the features of the fused row.

    A subclass's constructor is `__init__(self, inputs: Mapping[str, int], *, option=default, ...)`, where `inputs`
    gives each modality's name and feature size D, in the recipe's order.

    Attributes:
        takes: "pooled", or "tokens" (then an encoder without tokens gives `pooled` alone: one token).
        min_inputs: the least number of modalities.
        max_inputs: the greatest number of modalities; None for any.
        ordered: whether the order of the modalities has a meaning. If not, a permutation of them (and of the
            parameters that belong to each) leaves the result as it is, up to a permutation of the features.
        out_features: the size of the fused vector. Set by the constructor.
    """

    takes: ClassVar[Outputs] = "pooled"
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False
    out_features: int

    @abstractmethod
    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse a batch.

        Args:
            features: for each modality, in the order of `inputs`, features of all B rows; those of absent rows may
                hold anything and must have no influence.
            present: (B, M) bool, which row has which modality. A row may lack all of them (its result is replaced).

        Returns:
            Features with `pooled` (B, out_features).
        """


class ModelFusion(nn.Module, Restorable, ABC):
    """M = M1 (+) ... (+) Mn: the predictions of several models, one per modality or nested fusion, to one.

    A subclass's constructor is `__init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space,
    option=default, ...)`. `inputs` gives each part's name and the size of its features (0 if it has none), in the
    recipe's order; `num_outputs` is K; `space` is what the scores are. The framework passes these three in.

    The parts are trained by their own losses unless the recipe says otherwise. If the operator has parameters,
    training also adds the loss of its combined scores, computed on detached inputs, so that they alone follow it.

    Attributes:
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        spaces: the spaces in which the operator has a meaning.
        uses_features: whether `forward` reads `features`.
        fitted: whether `fit` has to be called, on rows that the parts were not trained on, before it gives its best.
        evidential: whether its parts need its `part_loss`, so that models trained without it cannot be combined; a
            part that is a combination of models then gets a head as well, which reads its scores.
        min_inputs, max_inputs, ordered: as for `FeatureFusion`.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"num_outputs", "space", "restored"})
    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities", "log_odds", "values"})
    uses_features: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    evidential: ClassVar[bool] = False
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine a batch of predictions.

        Args:
            scores: for each part, in the order of `inputs`, (B, K) in the operator's space; those of absent rows
                may hold anything and must have no influence.
            present: (B, M) bool, which row has which part. A row may lack all of them (its result is replaced).
            features: for each part (B, D), if `uses_features`.
        """

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Fit what needs fitting on N held-out rows.

        Args:
            scores: for each part (N, K).
            present: (N, M) bool.
            targets: as the task encodes them: (N,) int64 classes, (N, K) 0/1 labels, or (N, K) values.
        """

    def part_loss(self, scores: Tensor, targets: Tensor, progress: float | Tensor) -> Tensor | None:
        """The loss of one part, (B,), instead of the task's; None for the task's.

        Args:
            scores: (B, K), what the part's head gives before the task makes scores of it (logits).
            targets: as the task encodes them.
            progress: the part of the training that is done, from 0 to 1; a tensor () on a GPU, for which nothing may
                wait.
        """
        return None

    def part_scores(self, logits: Tensor) -> Tensor | None:
        """The part's scores (B, K) from what its head gives, instead of the task's; None for the task's."""
        return None
