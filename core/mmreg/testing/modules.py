"""Checks of encoders and fusion operators alike, which are torch modules.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmreg.testing.cases import Case, CaseBatch, backward, buffers, built, case_check, plain, untouched, used
from mmreg.testing.devices import expect_to_move
from mmreg.testing.expectations import TOLERANCE, Skipped, Tensors, expect, expect_finite, expect_same
from mmreg.testing.registration import MODULES

ROWS = 16
"""B of the batches that gradients are computed on."""

STEPS = 60
"""Steps of Adam that a component gets to learn two classes."""

FALL = 0.5
"""What it has to bring its loss down to, as a part of where it started and of what chance would give."""


@case_check(*MODULES)
def check_output_shape(case: Case) -> None:
    """What it gives has the promised shape, in training and in evaluation."""
    module = built(case)
    for rows in (4, 3):
        case.check_shape(module.train(), rows)
        case.check_shape(module.eval(), rows)


@case_check(*MODULES)
def check_same_seed_same_weights(case: Case) -> None:
    """Built twice under one seed it has the same weights, and gives the same."""
    first, second = built(case, seed=3), built(case, seed=3)
    what = "of two builds under one seed (draw weights from torch's global generator)"
    expect_same(second.state_dict(), first.state_dict(), what)
    expect_same(_seeded(second.eval(), case.batch()), _seeded(first.eval(), case.batch()), what)


@case_check(*MODULES)
def check_state_round_trip(case: Case) -> None:
    """A new component that loads the state dict of a used one gives bit for bit the same."""
    trained = used(case)
    state = trained.state_dict()
    others = ", ".join(f"{name} = {value!r}" for name, value in state.items() if not isinstance(value, Tensor))
    expect(not others, f"the state dict should hold tensors only, found {others}")
    fresh = built(case, seed=99)
    fresh.load_state_dict({name: value.clone() for name, value in state.items()})
    expected = _seeded(trained, case.batch())
    expect_same(_seeded(fresh.eval(), case.batch()), expected, "after its state dict was loaded into a new one")


def _seeded(module: nn.Module, batch: CaseBatch, seed: int = 1) -> Tensors:
    torch.manual_seed(seed)
    return batch.run(module)


@case_check(*MODULES)
def check_weights_are_parameters(case: Case) -> None:
    """Every weight is a registered parameter: none in a Python list, none a buffer that training cannot reach."""
    module = built(case)
    registered = {id(value) for value in (*module.parameters(), *module.buffers(), *module.modules())}
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            members = list(value) if isinstance(value, set) else value  # no pytree
            for leaf in () if attribute.startswith("_") else tree_leaves(members):
                learnable = isinstance(leaf, nn.Module) or (isinstance(leaf, Tensor) and leaf.requires_grad)
                where = ".".join(filter(None, (name, attribute)))
                advice = "use nn.ParameterList or nn.ModuleList, or they are neither trained nor saved"
                known = not learnable or id(leaf) in registered
                expect(known, f"{where} holds weights in a plain Python container; {advice}")
    if getattr(module, "fitted", False):
        return  # what `fit` sets is in buffers
    other = dict(built(case, seed=1).named_buffers())
    for name, buffer in module.named_buffers():
        drawn = buffer.is_floating_point() and not torch.equal(buffer, other[name])
        whole = bool((buffer == buffer.round()).all())
        expect(whole or not drawn, f"the buffer {name} is drawn at random, but never trained; make it a parameter")


@case_check(*MODULES)
def check_float64(case: Case) -> None:
    """In float64 it computes in float64, and gives what it gives in float32 but for rounding."""
    module = used(case)
    expected = case.batch().run(module)
    found = case.batch().to(torch.float64).run(module.double())
    for name, values in found.items():
        if values.is_floating_point():
            expect(values.dtype == torch.float64, f"{name} should be float64 for float64 input, found {values.dtype}")
    expect_same(found, expected, "in float64", tolerance=1e-3)


@case_check(*MODULES)
def check_reduced_precision(case: Case) -> None:
    """Under autocast to bfloat16 and float16 everything is finite, and in bfloat16 the gradients too."""
    module = plain(case)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            try:
                found = case.batch(ROWS).run(module)
            except RuntimeError:
                if dtype == torch.float16:  # torch lacks much of it on the CPU; bfloat16 has gone well
                    continue
                raise
        expect_finite(found, f"under autocast to {dtype}")
        if dtype == torch.bfloat16:
            expect_finite(backward(module, found), f"under autocast to {dtype}")


@case_check(*MODULES)
def check_devices(case: Case) -> None:
    """It moves to a GPU and back with all that it computes with; without a GPU, no tensor stays behind."""
    module, batch = used(case), case.batch()
    expect_to_move(lambda device: batch.on(device).run(module.to(device)))


@case_check(*MODULES)
def check_gradients(case: Case) -> None:
    """Every parameter gets a gradient that is finite and not zero (of a single modality's weights it may be zero)."""
    module = plain(case)
    gradients = backward(module, case.varied(ROWS).run(module))
    expect_finite(gradients, "in training")
    silent = untouched(module)
    expect(not silent, f"{', '.join(silent)} should take part in the result, found no gradient")
    for name, gradient in gradients.items():
        trained = bool(gradient.any()) or case.has_nothing_to_weigh
        expect(trained, f"{name} is zero everywhere: it is never trained")


@case_check(*MODULES)
def check_eval_is_deterministic(case: Case) -> None:
    """In evaluation it gives the same every time, whatever the random state, and changes no buffer."""
    module = used(case)
    before = buffers(module)
    first, second = (_seeded(module, case.batch(), seed) for seed in (1, 2))
    expect_same(second, first, "in evaluation, the second time")
    expect_same(buffers(module), before, "after evaluation")


@case_check(*MODULES)
def check_batch_of_one(case: Case) -> None:
    """A single row is enough, to train on as well."""
    module = plain(case)
    found = case.batch(1).run(module)
    expect_finite({**found, **backward(module, found), **buffers(module)}, "for a single row in training")
    expect_finite(case.batch(1).run(module.eval()), "for a single row in evaluation")


@case_check(*MODULES)
def check_rows_are_independent(case: Case) -> None:
    """In evaluation a row's result depends neither on the rows beside it nor on their order."""
    for dtype, module, batch, together in _in_each_precision(case, case.varied(5)):
        for rows in ([3, 0, 4, 2, 1], *([row] for row in range(5))):
            # Losses are means over the batch.
            found = {name: values for name, values in batch.take(rows).run(module).items() if values.dim()}
            expected = {name: values[rows] for name, values in together.items() if values.dim()}
            how = "a row alone" if len(rows) == 1 else "with its rows in another order"
            expect_same(found, expected, f"{how} ({dtype})", TOLERANCE[dtype])


@case_check("encoder", "feature fusion")
def check_padding(case: Case) -> None:
    """However much padding a row has, and whatever it holds, its result is the same, in training too."""
    if case.batch(5).padded() is None:
        raise Skipped("nothing that it takes is ragged")
    for dtype, module, batch, together in _in_each_precision(case, case.batch(5)):
        padded = cast(CaseBatch, batch.padded())
        expect_same(padded.run(module), together, f"with more padding ({dtype})", TOLERANCE[dtype])
        # Statistics and gradients do not see padding either; dropout of its own depends on the size of the batch.
        ours = plain(case).to(dtype)
        theirs, again = copy.deepcopy(ours), copy.deepcopy(ours)
        expected, found = _seeded(ours, batch), padded.run(theirs)
        other_draws = _seeded(again, batch, seed=2)
        if any(not torch.equal(expected[name], other_draws[name]) for name in expected):
            continue
        what = f"with more padding, in training ({dtype})"
        expect_same({**found, **buffers(theirs)}, {**expected, **buffers(ours)}, what, TOLERANCE[dtype])
        gradients = backward(theirs, found)
        expect_finite(gradients, "whatever padding holds")
        if "tokens" not in found:  # the loss weighs padded tokens too, with zeros for values
            expect_same(gradients, backward(ours, expected), what, 10 * TOLERANCE[dtype])


def _in_each_precision(case: Case, batch: CaseBatch) -> Iterator[tuple[torch.dtype, nn.Module, CaseBatch, Tensors]]:
    """In float32 and float64, a module, the batch, and what it gives for it.

    What does not compute in float64 is the business of another check, and left out.
    """
    module = used(case)
    for dtype in TOLERANCE:
        module, given = module.to(dtype), batch.to(dtype)
        try:
            found = given.run(module)
        except Exception:
            if dtype == torch.float32:
                raise
            continue
        if dtype == torch.float32 or all(
            values.dtype == dtype for values in found.values() if values.is_floating_point()
        ):
            yield dtype, module, given, found


@case_check(*MODULES)
def check_learns(case: Case) -> None:
    """On a few rows of two classes that are easy to tell apart, training brings the loss down clearly."""
    case = case.for_learning()
    labels = torch.arange(ROWS) % 2
    batch = case.batch(ROWS, labels=labels)
    falls = []
    for rate in (1e-2, 1e-1, 1e-3):
        module = built(case).train()
        head, loss_of, chance = case.learning(module)
        optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=rate)
        losses: list[float] = []
        for _ in range(STEPS):
            loss = loss_of(batch, labels)
            losses.append(float(loss.detach()))
            if losses[-1] <= FALL * min(losses[0], chance):
                return
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        falls.append(f"from {losses[0]:.3g} to {losses[-1]:.3g} at a rate of {rate:g}")
    raise AssertionError(
        f"{STEPS} steps of Adam should bring the loss on {ROWS} rows of two classes to half of what chance gives "
        f"({chance:.3g}), it went {', '.join(falls)}"
    )
