"""The check that the order of a fusion's modalities has no meaning.

It can only be shown with the parameters that belong to each modality moved along. Which those are, a state dict does
not say, so they are told by their shapes: members of a list with one entry a modality (or a pair of them), and axes
that are cut into one block a modality. Seven modalities, of sizes with a prime sum, make such shapes rarely
accidental. Where the result cannot be reproduced, that is a failure only if nothing was left to guess: if all weights
are members of such lists or have a shape that does not vary with the number of modalities.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product
from typing import cast

import torch
from torch import Tensor, nn

from mmreg.contract.fusion import ModelFusion
from mmreg.testing.cases import Outcome, built, plain
from mmreg.testing.fusion_batches import FusionBatch, ScoreBatch
from mmreg.testing.fusion_cases import FusionCase, ScoreCase, forms, fusion_case
from mmreg.testing.subject import Skipped, State, Subject, check, expect

COUNT = 7
"""Modalities of an operator that takes any number: few weights have axes that are a multiple of it by chance."""

TOLERANCE = 1e-8
"""In float64, relative to the greatest result."""

TOLERANCE_OF_A_FIT = 1e-3
"""A fit on the same rows, with its inputs in another order, ends elsewhere by more than rounding."""


@check
def check_order(subject: Subject) -> None:
    """With its modalities in another order it gives the same (but for the features' order), or is declared ordered."""
    if subject.cls.ordered:
        raise Skipped("it is declared ordered")
    most = subject.cls.max_inputs
    count = max(subject.cls.min_inputs, COUNT if most is None else min(most, COUNT))
    if count < 2:
        raise Skipped("it takes one modality")
    doubts = []
    for form in forms(subject):
        if form == "pooled and tokens":
            continue
        doubts += _check_order(subject, fusion_case(subject, count, form))
    if doubts:
        raise Skipped(
            f"the order changes the result, unless {', '.join(sorted(set(doubts)))} hold parts of every modality in a "
            "way that the check does not know; pass permute_state=, or declare it ordered"
        )


def _check_order(subject: Subject, case: FusionCase) -> list[str]:
    """The weights whose parts may have to be moved in a way that is not known; none if order has no meaning."""
    count = len(case.inputs)
    order = [*range(1, count, 2), *range(0, count, 2)]
    module, fresh = plain(case).double().eval(), built(case.permuted(order)).double().eval()
    batch = case.batch(24).to(torch.float64)
    assert isinstance(batch, FusionBatch)
    batch = batch.with_present(_patterns(count))
    moved = batch.permuted(order)
    state, wanted = module.state_dict(), fresh.state_dict()
    state = {name: value.clone() for name, value in state.items()}  # a fit changes it
    _fit(case, module, batch)
    expected = batch.run(module)

    def holds(permuted: State | None) -> bool:
        if permuted is None:
            return False
        fresh.load_state_dict(permuted)
        _fit(case, fresh, moved)
        tolerance = TOLERANCE_OF_A_FIT if getattr(module, "fitted", False) else TOLERANCE
        return _same(moved.run(fresh), expected, tolerance)

    if subject.permute_state is not None:
        expect(
            holds(subject.permute_state(state, order)),
            f"{case.label}: with the modalities in another order, and the state that permute_state gives for it, the "
            "result is another",
        )
        return []
    mapping = _Mapping(order, list(case.inputs.values()))
    if holds(_as_it_is(state, wanted)):
        return []
    if any(holds(mapping.state(state, wanted, *how)) for how in product((False, True), (True, False))):
        return []
    doubts = _doubts(case, state)
    expect(
        doubts,
        f"{case.label}: the order of the modalities changes the result, though the parameters of each were moved along "
        "with it; declare it ordered, or treat all alike",
    )
    return doubts


def _fit(case: FusionCase, module: nn.Module, batch: FusionBatch) -> None:
    """Fit a fitted operator on the batch's own rows."""
    if isinstance(case, ScoreCase) and case.cls.fitted:
        assert isinstance(batch, ScoreBatch)
        targets = case.targets(torch.arange(len(batch)) % case.num_outputs)
        cast(ModelFusion, module).fit(batch.scores, batch.present, targets)


def _as_it_is(state: State, wanted: State) -> State | None:
    """The state of an operator whose weights go by the modalities' names; None if shapes do not fit."""
    fits = state.keys() == wanted.keys() and all(state[name].shape == value.shape for name, value in wanted.items())
    return state if fits else None


def _patterns(count: int) -> Tensor:
    """(24, M) bool: rows with everything, and rows that lack one or several."""
    generator = torch.Generator().manual_seed(8)
    present = torch.rand(24, count, generator=generator) < 0.7
    present[:8] = True
    return present | ~present.any(1, keepdim=True)


def _same(found: Outcome, expected: Outcome, tolerance: float) -> bool:
    """Whether two outcomes agree, features up to their order."""
    for name, wanted in expected.rows.items():
        values = found.rows[name]
        if values.shape != wanted.shape:
            return False
        values, wanted = values.detach(), wanted.detach()
        if name == "pooled":
            values, wanted = _sorted_columns(values), _sorted_columns(wanted)
        scale = max(1.0, float(wanted.abs().max()))
        if not torch.allclose(values, wanted, rtol=0, atol=tolerance * scale):
            return False
    return True


def _sorted_columns(values: Tensor) -> Tensor:
    """(B, D) with its columns in an order that depends on nothing but them."""
    weights = torch.randn(len(values), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return values[:, (weights.to(values) @ values).argsort()]


@dataclass
class _Mapping:
    """How weights move with the modalities.

    Attributes:
        order: the place, in the operator that is given, of each modality of the one that is wanted.
        sizes: D of each modality of the operator that is given.
    """

    order: Sequence[int]
    sizes: Sequence[int]

    def state(self, given: State, wanted: State, transposed: bool, blocks: bool) -> dict[str, Tensor] | None:
        """The state of an operator with the modalities in the new order; None if shapes do not fit.

        Args:
            given: the operator's state.
            wanted: the state of any operator with the new order, for its names and shapes.
            transposed: whether what belongs to a pair that is turned round is transposed.
            blocks: whether an axis that can be cut into one block a modality is.
        """
        lengths = _list_lengths(given)
        result = {}
        for name, value in wanted.items():
            source, member, turned = self.source(name, lengths)
            if source not in given:
                return None
            tensor = given[source]
            if turned and transposed and tensor.dim() >= 2:
                tensor = tensor.mT
            for axis in range(tensor.dim()) if blocks else ():
                tensor = self.moved(tensor, axis, member)
            if tensor.shape != value.shape:
                return None
            result[name] = tensor
        return result

    def source(self, name: str, lengths: dict[str, int]) -> tuple[str, int | None, bool]:
        """Where a weight was, the modality it belongs to (by its new place), and whether to a pair that is turned."""
        count, turned = len(self.order), False
        member = None
        pairs, directed = list(combinations(range(count), 2)), list(permutations(range(count), 2))
        parts = list(_parts(name))
        path = ""
        for place, part in enumerate(parts):
            number = lengths.get(path) if part.isdecimal() else None
            path += part
            if number == count:
                member = int(part)
                parts[place] = str(self.order[member])
            elif number == len(pairs):
                left, right = (self.order[index] for index in pairs[int(part)])
                turned = turned or left > right
                parts[place] = str(pairs.index((min(left, right), max(left, right))))
            elif number == len(directed):
                left, right = (self.order[index] for index in directed[int(part)])
                parts[place] = str(directed.index((left, right)))
        return "".join(parts), member, turned

    def moved(self, tensor: Tensor, axis: int, member: int | None) -> Tensor:
        """A tensor with one axis in the new order, if it is cut into one block a modality, or each other modality."""
        size, count = tensor.shape[axis], len(self.order)
        order = list(self.order)
        if size == sum(self.sizes):
            blocks = torch.split(tensor, list(self.sizes), axis)
        elif size and size % count == 0:
            blocks = torch.split(tensor, size // count, axis)
        elif size and size % (count - 1) == 0 and member is not None:
            blocks = torch.split(tensor, size // (count - 1), axis)
            others = [index for index in range(count) if index != order[member]]
            order = [others.index(index) for place, index in enumerate(order) if place != member]
        else:
            return tensor
        return torch.cat([blocks[index] for index in order], axis)


def _doubts(case: FusionCase, state: State) -> list[str]:
    """The weights that may hold parts of every modality in some way of their own: their shape varies with the count.

    A weight that has the same shape with one modality less has no such parts, and neither has a list's further member.
    """
    names = list(case.inputs)[:-1]
    if len(names) < case.cls.min_inputs:
        return list(state)
    fewer = built(replace(case, inputs={name: case.inputs[name] for name in names})).state_dict()
    stems = {re.sub(r"\d+", "#", name) for name in fewer}
    return [
        name
        for name, value in state.items()
        if (name not in fewer or fewer[name].shape != value.shape)
        and (name in fewer or re.sub(r"\d+", "#", name) not in stems)
    ]


def _parts(name: str) -> Iterator[str]:
    """A name of a state dict, cut so that the numbers of list members stand alone; joined they are the name."""
    for part in re.split(r"(?:(?<=[._])|^)(\d+)(?=\.|$)", name):
        if part:
            yield part


def _list_lengths(state: State) -> dict[str, int]:
    """For what stands before a number in the names, how many different numbers follow it, if they count from 0."""
    found: dict[str, set[int]] = {}
    for name in state:
        path = ""
        for part in _parts(name):
            if part.isdecimal():
                found.setdefault(path, set()).add(int(part))
            path += part
    return {path: len(numbers) for path, numbers in found.items() if numbers == set(range(len(numbers)))}
