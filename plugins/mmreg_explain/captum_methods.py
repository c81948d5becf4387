"""Captum's attribution methods, asked for one row and one number.

Axes: P parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmreg.errors import MissingPackageError

AT_ONCE = 32
"""Changed versions of a row that are asked at a time."""
STEPS = 64
"""Points on the way from nothing to the value at which integrated gradients are taken."""

Ask = Callable[[Tensor], Tensor]


def require_captum() -> Any:
    """The module `captum.attr`.

    Raises:
        MissingPackageError: Captum is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise MissingPackageError(
            "what counts within a modality is found by Captum, which is not installed; type: pip install "
            "'mmreg[explain]'"
        ) from error
    return captum.attr


def left_out(ask: Ask, parts: int) -> Tensor:
    """What each of some parts adds to all the others: the answer with all, less that without it, (P,).

    Args:
        ask: the answers (B,) of versions (B, P) of the row, 1 where a part is kept and 0 where it is left out.
        parts: P.
    """
    method = require_captum().FeatureAblation(ask)
    found: Tensor = method.attribute(torch.ones(1, parts), perturbations_per_eval=AT_ONCE)
    return found[0]


def occluded(ask: Ask, values: Tensor, mask: Tensor) -> Tensor:
    """What each number's part adds: the answer less the one in which the part is zeros, (1, ...) as the values are.

    Args:
        ask: the answers (B,) of values (B, ...).
        values: (1, ...) of one row.
        mask: (1, ...) int64, which part each belongs to.
    """
    method = require_captum().FeatureAblation(ask)
    found: Tensor = method.attribute(values, baselines=0, feature_mask=mask, perturbations_per_eval=AT_ONCE)
    return found


def integrated_gradients(ask: Ask, values: Tensor) -> Tensor:
    """Each number's integrated gradient from zeros on (Sundararajan et al. 2017), (1, ...) as the values are."""
    method = require_captum().IntegratedGradients(ask)
    found: Tensor = method.attribute(values, baselines=0, n_steps=STEPS, internal_batch_size=AT_ONCE)
    return found
