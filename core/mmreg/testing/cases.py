"""Components that are modules, with batches for them: one `Case` for each way in which a component is used.

Axes: B batch, T time or tokens, D features.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmreg.messages import one_line
from mmreg.testing.subject import Check, Skipped, Subject, check, expect

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""How far results that should be the same may be apart, relative to the greatest of them (at least 1)."""

GARBAGE = 1e3
"""What stands where nothing is, if it has to be an ordinary number."""


@dataclass(frozen=True)
class Outcome:
    """What a module gave for a batch.

    Attributes:
        rows: named tensors (B, ...), of tokens those that are not valid set to zero.
        losses: named scalars.
    """

    rows: Mapping[str, Tensor]
    losses: Mapping[str, Tensor] = field(default_factory=dict)


class Batch(ABC):
    """A batch of B rows of a component's input."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def run(self, module: nn.Module) -> Outcome:
        """What a module makes of the batch."""

    @abstractmethod
    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The batch with every tensor of numbers (not of lengths or truth values) replaced."""

    @abstractmethod
    def take(self, rows: Sequence[int]) -> Self:
        """Some rows of the batch, padded no more than they need."""

    @abstractmethod
    def on(self, device: torch.device | str) -> Self:
        """The batch on another device."""

    def padded(self) -> Self | None:
        """The batch with more padding, which holds garbage; None if nothing in it is ragged."""
        return None

    def to(self, dtype: torch.dtype) -> Self:
        """The batch in another floating-point precision."""
        return self.map(lambda values: values.to(dtype) if values.is_floating_point() else values)


class Case(ABC):
    """One way in which a component is used."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What messages call it."""

    @property
    def chance(self) -> float:
        """The loss in `learning` of a module that ignores its input."""
        return math.log(2)

    @property
    def has_nothing_to_weigh(self) -> bool:
        """Whether weights that are shared out among inputs may have no effect, as there is only one."""
        return False

    @property
    def hint(self) -> str:
        """What may explain that the component raised an error, to read on after the error; mostly nothing."""
        return ""

    def for_learning(self) -> Case:
        """The case to learn two classes in."""
        return self

    @abstractmethod
    def build(self) -> nn.Module:
        """A new component, whose weights come from torch's global random state."""

    @abstractmethod
    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> Batch:
        """A batch of random rows.

        Args:
            rows: B.
            seed: of the random numbers.
            labels: (B,) 0 or 1: classes that the rows are easily told apart by; None for none.
        """

    def varied(self, rows: int) -> Batch:
        """A batch that shows all that the component may meet, so that everything in it has something to learn."""
        return self.batch(rows)

    @abstractmethod
    def check_shape(self, module: nn.Module, rows: int) -> None:
        """Raise an `AssertionError` unless a module gives what it promises for that many rows."""

    @abstractmethod
    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[Batch, Tensor], Tensor]]:
        """What is trained besides the module, and the loss of a batch and its labels (B,)."""

    def fit(self, module: nn.Module) -> None:
        """Fit what is fitted apart from the training; mostly nothing."""


Cases = Callable[[Subject], Sequence[Case]]
_CASES: dict[tuple[str, str], Cases] = {}


def provides_cases(kind: str, level: str = "") -> Callable[[Cases], Cases]:
    """Make a function the one that gives the cases of a kind's (and level's) subjects."""

    def add(function: Cases) -> Cases:
        _CASES[kind, level] = function
        return function

    return add


def cases_of(subject: Subject) -> Sequence[Case] | None:
    """The ways in which a component is used; None if its kind is no module."""
    provide = _CASES.get((subject.kind, subject.level))
    return None if provide is None else provide(subject)


def each_case(function: Callable[[Any], None]) -> Check:
    """A check of a case as a check of a component: of every way in which it is used.

    It is skipped only if no case has anything to say.
    """

    def over_all(subject: Subject) -> None:
        cases = _CASES[subject.kind, subject.level](subject)
        reasons = []
        for case in cases:
            torch.manual_seed(0)
            try:
                function(case)
            except Skipped as reason:
                reasons.append(str(reason))
            except AssertionError as error:
                raise AssertionError(f"{case.label}: {error}") from error
            except Exception as error:
                raise AssertionError(f"{case.label}: it raised {one_line(error)}{case.hint}") from error
        if len(reasons) == len(cases):
            raise Skipped(reasons[0])

    functools.update_wrapper(over_all, function)
    del over_all.__wrapped__  # type: ignore[attr-defined]  # it takes a subject, not a case
    return check(over_all)


