"""The check that the order of a fusion's modalities has no meaning.

With the modalities in another order the result is the same only if the weights that belong to each go along. Which
these are need not be known where no modality's weights differ from another's: an operator without an order gives the
same in every order then, and one that treats a place in its own way gives something else.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmreg.testing.cases import built, plain
from mmreg.testing.expectations import Skipped, Tensors, expect_same, named
from mmreg.testing.fusion_batches import FusionBatch
from mmreg.testing.fusion_cases import FusionCase, ScoreCase, fusion_cases
from mmreg.testing.registration import FUSIONS, check
from mmreg.testing.subject import Subject

SIZE = 5
"""D of every modality."""

TOLERANCE = 1e-8
"""In float64, relative to the greatest result."""

TOLERANCE_OF_A_FIT = 1e-3
"""A fit on the same rows, with its inputs in another order, ends elsewhere by more than rounding."""

ADVICE = (
    "declare it ordered, or treat all modalities alike; where it does already, pass permute_state=, as neither names "
    "nor shapes show which of its weights belong to which modality"
)


@check(*FUSIONS)
def check_order(subject: Subject) -> None:
    """With its modalities in another order it gives the same (but for the features' order), or is declared ordered."""
    if subject.cls.ordered:
        raise Skipped("it is declared ordered")
    cases = [case for case in fusion_cases(subject) if len(case.inputs) > 1]
    if not cases:
        raise Skipped("it takes one modality")
    for case in cases:
        with named(case.label):
            _check_order(subject, replace(case, inputs=dict.fromkeys(case.inputs, SIZE)))


def _check_order(subject: Subject, case: FusionCase) -> None:
    count = len(case.inputs)
    module = plain(case).double().eval()
    state = {name: value.clone() for name, value in module.state_dict().items()}  # a fit changes it
    if subject.permute_state is None:
        state = alike(case, state)
        module.load_state_dict(state)
    batch = case.batch(24).to(torch.float64).with_gaps()
    expected = _result(case, module, batch)
    for order in ([1, 0, *range(2, count)], [*range(1, count), 0]):  # all others are made of these two
        permuted, other = batch.permuted(order), built(case.permuted(order)).double().eval()
        other.load_state_dict(subject.permute_state(state, order) if subject.permute_state else state)
        found = _result(case, other, permuted)
        tolerance = TOLERANCE_OF_A_FIT if getattr(module, "fitted", False) else TOLERANCE
        try:
            expect_same(found, expected, f"with the modalities in the order {', '.join(permuted.inputs)}", tolerance)
        except AssertionError as error:
            raise AssertionError(f"{error}; {ADVICE}") from error


def alike(case: FusionCase, state: Tensors) -> dict[str, Tensor]:
    """A state in which all modalities have the same weights.

    Weights of one shape whose names differ by numbers or by modalities' names alone become the same. So do the parts of
    a weight along an axis that has another size, or is not there, with another number of modalities. A square one
    becomes symmetric: it may belong to a pair of modalities, which is turned round in another order.
    """
    cls, names = case.cls, list(case.inputs)
    more = [*names, "another"] if cls.max_inputs is None or len(names) < cls.max_inputs else names[:-1]
    other = built(replace(case, inputs=dict.fromkeys(more, SIZE))).state_dict() if len(more) >= cls.min_inputs else {}
    numbered = re.compile(r"\d+|" + "|".join(map(re.escape, names)))
    first: dict[tuple[str, torch.Size], Tensor] = {}
    result = {}
    for name, value in state.items():
        value = first.setdefault((numbered.sub("#", name), value.shape), value)
        shape = other[name].shape if name in other else value.shape
        for axis, size in enumerate(value.shape):
            if len(shape) != value.dim() or size != shape[axis]:
                value = value.narrow(axis, 0, 1).expand_as(value)
        if value.dim() > 1 and value.shape[-1] == value.shape[-2]:
            value = value.triu() + value.triu(1).mT
        result[name] = value
    return result


def _result(case: FusionCase, module: nn.Module, batch: FusionBatch) -> Tensors:
    """What an operator gives, fitted first on the same rows if it is fitted; its features sorted in some way."""
    if isinstance(case, ScoreCase):
        case.fit(module, batch)
    found = dict(batch.run(module))
    if "pooled" in found:
        weights = torch.randn(len(batch.present), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        found["pooled"] = found["pooled"][:, (weights @ found["pooled"].double()).argsort()]
    return found
