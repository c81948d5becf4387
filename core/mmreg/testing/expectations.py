"""What a check expects, in words that say what was found instead.

Axes: B batch, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmreg.messages import one_line

Tensors = Mapping[str, Tensor]
"""Results by name."""

LOSS = "the loss "
"""What the names of losses among results begin with."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""How far results that should be the same may be apart, relative to the greatest of them (at least 1)."""


class Skipped(Exception):  # not an error: the reason why a check has nothing to say
    """A check cannot be run on this component, or here; its text is the reason."""


def expect(condition: object, message: str) -> None:
    """Raise an `AssertionError` with this message unless the condition holds; unlike `assert` also under `-O`."""
    if not condition:
        raise AssertionError(message)


@contextmanager
def named(what: str, hint: str = "") -> Iterator[None]:
    """Make whatever is raised within (but `Skipped`) an `AssertionError` that names what it is about.

    Args:
        what: comes first in its text.
        hint: what may explain an error that is no `AssertionError`, to read on after it.
    """
    try:
        yield
    except Skipped:
        raise
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what}: it raised {one_line(error)}{hint}") from error


def expect_refused(call: Callable[[], Any], error: type[Exception], what: str) -> None:
    """Raise an `AssertionError` unless a call raises an error of a type, whose text says why."""
    try:
        call()
    except error as refusal:
        expect(str(refusal).strip(), f"the {type(refusal).__name__} about {what} should say why")
    except Exception as other:
        text = f"{what} should be refused with a {error.__name__}, found {type(other).__name__}: {other}"
        raise AssertionError(text) from other
    else:
        raise AssertionError(f"{what} should be refused with a {error.__name__}, but was taken")


def json_text(data: Any, what: str = "the state", *, strict: bool = True) -> str:
    """Plain data as text; an `AssertionError` if it is none. If not strict, it may hold NaN and tuples."""
    try:
        text = json.dumps(data, allow_nan=not strict, sort_keys=strict)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} should be plain JSON data, but {error}") from error
    same = not strict or json.loads(text) == data
    expect(same, f"{what} should be the same after a round trip through JSON: use lists, not tuples, and text keys")
    return text


def expect_finite(tensors: Mapping[str, Tensor | None], when: str) -> None:
    """Raise an `AssertionError` unless all numbers of all tensors that there are are finite."""
    for name, values in tensors.items():
        if values is not None:
            expect(values.isfinite().all(), f"{name} should be finite {when}, found {_strange(values)}")


def fits(shape: Sequence[int], promised: Sequence[int | None]) -> bool:
    """Whether a shape is a promised one, in which None stands for any size."""
    return len(shape) == len(promised) and all(a in (None, b) for a, b in zip(promised, shape, strict=True))


def expect_shapes(found: Tensors, promised: Mapping[str, Sequence[int | None]]) -> None:
    """Raise an `AssertionError` unless there is all that was promised, of these shapes, and losses are scalars."""
    losses = {name: () for name in found if name.startswith(LOSS)}
    for name, shape in {**promised, **losses}.items():
        expect(name in found, f"it should give {name}, found {', '.join(found) or 'nothing'}")
        values = found[name]
        expect(fits(values.shape, shape), f"{name} should be {tuple(shape)}, found {tuple(values.shape)}")
        expect(values.is_floating_point() or name == "mask", f"{name} should be floating point, found {values.dtype}")


def expect_same(found: Tensors, expected: Tensors, what: str, tolerance: float = 0.0) -> None:
    """Raise an `AssertionError` unless tensors of the same names agree; tolerance 0 for bit by bit.

    Of "tokens" and their "mask" one may be padded to a greater length than the other, with zeros.
    """
    names = sorted(found), sorted(expected)
    expect(names[0] == names[1], f"{what}: expected {', '.join(names[1])}, found {', '.join(names[0])}")
    for name in expected:
        values, wanted = found[name].detach(), expected[name].detach()
        if name in ("tokens", "mask"):
            length = max(values.shape[1], wanted.shape[1])
            values, wanted = (
                pad(each, (0, 0) * (each.dim() - 2) + (0, length - each.shape[1])) for each in (values, wanted)
            )
        shapes = tuple(values.shape), tuple(wanted.shape)
        expect(shapes[0] == shapes[1], f"{what}: expected {name} of shape {shapes[1]}, found {shapes[0]}")
        if tolerance:
            values, wanted = values.double(), wanted.double()
            scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
            same, how = torch.allclose(values, wanted, rtol=0, atol=tolerance * scale), f"the same to {tolerance:g}"
        else:
            same, how = torch.equal(values, wanted), "bit for bit the same"
        if not same:
            apart = f"a difference of {float((values.double() - wanted.double()).abs().max()):.2g}"
            apart = apart if values.isfinite().all() else _strange(values)
            raise AssertionError(f"{what}: {name} should be {how}, found {apart}")


def _strange(values: Tensor) -> str:
    return f"{int(values.isnan().sum())} NaN and {int(values.isinf().sum())} infinite of {values.numel()} numbers"
