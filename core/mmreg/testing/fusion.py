"""Checks of fusion operators: any number of modalities, absence, extreme values, probabilities, fits.

Axes: B batch, K classes, M modalities.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import cast

import torch
from torch import nn

from mmreg.contract.fusion import ModelFusion
from mmreg.messages import one_line
from mmreg.testing.cases import (
    Outcome,
    backward,
    each_case,
    expect_finite,
    expect_finite_gradients,
    expect_same,
    plain,
    used,
)
from mmreg.testing.fusion_batches import FusionBatch
from mmreg.testing.fusion_cases import MOST, FusionCase, ScoreCase, counts, forms, fusion_case
from mmreg.testing.subject import Skipped, Subject, check, expect

AWKWARD = ("image", "values", "type", "d.e", "the 5th")
"""Names that a recipe may give to modalities, and that `torch.nn.ModuleDict` refuses."""

EXTREME = 1e4
"""A large input; float16 reaches 6.5e4."""

NOTHING = (0.0, float("nan"), float("inf"), -float("inf"), 1e30)
"""What rows that lack a modality may hold."""


@check
def check_number_of_inputs(subject: Subject) -> None:
    """It takes every number of modalities that it claims (of any number: 1 to 5), of any size and name."""
    for count in counts(subject.cls, *range(1, MOST + 1)):
        for form in forms(subject):
            case = fusion_case(subject, count, form, AWKWARD)
            if isinstance(case, ScoreCase):  # a part that is itself a combination of predictions has no features
                case = replace(case, inputs={**case.inputs, list(case.inputs)[-1]: 0})
            try:
                module = plain(case)
                case.check_shape(module, 4)
                expect_finite(case.batch(4).run(module.eval()), "in evaluation")
            except Exception as error:
                raise AssertionError(
                    f"{case.label}, named {', '.join(case.inputs)}, it raised {one_line(error)}"
                ) from error


@each_case
def check_absence(case: FusionCase) -> None:
    """For every pattern of absence, what rows hold that lack a modality has no influence on results and gradients."""
    patterns = torch.tensor(list(product([True, False], repeat=len(case.inputs))))
    batch = case.batch(2 * len(patterns)).with_present(patterns.repeat(2, 1))
    module = plain(case)
    first: tuple[Outcome, Outcome] | None = None
    for garbage in NOTHING:
        ours = copy.deepcopy(module)
        given = batch.with_garbage(garbage)
        torch.manual_seed(0)
        outcome = given.run(ours)
        expect_finite(outcome, f"where absent rows hold {garbage}")
        gradients = backward(ours, outcome)
        expect_finite_gradients(gradients, f"where absent rows hold {garbage}")
        for index, values in given.tensors():
            absent = ~batch.present[:, index]
            expect(
                values.grad is None or not values.grad[absent].any(),
                f"rows that lack {list(case.inputs)[index]!r} should have no gradient with respect to it",
            )
        known = Outcome({name: value for name, value in gradients.items() if value is not None})
        everything = Outcome({**outcome.rows, **{f"loss {name}": value for name, value in outcome.losses.items()}})
        first = first or (everything, known)
        what = f"where absent rows hold {garbage} instead of 0"
        expect_same(everything, first[0], what)
        expect_same(known, first[1], f"{what}, gradients")
    _expect_gradients_without_a_modality(case, module)


def _expect_gradients_without_a_modality(case: FusionCase, module: nn.Module) -> None:
    """Where a whole batch lacks a modality, its parameters still take part, or distributed training would hang."""
    for index, name in enumerate(case.inputs):
        batch = case.batch(4)
        present = batch.present.clone()
        present[:, index] = False
        gradients = backward(module, batch.with_present(present).run(module))
        silent = [parameter for parameter, gradient in gradients.items() if gradient is None]
        expect(
            not silent,
            f"where no row has {name!r}, {', '.join(silent)} should get a gradient of zeros, found none",
        )


@each_case
def check_extreme_values(case: FusionCase) -> None:
    """Zeros, equal rows and large values give finite results and gradients."""
    module = plain(case)
    batch = case.batch(8)
    kinds: dict[str, FusionBatch] = {
        "zeros": batch.map_each(lambda values, _: torch.zeros_like(values)),
        "equal rows": batch.map_each(lambda values, _: values[:1].expand_as(values).clone()),
        f"values of {EXTREME:g}": _scaled(case, batch),
    }
    for what, given in kinds.items():
        outcome = given.run(copy.deepcopy(module))
        expect_finite(outcome, f"for {what}")
        ours = copy.deepcopy(module)
        tracked = given.with_garbage(0.0)
        expect_finite_gradients(backward(ours, tracked.run(ours)), f"for {what}")
        for index, values in tracked.tensors():
            finite = values.grad is None or values.grad.isfinite().all()
            expect(finite, f"the gradient of {list(case.inputs)[index]!r} should be finite for {what}")


def _scaled(case: FusionCase, batch: FusionBatch) -> FusionBatch:
    """The batch with large values; predictions as a part makes them of large logits."""
    if isinstance(case, ScoreCase):
        generator = torch.Generator().manual_seed(2)
        shape = len(batch), case.num_outputs
        return batch.map_each(
            lambda values, _: (
                case.part_scores(EXTREME * torch.randn(shape, generator=generator).sign())
                if values.shape[1:] == shape[1:]
                else EXTREME * values
            )
        )
    return batch.map_each(lambda values, _: EXTREME * values)


@each_case
def check_distributions(case: FusionCase) -> None:
    """Whatever parts a row has, its combined probabilities sum to one, in reduced precision too."""
    assert isinstance(case, ScoreCase)
    if case.space != "log_probabilities":
        raise Skipped("it combines no distributions over classes")
    patterns = torch.tensor(list(product([True, False], repeat=len(case.inputs)))[:-1])  # without the empty one
    batch = case.batch(len(patterns)).with_present(patterns)
    for module, when in ((plain(case), "in training"), (used(case), "in evaluation")):
        for dtype in (None, torch.bfloat16):
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                scores = batch.run(module).rows["scores"]
            worst = float(scores.detach().double().logsumexp(1).abs().max())
            precision = "" if dtype is None else f" under autocast to {dtype}"
            expect(
                worst < 1e-3,
                f"a row's probabilities should sum to one {when}{precision}, found a sum {worst:.2g} away in log",
            )


@each_case
def check_fit(case: FusionCase) -> None:
    """Fitted twice on the same rows it is the same, whatever rows hold that lack a part, and without gradients."""
    assert isinstance(case, ScoreCase)
    if not case.cls.fitted:
        raise Skipped("it has nothing to fit")
    batch = case.batch(30, seed=5)
    present = torch.rand(30, len(case.inputs), generator=torch.Generator().manual_seed(6)) < 0.7
    targets = case.targets(torch.arange(30) % case.num_outputs)
    fitted = []
    for garbage, grad in ((0.0, True), (float("nan"), False)):
        module = cast(ModelFusion, plain(case).eval())
        given = batch.with_present(present).with_garbage(garbage)
        scores = {name: values.detach() for name, values in given.scores.items()}
        with torch.set_grad_enabled(grad):
            module.fit(scores, present, targets)
        fitted.append(case.batch(6).run(module))
    expect_finite(fitted[0], "after the fit")
    expect_same(fitted[1], fitted[0], "of two fits on the same rows, absent ones with other contents")
