"""Checks of encoders and fusion operators alike, which are torch modules.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mmreg.testing.cases import (
    TOLERANCE,
    Batch,
    Case,
    Outcome,
    backward,
    buffers,
    built,
    each_case,
    expect_finite,
    expect_finite_gradients,
    expect_same,
    plain,
    used,
)
from mmreg.testing.subject import Skipped, expect

ROWS = 16
"""B of the batches that gradients are computed on."""

STEPS = 60
"""Steps of Adam that a component gets to learn two classes."""

FALL = 0.5
"""What it has to bring its loss down to, as a part of where it started and of what chance would give."""


@each_case
def check_output_shape(case: Case) -> None:
    """What it gives has the promised shape, in training and in evaluation."""
    module = built(case)
    for rows in (4, 3):
        case.check_shape(module.train(), rows)
        case.check_shape(module.eval(), rows)


@each_case
def check_same_seed_same_weights(case: Case) -> None:
    """Built twice under one seed it has the same weights, and gives the same."""
    first, second = built(case, seed=3), built(case, seed=3)
    ours, theirs = first.state_dict(), second.state_dict()
    expect(list(ours) == list(theirs), f"expected {', '.join(ours)} again, found {', '.join(theirs)}")
    for name, value in ours.items():
        expect(
            torch.equal(value, theirs[name]),
            f"{name} differs between two builds under one seed; draw it from torch's global generator",
        )
    batch = case.batch()
    torch.manual_seed(1)
    expected = batch.run(first.eval())
    torch.manual_seed(1)
    expect_same(batch.run(second.eval()), expected, "of two builds under one seed")


@each_case
def check_state_round_trip(case: Case) -> None:
    """A new component that loads the state dict of a used one gives bit for bit the same."""
    trained = used(case)
    state = trained.state_dict()
    for name, value in state.items():
        expect(isinstance(value, Tensor), f"the state dict should hold tensors only, found {name} = {value!r}")
    fresh = built(case, seed=99)
    fresh.load_state_dict({name: value.clone() for name, value in state.items()})
    batch = case.batch()
    torch.manual_seed(1)
    expected = batch.run(trained)
    torch.manual_seed(1)
    expect_same(batch.run(fresh.eval()), expected, "after its state dict was loaded into a new one")


@each_case
def check_weights_are_parameters(case: Case) -> None:
    """Every weight is a registered parameter: none in a Python list, none a buffer that training cannot reach."""
    module = built(case)
    registered = {id(value) for value in (*module.parameters(), *module.buffers(), *module.modules())}
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            for found in () if attribute.startswith("_") else _inside(value):
                learnable = isinstance(found, nn.Module) or found.requires_grad
                expect(
                    not learnable or id(found) in registered,
                    f"{'.'.join(filter(None, (name, attribute)))} holds weights in a plain Python container, which "
                    "are neither trained nor saved; use nn.ParameterList or nn.ModuleList",
                )
    if getattr(module, "fitted", False):
        return  # what `fit` sets is in buffers
    other = dict(built(case, seed=1).named_buffers())
    for name, buffer in module.named_buffers():
        drawn = buffer.is_floating_point() and not torch.equal(buffer, other[name])
        expect(
            not drawn or bool((buffer == buffer.round()).all()),
            f"the buffer {name} is initialised at random, but training will never change it; make it a parameter",
        )


def _inside(value: Any) -> Iterator[Any]:
    """The tensors and modules within nested lists, tuples and dicts."""
    if isinstance(value, Tensor | nn.Module):
        yield value
    elif isinstance(value, dict | list | tuple | set):
        members: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for member in members:
            yield from _inside(member)


@each_case
def check_float64(case: Case) -> None:
    """In float64 it computes in float64, and gives what it gives in float32 but for rounding."""
    module = used(case)
    batch = case.batch()
    expected = batch.run(module)
    found = batch.to(torch.float64).run(module.double())
    for name, values in {**found.rows, **found.losses}.items():
        if values.is_floating_point():
            expect(values.dtype == torch.float64, f"{name} should be float64 for float64 input, found {values.dtype}")
    expect_same(found, expected, "in float64", tolerance=1e-3)


@each_case
def check_reduced_precision(case: Case) -> None:
    """Under autocast to bfloat16 and float16 everything is finite, and in bfloat16 the gradients too."""
    module = plain(case)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            try:
                outcome = case.batch(ROWS).run(module)
            except RuntimeError:
                if dtype == torch.float16:  # torch lacks much of it on the CPU; bfloat16 has gone well
                    continue
                raise
        expect_finite(outcome, f"under autocast to {dtype}")
        if dtype == torch.bfloat16:
            expect_finite_gradients(backward(module, outcome), f"under autocast to {dtype}")


@each_case
def check_gradients(case: Case) -> None:
    """Every parameter gets a gradient that is finite and not zero (of a single modality's weights it may be zero)."""
    module = plain(case)
    for name, gradient in backward(module, case.varied(ROWS).run(module)).items():
        expect(gradient is not None, f"{name} takes no part in the result: it gets no gradient")
        assert gradient is not None
        expect(gradient.isfinite().all(), f"the gradient of {name} should be finite")
        trained = bool(gradient.any()) or case.has_nothing_to_weigh
        expect(trained, f"the gradient of {name} is zero everywhere: it is never trained")


@each_case
def check_eval_is_deterministic(case: Case) -> None:
    """In evaluation it gives the same every time, whatever the random state, and changes no buffer."""
    module = used(case)
    batch, before = case.batch(), buffers(module)
    torch.manual_seed(1)
    first = batch.run(module)
    torch.manual_seed(2)
    expect_same(batch.run(module), first, "in evaluation, the second time")
    for name, buffer in module.named_buffers():
        expect(torch.equal(buffer, before[name]), f"evaluation changed the buffer {name}")


@each_case
def check_batch_of_one(case: Case) -> None:
    """A single row is enough, to train on as well."""
    module = plain(case)
    outcome = case.batch(1).run(module)
    expect_finite(outcome, "for a single row in training")
    expect_finite_gradients(backward(module, outcome), "for a single row")
    for name, buffer in module.named_buffers():
        expect(buffer.isfinite().all(), f"the buffer {name} should be finite after training on a single row")
    expect_finite(case.batch(1).run(module.eval()), "for a single row in evaluation")


@each_case
def check_rows_are_independent(case: Case) -> None:
    """In evaluation a row's result depends neither on the rows beside it nor on their order."""
    for dtype, tolerance in TOLERANCE.items():
        module = used(case).to(dtype)
        batch = case.varied(5).to(dtype)
        together = _run_in(dtype, module, batch)
        if together is None:
            continue
        order = [3, 0, 4, 2, 1]
        turned = batch.take(order).run(module)
        expect_same(turned, _taken(together, order), f"with its rows in another order ({dtype})", tolerance)
        for row in range(len(batch)):
            expect_same(batch.take([row]).run(module), _taken(together, [row]), f"a row alone ({dtype})", tolerance)


@each_case
def check_padding(case: Case) -> None:
    """However much padding a row has, and whatever it holds, its result is the same, in training too."""
    for dtype, tolerance in TOLERANCE.items():
        module = used(case).to(dtype)
        batch = case.batch(5).to(dtype)
        padded = batch.padded()
        if padded is None:
            raise Skipped("nothing that it takes is ragged")
        together = _run_in(dtype, module, batch)
        if together is None:
            continue
        expect_same(padded.run(module), together, f"with more padding ({dtype})", tolerance)
        _check_padding_in_training(case, batch, padded, tolerance)


def _run_in(dtype: torch.dtype, module: nn.Module, batch: Batch) -> Outcome | None:
    """What a module gives; None in float64 if it does not compute in it, which is the business of another check."""
    try:
        outcome = batch.run(module)
    except Exception:
        if dtype == torch.float64:
            return None
        raise
    computed = all(values.dtype == dtype for values in outcome.rows.values() if values.is_floating_point())
    return outcome if computed or dtype != torch.float64 else None


def _check_padding_in_training(case: Case, batch: Batch, padded: Batch, tolerance: float) -> None:
    """Statistics and gradients do not see padding either."""
    dtype = torch.float64 if tolerance < 1e-6 else torch.float32
    first = plain(case).to(dtype)
    second = copy.deepcopy(first)
    if _is_random(copy.deepcopy(first), batch):
        return  # by dropout of its own, whose draws depend on the size of the batch
    expected, found = batch.run(first), padded.run(second)
    expect_same(found, expected, f"with more padding, in training ({dtype})", tolerance)
    for name, buffer in second.named_buffers():
        expected_buffer = first.get_buffer(name)
        close = torch.allclose(buffer.double(), expected_buffer.double(), rtol=tolerance, atol=tolerance)
        expect(close, f"padding changed the buffer {name} in training")
    gradients = backward(second, found)
    expect_finite_gradients(gradients, "whatever padding holds")
    if "tokens" in found.rows:
        return  # the loss weighs padded tokens too, with zeros for values
    wanted = backward(first, expected)
    kept = {name: value for name, value in wanted.items() if value is not None}
    theirs = {name: value for name, value in gradients.items() if value is not None}
    what = f"with more padding, gradients in training ({dtype})"
    expect_same(Outcome(theirs), Outcome(kept), what, 10 * tolerance)


def _is_random(module: nn.Module, batch: Batch) -> bool:
    torch.manual_seed(1)
    first = batch.run(copy.deepcopy(module))
    torch.manual_seed(2)
    second = batch.run(copy.deepcopy(module))
    return any(not torch.equal(first.rows[name], second.rows[name]) for name in first.rows)


def _taken(outcome: Outcome, rows: list[int]) -> Outcome:
    return Outcome({name: values[rows] for name, values in outcome.rows.items()})


@each_case
def check_learns(case: Case) -> None:
    """On a few rows of two classes that are easy to tell apart, training brings the loss down clearly."""
    case = case.for_learning()
    labels = torch.arange(ROWS) % 2
    batch = case.batch(ROWS, labels=labels)
    falls = []
    for rate in (1e-2, 1e-1, 1e-3):
        module = built(case).train()
        head, loss_of = case.learning(module)
        optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=rate)
        first = last = 0.0
        for step in range(STEPS):
            loss = loss_of(batch, labels)
            last = float(loss.detach())
            first = first if step else last
            if last <= FALL * min(first, case.chance):
                return
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        falls.append(f"from {first:.3g} to {last:.3g} at a rate of {rate:g}")
    raise AssertionError(
        f"{STEPS} steps of Adam should bring the loss on {ROWS} rows of two classes to half of what chance gives "
        f"({case.chance:.3g}), it went {', '.join(falls)}"
    )
