"""The task without a target: what belongs to one row is near each other, what belongs to others is not.

Axes: B batch, N rows, M modalities, D features, K = M D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Len, Lt, MinLen
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Space, TargetValues, Task
from mmreg.errors import OptionError
from mmreg.layers import at_least_float32
from mmreg.messages import listed, near, plural
from mmreg_tasks import retrieval
from mmreg_tasks.info_nce import HIGHEST, LOWEST, Temperature, info_nce, unit_vectors
from mmreg_tasks.metrics import check_evaluation

Names = Annotated[list[str], Len(2, 2)]
"""Two modalities."""


class Contrastive(Task):
    """The parts of one row near each other, those of different rows apart; learned without a target (Radford 2021).

    Each modality's features are projected to one width by a linear layer and brought to length one. The loss is the
    symmetric InfoNCE between the modalities of the batch's rows, its temperature learned (between 0.01 and 1); of
    more than two modalities the mean over pairs. A row that lacks one side of a pair has no loss for it, and is
    nobody's negative. The other rows of a batch are all taken for negatives, also where they hold the same.

    It is measured by how well one side finds the other among those of all rows: the mean reciprocal rank (`mrr`),
    recall@1, 5 and 10, and the median rank, all as expected if ties are broken at random. Rows without both sides are
    left out.

    Args:
        inputs: the names of the modalities.
        features: the width D of the projections.
        between: the pairs of modalities that are brought together, such as [[image, text]]; all pairs if not given.
        temperature: what similarities are divided by at first.

    Example:
        >>> task = Contrastive(inputs=["image", "text"], features=2)
        >>> task.fit([None, None])
        >>> scores = task.scores(torch.tensor([[3.0, 4.0, 0.6, 0.8], [1.0, 0.0, 0.0, 0.0]]))
        >>> [round(each, 3) if each else each for each in task.predictions(scores)["similarity_image_text"]]
        [1.0, None]
    """

    space: ClassVar[Space] = "vectors"
    needs_target: ClassVar[bool] = False
    main_metric: ClassVar[str] = "mrr"
    metrics: ClassVar[Mapping[str, bool]] = retrieval.METRICS

    def __init__(
        self,
        *,
        inputs: Sequence[str] = (),
        features: Annotated[int, Ge(1), Le(2**16)] = 128,
        between: Annotated[list[Names], MinLen(1)] | None = None,
        temperature: Annotated[float, Gt(LOWEST), Lt(HIGHEST)] = 0.07,
    ) -> None:
        self._features, self._between, self._temperature = features, between, temperature
        self._inputs: list[str] = []
        self._pairs: list[tuple[int, int]] = []
        if inputs:
            self._take(inputs)

    def _take(self, inputs: Sequence[str]) -> None:
        """Learn which modalities there are.

        Raises:
            OptionError: they are too few, or `between` does not name pairs of them.
        """
        if len(inputs) < 2:
            raise OptionError(f"contrastive needs two modalities or more, found {listed(inputs)}; give it another one")
        self._inputs = list(inputs)
        places = {name: at for at, name in enumerate(inputs)}
        pairs = self._between or [list(pair) for pair in combinations(inputs, 2)]
        for name in (name for pair in pairs for name in pair):
            if name not in places:
                told = f"there is no modality {name!r}{near(name, inputs)}; there are {', '.join(inputs)}"
                raise OptionError(f"between: {told}")
        self._pairs = [(places[left], places[right]) for left, right in pairs]
        distinct = {frozenset(pair) for pair in self._pairs}
        if len(distinct) < len(pairs) or any(len(pair) < 2 for pair in distinct):
            raise OptionError(f"between must name different pairs of different modalities, found {pairs}")
        alone = [name for name, at in places.items() if not any(at in pair for pair in self._pairs)]
        if alone:
            raise OptionError(f"between has no pair with {listed(alone)}; add one, or leave the modality out")
        self.num_outputs = len(inputs) * self._features
        self.module = Temperature(self._temperature)

    def head(self, inputs: Mapping[str, int]) -> nn.Module:
        """The projections of all modalities, side by side."""
        return Projections(inputs, self._features)

    def fit(self, values: Sequence[Any]) -> None:
        """Begin with the initial temperature; there is nothing to learn from targets."""
        self.module = Temperature(self._temperature)

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Nothing for each row: (N, 0)."""
        return np.zeros((len(values), 0), np.float32)

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`."""
        self.fit(())

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`."""
        return np.zeros((len(values), 0), np.float32)

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,)."""
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean over pairs of modalities of the InfoNCE of each row among these B, (B,); see `info_nce`."""
        assert self.module is not None
        vectors, there = self._vectors(scores)
        temperature = self.module().to(vectors)
        losses = [
            info_nce(vectors[:, left], vectors[:, right], there[:, left] & there[:, right], temperature)
            for left, right in self._pairs
        ]
        return torch.stack(losses).mean(0)

    def scores(self, logits: Tensor) -> Tensor:
        """Each modality's vector brought to length one, side by side, (B, M D); zeros for what a row lacks."""
        return self._vectors(logits)[0].flatten(1)

    def _vectors(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The unit vectors (B, M, D), and which there are, (B, M)."""
        apart = at_least_float32(scores).reshape(scores.shape[0], len(self._inputs), self._features)
        vectors = unit_vectors(apart)
        return vectors, vectors.square().sum(-1) > 0

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """Zeros, (K,): a row without any modality has no vectors."""
        return torch.zeros(self.num_outputs)

    @torch.no_grad()
    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows, the means over the directions of all pairs; each direction's as "per_direction".

        Where no row has both sides of a pair, mrr and recalls are 0, and there is no median rank.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        vectors, there = (each.cpu() for each in self._vectors(scores.detach()))
        directions: dict[str, dict[str, Any]] = {}
        for left, right in self._pairs:
            both = there[:, left] & there[:, right]
            count = int(both.sum())
            places = retrieval.placed(vectors[both, left], vectors[both, right])
            for (source, sought), place in zip(((left, right), (right, left)), places, strict=True):
                name = f"{self._inputs[source]} to {self._inputs[sought]}"
                directions[name] = {"rows": count, **(retrieval.figures(*place) if count else {})}
        measured = [each for each in directions.values() if each["rows"]]
        result: dict[str, Any] = {
            name: mean(each[name] for each in measured) if measured else 0.0 if more_is_better else None
            for name, more_is_better in self.metrics.items()
        }
        return {**result, "per_direction": directions}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The cosine similarity of each pair as `similarity_LEFT_RIGHT`; None where a row lacks a side."""
        vectors, there = self._vectors(scores.detach().cpu().double())
        columns: dict[str, list[Any]] = {}
        for left, right in self._pairs:
            name = f"similarity_{self._inputs[left]}_{self._inputs[right]}"
            while name in columns:  # as of a_b with c, and a with b_c
                name += "_"
            similar = (vectors[:, left] * vectors[:, right]).sum(1).tolist()
            both = (there[:, left] & there[:, right]).tolist()
            columns[name] = [value if real else None for value, real in zip(similar, both, strict=True)]
        return columns

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """Such as "Recall@1: 41% among 140 rows (by chance 0.7%), mean reciprocal rank 0.55"."""
        counts = [each["rows"] for each in result["per_direction"].values()]
        if not any(counts):
            return f"None of {plural(rows, 'row')} has both sides of a pair"
        among = f"{min(counts)} to {max(counts)} rows" if min(counts) < max(counts) else plural(max(counts), "row")
        chance = mean(1 / count for count in counts if count)
        figures = f"Recall@1: {result['recall_at_1']:.0%} among {among} (by chance {chance:.1%})"
        return f"{figures}, mean reciprocal rank {result['mrr']:.2f}"

    def state(self) -> dict[str, Any]:
        """The names of the modalities."""
        return {"inputs": self._inputs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, instead of fitting."""
        self._take(state["inputs"])


class Projections(nn.Module):
    """A linear map of each modality's vector to one width, side by side.

    Args:
        inputs: name and feature size of each modality.
        features: the common width D.
    """

    def __init__(self, inputs: Mapping[str, int], features: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, features) for size in inputs.values())

    def forward(self, vectors: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Project each modality's vectors (B, size) to (B, M D); rows that lack one (B, M) have zeros there."""
        there = present.unsqueeze(-1)
        masked = [torch.where(there[:, at], each, 0) for at, each in enumerate(vectors.values())]
        projected = torch.stack([layer(each) for layer, each in zip(self.maps, masked, strict=True)], 1)
        return torch.where(there, projected, 0).flatten(1)
