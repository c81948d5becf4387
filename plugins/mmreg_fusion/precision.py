"""Going back to reduced precision from what was computed in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def narrow(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values in a dtype of at most their precision; what lies beyond its range becomes its greatest number."""
    if values.dtype == dtype:
        return values
    limit = torch.finfo(dtype).max
    return values.clamp(-limit, limit).to(dtype)


def common_dtype(vectors: Sequence[Tensor]) -> torch.dtype:
    """The dtype to which the vectors' dtypes promote, in any order."""
    dtype = vectors[0].dtype
    for vector in vectors[1:]:
        dtype = torch.promote_types(dtype, vector.dtype)
    return dtype
