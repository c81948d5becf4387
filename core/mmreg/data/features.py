"""What an encoder gave for a modality's values, gathered into batches as the values themselves are.

Axes: B batch, N rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmreg.contract.signals import Features, Signal
from mmreg.data.prepared import Prepared
from mmreg.layers import length_mask

POOLED, TOKENS = "pooled", "tokens"
"""The arrays of an entry, as far as an encoder gives them."""
STORED = {torch.bfloat16: torch.int16}
"""Dtypes that NumPy lacks, each with the one that holds its bits."""


class FeatureValues(Prepared):
    """The features of each value of one modality, in memory or mapped into it.

    Args:
        dtypes: the dtype of each array as the encoder gave it; see `STORED`.
        kept: what `Prepared` takes; `stored` and `values` by name, each of `POOLED` and `TOKENS` that there is.
    """

    def __init__(self, *, dtypes: Mapping[str, torch.dtype], **kept: Any) -> None:
        super().__init__(**kept)
        self._dtypes = dict(dtypes)

    def features(self, signal: Signal[Any]) -> Features:
        """What was gathered, on whatever device, as the encoder gave it."""
        arrays: dict[str, Tensor] = {name: values.view(self._dtypes[name]) for name, values in signal.values.items()}
        tokens, mask = arrays.get(TOKENS), None
        if tokens is not None and signal.lengths is not None:
            mask = length_mask(signal.lengths, tokens.shape[1])
        return Features(arrays.get(POOLED), tokens, mask)