def built(case: Case, seed: int = 0) -> nn.Module:
    """A component with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return case.build()


def plain(case: Case, seed: int = 0) -> nn.Module:
    """A component in training mode, without dropout, whose weights are no longer at their (perhaps zero) start."""
    module = built(case, seed)
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0
    shake(module)
    return module.train()


def shake(module: nn.Module) -> None:
    """Add a little noise to every parameter, so that none is zero, and no two are the same by chance."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.add_(noise.to(parameter.dtype), alpha=0.05)


def used(case: Case, seed: int = 0) -> nn.Module:
    """A component in evaluation mode after a little training: its statistics and fits are no longer at their start."""
    module = plain(case, seed)
    optimizer = torch.optim.SGD(list(module.parameters()) or [torch.zeros(1, requires_grad=True)], lr=1e-3)
    for step in range(2):
        backward(module, case.batch(8, seed=10 + step).run(module))
        optimizer.step()
    case.fit(module)
    return module.eval()


def backward(module: nn.Module, outcome: Outcome) -> dict[str, Tensor | None]:
    """The gradient of a loss with random weights (a plain sum would be constant after a norm) by every parameter."""
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(3)
    terms = list(outcome.losses.values())
    for values in outcome.rows.values():
        if values.requires_grad:
            weights = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            terms.append((values * weights.to(values)).sum())
    terms = [term for term in terms if term.requires_grad]
    if terms:
        torch.stack([term.double() for term in terms]).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.requires_grad}


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's buffers."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def expect_finite(outcome: Outcome, when: str) -> None:
    """Raise an `AssertionError` unless all numbers of an outcome are finite."""
    for name, values in {**outcome.rows, **outcome.losses}.items():
        expect(values.isfinite().all(), f"{name} should be finite {when}, found {_strange(values)}")


def expect_finite_gradients(gradients: Mapping[str, Tensor | None], when: str) -> None:
    """Raise an `AssertionError` unless all gradients that there are are finite."""
    for name, gradient in gradients.items():
        if gradient is not None:
            expect(gradient.isfinite().all(), f"the gradient of {name} should be finite {when}")


def expect_same(found: Outcome, expected: Outcome, what: str, tolerance: float = 0.0) -> None:
    """Raise an `AssertionError` unless the rows of two outcomes agree; tolerance 0 for bit by bit."""
    names = sorted(found.rows), sorted(expected.rows)
    expect(names[0] == names[1], f"{what}: expected {', '.join(names[1])}, found {', '.join(names[0])}")
    for name, wanted in expected.rows.items():
        values, wanted = found.rows[name].detach(), wanted.detach()
        if name in ("tokens", "mask"):
            values, wanted = _aligned(values, wanted)
        expect(
            values.shape == wanted.shape,
            f"{what}: expected {name} of shape {tuple(wanted.shape)}, found {tuple(values.shape)}",
        )
        if not tolerance:
            expect(
                torch.equal(values, wanted), f"{what}: {name} should be bit for bit the same, {_apart(values, wanted)}"
            )
            continue
        values, wanted = values.double(), wanted.double()
        scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
        close = torch.allclose(values, wanted, rtol=0, atol=tolerance * scale)
        expect(close, f"{what}: {name} should be the same to {tolerance:g}, {_apart(values, wanted)}")


def _aligned(values: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of two batches that are padded to different lengths, with zeros added to the shorter ones."""
    length = max(values.shape[1], wanted.shape[1])
    return _lengthened(values, length), _lengthened(wanted, length)


def _lengthened(values: Tensor, length: int) -> Tensor:
    more = values.new_zeros(values.shape[0], length - values.shape[1], *values.shape[2:])
    return torch.cat([values, more], 1)


def _apart(values: Tensor, wanted: Tensor) -> str:
    if not values.isfinite().all():
        return f"found {_strange(values)}"
    return f"found a difference of {float((values.double() - wanted.double()).abs().max()):.2g}"


def _strange(values: Tensor) -> str:
    return f"{int(values.isnan().sum())} NaN and {int(values.isinf().sum())} infinite of {values.numel()} numbers"
