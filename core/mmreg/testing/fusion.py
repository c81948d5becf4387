"""Checks of fusion operators: any number of modalities, absence, extreme values, probabilities, fits.

Axes: B batch, K classes, M modalities.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from mmreg.testing.cases import backward, case_check, plain, untouched, used
from mmreg.testing.expectations import Skipped, Tensors, expect, expect_finite, expect_same, named
from mmreg.testing.fusion_cases import MOST, FusionCase, ScoreCase, counts, forms, fusion_case
from mmreg.testing.registration import FUSIONS, check
from mmreg.testing.subject import Subject

AWKWARD = ("image", "values", "type", "d.e", "the 5th")
"""Names that a recipe may give to modalities, and that `torch.nn.ModuleDict` refuses."""

EXTREME = 1e4
"""A large input; float16 reaches 6.5e4."""

NOTHING = (0.0, float("nan"), float("inf"), -float("inf"), 1e30)
"""What rows that lack a modality may hold."""


@check(*FUSIONS)
def check_number_of_inputs(subject: Subject) -> None:
    """It takes every number of modalities that it claims (of any number: 1 to 5), of any size and name."""
    for count in counts(subject.cls, *range(1, MOST + 1)):
        for form in forms(subject):
            case = fusion_case(subject, count, form, AWKWARD)
            if isinstance(case, ScoreCase):  # a part that is itself a combination of predictions has no features
                case = replace(case, inputs={**case.inputs, list(case.inputs)[-1]: 0})
            with named(f"{case.label}, named {', '.join(case.inputs)}"):
                module = plain(case)
                case.check_shape(module, 4)
                expect_finite(case.batch(4).run(module.eval()), "in evaluation")


@case_check(*FUSIONS)
def check_absence(case: FusionCase) -> None:
    """For every pattern of absence, what rows hold that lack a modality has no influence on results and gradients."""
    patterns = torch.tensor(list(product([True, False], repeat=len(case.inputs))))
    batch = replace(case.batch(2 * len(patterns)), present=patterns.repeat(2, 1))
    module, names = plain(case), list(case.inputs)
    first: Tensors = {}
    for garbage in NOTHING:
        ours = copy.deepcopy(module)
        given = batch.with_garbage(garbage)
        torch.manual_seed(0)
        found = given.run(ours)
        found = {**found, **backward(ours, found)}
        expect_finite(found, f"where absent rows hold {garbage}")
        for index, values in given.numbers():
            absent = ~batch.present[:, index]
            free = values.grad is None or not values.grad[absent].any()
            expect(free, f"rows that lack {names[index]!r} should have no gradient with respect to it")
        first = first or found
        expect_same(found, first, f"where absent rows hold {garbage} instead of 0")
    for index, name in enumerate(
        names
    ):  # all its parameters take part all the same, or distributed training would hang
        batch = case.batch(4)
        batch.present[:, index] = False
        backward(module, batch.run(module))
        silent = ", ".join(untouched(module))
        expect(not silent, f"where no row has {name!r}, {silent} should get a gradient of zeros, found none")


@case_check(*FUSIONS)
def check_extreme_values(case: FusionCase) -> None:
    """Zeros, equal rows and large values give finite results and gradients."""
    module, batch, names = plain(case), case.batch(8), list(case.inputs)
    generator = torch.Generator().manual_seed(2)

    def large(values: Tensor, _: int) -> Tensor:
        if isinstance(case, ScoreCase) and values.shape[1] == case.num_outputs:  # predictions, of large logits
            return case.part_scores(EXTREME * torch.randn(values.shape, generator=generator).sign())
        return EXTREME * values

    for what, given in {
        "zeros": batch.map_numbers(lambda values, _: torch.zeros_like(values)),
        "equal rows": batch.map_numbers(lambda values, _: values[:1].expand_as(values).clone()),
        f"values of {EXTREME:g}": batch.map_numbers(large),
    }.items():
        ours, tracked = copy.deepcopy(module), given.with_garbage(0.0)
        found = tracked.run(ours)
        expect_finite({**found, **backward(ours, found)}, f"for {what}")
        for index, values in tracked.numbers():
            expect_finite({f"the gradient of {names[index]!r}": values.grad}, f"for {what}")


@case_check("model fusion")
def check_distributions(case: ScoreCase) -> None:
    """Whatever parts a row has, its combined probabilities sum to one, in reduced precision too."""
    if case.form != "log_probabilities":
        raise Skipped("it combines no distributions over classes")
    patterns = torch.tensor(list(product([True, False], repeat=len(case.inputs)))[:-1])  # without the empty one
    batch = replace(case.batch(len(patterns)), present=patterns)
    for module, when in ((plain(case), "in training"), (used(case), "in evaluation")):
        for dtype in (None, torch.bfloat16):
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                scores = batch.run(module)["scores"]
            worst = float(scores.detach().double().logsumexp(1).abs().max())
            where = when if dtype is None else f"{when} under autocast to {dtype}"
            expect(worst < 1e-3, f"probabilities should sum to one {where}, found a sum {worst:.2g} away in log")


@case_check("model fusion")
def check_fit(case: ScoreCase) -> None:
    """Fitted twice on the same rows it is the same, whatever rows hold that lack a part, and without gradients."""
    if not case.cls.fitted:
        raise Skipped("it has nothing to fit")
    batch = case.batch(30, seed=5)
    present = torch.rand(30, len(case.inputs), generator=torch.Generator().manual_seed(6)) < 0.7
    results = []
    for garbage, grad in ((0.0, True), (float("nan"), False)):
        module = plain(case).eval()
        given = replace(batch, present=present).with_garbage(garbage)
        with torch.set_grad_enabled(grad):
            case.fit(module, given.mapped(Tensor.detach))
        results.append(case.batch(6).run(module))
    expect_finite(results[0], "after the fit")
    expect_same(results[1], results[0], "of two fits on the same rows, absent ones with other contents")
