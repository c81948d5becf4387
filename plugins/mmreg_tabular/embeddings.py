"""A vector for each column of a row: of numbers by linear or periodic embeddings, of categories by tables.

Axes: B batch, N numbers, C categories, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from mmreg import VECTOR, Encoder, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import at_least_float32

NumberEmbedding = Literal["periodic", "linear"]


def refusal(spec: Spec | Mapping[str, Spec]) -> str | None:
    """Why an encoder of tabular data does not take what a modality gives; None if it does."""
    if isinstance(spec, Spec) or not {*spec} & {"numbers", "categories"}:
        return 'it takes "numbers" and "categories" by name, such as the tabular modality gives'
    if others := {*spec} - {"numbers", "missing", "categories"}:
        return f"it does not know what {', '.join(sorted(others))} would be"
    if any(each.axes != VECTOR or each.size("C") is None for each in spec.values()):
        return f'it takes vectors "{VECTOR}" of one size'
    if "numbers" in spec and "float" not in spec["numbers"].dtype:
        return "numbers must be floating-point ones"
    if "missing" in spec and spec["missing"].shape != spec.get("numbers", spec["missing"]).shape:
        return "missing must be of the size of numbers"
    categories = spec.get("categories")
    if categories is not None and (categories.vocabulary_size is None or "int" not in categories.dtype):
        return "categories must be integers below a known number"
    return None


def count(spec: Mapping[str, Spec], name: str) -> int:
    """The columns of this kind."""
    size = spec[name].size("C") if name in spec else 0
    assert size is not None
    return size


class LinearNumbers(nn.Module):
    """Embeds each number x by w x + b, with a vector w and b for each column (Gorishniy et al. 2021).

    Args:
        columns: N.
        size: D.
    """

    def __init__(self, columns: int, size: int) -> None:
        super().__init__()
        bound = size**-0.5
        self.weight = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, N) to (B, N, D)."""
        return numbers.unsqueeze(-1) * self.weight + self.bias


class PeriodicNumbers(nn.Module):
    """Embeds each number x by a linear layer and ReLU over cos and sin of 2 pi c x (PLR of Gorishniy et al. 2022).

    Each column has frequencies c and a linear layer of its own.

    Args:
        columns: N.
        size: D.
        frequencies: how many a column has.
        scale: the deviation of the first frequencies.
    """

    def __init__(self, columns: int, size: int, frequencies: int, scale: float) -> None:
        super().__init__()
        # Within three deviations, as a single very high frequency would do nothing but harm.
        first = nn.init.trunc_normal_(torch.empty(columns, frequencies), 0, scale, -3 * scale, 3 * scale)
        self.frequencies = nn.Parameter(first)
        bound = (2 * frequencies) ** -0.5
        self.weight = nn.Parameter(torch.empty(columns, 2 * frequencies, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, N) to (B, N, D)."""
        angles = 2 * math.pi * self.frequencies * at_least_float32(numbers).unsqueeze(-1)
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(self.weight.dtype)
        return (torch.einsum("bnf,nfd->bnd", waves, self.weight) + self.bias).relu()


class ColumnEncoder(Encoder):
    """An encoder that begins with an embedding of each column.

    Args:
        spec: "numbers", "missing" and "categories".
        features: D, the size of what it gives.
        embedding_size: the size of a column's embedding.
        numbers: how numbers are embedded: `periodic` (cosines and sines of learned frequencies) or `linear`.
        frequencies: how many frequencies a column of numbers has, if they are periodic.
        frequency_scale: the deviation of the first frequencies; larger ones see finer differences.

    Attributes:
        width: the size of all embeddings of a row together.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    multiple_arrays = True

    def __init__(
        self,
        spec: Mapping[str, Spec],
        *,
        features: Annotated[int, Ge(1)] = 128,
        embedding_size: Annotated[int, Ge(1)] = 16,
        numbers: NumberEmbedding = "periodic",
        frequencies: Annotated[int, Ge(1)] = 24,
        frequency_scale: Annotated[float, Gt(0), Le(1e3)] = 0.1,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"{type(self).__name__} does not take what it gets: {reason}")
        self.embeddings = ColumnEmbeddings(spec, embedding_size, numbers, frequencies, frequency_scale)
        self.width = self.embeddings.columns * embedding_size
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        """It takes what the tabular modality gives."""
        return refusal(spec)

    def embedded(self, signal: Signal[Any]) -> Tensor:
        """(B, width): the embeddings of a row's columns, one after the other."""
        embeddings: Tensor = self.embeddings(signal)
        return embeddings.flatten(1)


class ColumnEmbeddings(nn.Module):
    """A vector for each column.

    Args:
        spec: of the modality.
        size: D.
        numbers: how numbers are embedded.
        frequencies: of periodic embeddings.
        scale: of periodic embeddings.

    Attributes:
        columns: N + C.
    """

    def __init__(
        self, spec: Mapping[str, Spec], size: int, numbers: NumberEmbedding, frequencies: int, scale: float
    ) -> None:
        super().__init__()
        count_numbers, count_categories = count(spec, "numbers"), count(spec, "categories")
        self.numbers: nn.Module | None = None
        self.missing: nn.Parameter | None = None
        self.categories: nn.Embedding | None = None
        if count_numbers:
            periodic = numbers == "periodic"
            self.numbers = (
                PeriodicNumbers(count_numbers, size, frequencies, scale)
                if periodic
                else LinearNumbers(count_numbers, size)
            )
            if "missing" in spec:
                self.missing = nn.Parameter(torch.empty(count_numbers, size).uniform_(-(size**-0.5), size**-0.5))
        if count_categories:
            vocabulary = spec["categories"].vocabulary_size
            assert vocabulary is not None
            self.categories = nn.Embedding(vocabulary, size)
            nn.init.uniform_(self.categories.weight, -(size**-0.5), size**-0.5)
        self.columns = count_numbers + count_categories

    def forward(self, signal: Signal[Any]) -> Tensor:
        """(B, N + C, D); an empty cell of numbers has a vector of its column's own."""
        values, parts = signal.values, []
        if self.numbers is not None:
            embedded = self.numbers(values["numbers"])
            if self.missing is not None:
                embedded = torch.where(values["missing"].unsqueeze(-1) > 0, self.missing.to(embedded.dtype), embedded)
            parts.append(embedded)
        if self.categories is not None:
            parts.append(self.categories(values["categories"]).to(parts[0].dtype if parts else None))
        return torch.cat(parts, 1)
