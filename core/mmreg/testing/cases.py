"""Components that are modules, with batches for them: one `Case` for each way in which a component is used.

Axes: B batch, T time or tokens, D features.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map_only

from mmreg.contract.signals import Features
from mmreg.layers import masked_mean
from mmreg.testing.expectations import LOSS, Skipped, Tensors, expect, named
from mmreg.testing.registration import ComponentCheck, check, kind_key
from mmreg.testing.subject import Subject

GARBAGE = 1e3
"""What stands where nothing is, if it has to be an ordinary number."""


class CaseBatch(ABC):
    """A batch of B rows of a component's input; a pytree, all of whose tensors are (B, ...)."""

    @abstractmethod
    def run(self, module: nn.Module) -> Tensors:
        """What a module makes of the batch: tensors (B, ...), of tokens that are not valid zeros, and scalar losses."""

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The batch with every tensor replaced."""
        batch: Self = tree_map_only(Tensor, function, self)
        return batch

    def take(self, rows: Sequence[int]) -> Self:
        """Some rows of the batch, padded no more than they need."""
        return self.mapped(lambda values: values[list(rows)])

    def on(self, device: torch.device | str) -> Self:
        """The batch on another device."""
        return self.mapped(lambda values: values.to(device))

    def to(self, dtype: torch.dtype) -> Self:
        """The batch in another floating-point precision."""
        return self.mapped(lambda values: values.to(dtype) if values.is_floating_point() else values)

    def padded(self) -> Self | None:
        """The batch with more padding, which holds garbage; None if nothing in it is ragged."""
        return None


class Case(ABC):
    """One way in which a component is used."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What messages call it."""

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
    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> CaseBatch:
        """A batch of random rows.

        Args:
            rows: B.
            seed: of the random numbers.
            labels: (B,) 0 or 1: classes that the rows are easily told apart by; None for none.
        """

    def varied(self, rows: int) -> CaseBatch:
        """A batch that shows all that the component may meet, so that everything in it has something to learn."""
        return self.batch(rows)

    @abstractmethod
    def check_shape(self, module: nn.Module, rows: int) -> None:
        """Raise an `AssertionError` unless a module gives what it promises for that many rows."""

    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[CaseBatch, Tensor], Tensor], float]:
        """What is trained besides the module, the loss of a batch and its labels (B,), and what chance brings it to."""
        head = nn.Linear(cast(int, module.out_features), 2)

        def loss(batch: CaseBatch, labels: Tensor) -> Tensor:
            found = batch.run(module)
            pooled = found["pooled"] if "pooled" in found else masked_mean(found["tokens"], found["mask"])
            return functional.cross_entropy(head(pooled), labels)

        return head, loss, math.log(2)

    def fit(self, module: nn.Module) -> None:
        """Fit what is fitted apart from the training; mostly nothing."""


CASES: dict[str, Callable[[Subject], Sequence[Any]]] = {}
"""By kind (and level), what gives the cases of a subject."""


def cases_of(subject: Subject) -> Sequence[Any] | None:
    """The ways in which a component is used; None if its kind is no module."""
    provide = CASES.get(kind_key(subject.kind, subject.level))
    return None if provide is None else provide(subject)


def case_check(*kinds: str) -> Callable[[Callable[[Any], None]], ComponentCheck]:
    """Enter a function of a case among the checks: it is run for every way in which a component is used.

    It is skipped only if no case has anything to say.
    """

    def enter(function: Callable[[Any], None]) -> ComponentCheck:
        @functools.wraps(function)
        def over_all(subject: Subject) -> None:
            cases = cases_of(subject) or ()
            reasons = []
            for case in cases:
                torch.manual_seed(0)
                try:
                    with named(case.label, case.hint):
                        function(case)
                except Skipped as reason:
                    reasons.append(str(reason))
            if len(reasons) == len(cases):
                raise Skipped(reasons[0])

        return check(*kinds)(over_all)

    return enter


def tensors_of(features: Features) -> Tensors:
    """Features as what checks compare."""
    expect(isinstance(features, Features), f"forward should give Features, found {type(features).__name__}")
    found = {f"{LOSS}{name}": value for name, value in features.losses.items()}
    if features.pooled is not None:
        found["pooled"] = features.pooled
    if features.tokens is not None:
        mask = features.mask
        if mask is None:
            mask = torch.ones(features.tokens.shape[:2], dtype=torch.bool, device=features.tokens.device)
        found |= {"tokens": torch.where(mask.unsqueeze(-1), features.tokens, 0), "mask": mask}
    return found


def out_features(module: nn.Module) -> int:
    """The size of what a module gives, which it has to say."""
    size = getattr(module, "out_features", None)
    expect(isinstance(size, int) and size > 0, f"out_features should be a positive number, found {size!r}")
    return cast(int, size)


def built(case: Case, seed: int = 0) -> nn.Module:
    """A component with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return case.build()


def plain(case: Case) -> nn.Module:
    """A component in training mode, without dropout, whose weights are no longer at their (perhaps zero) start."""
    module = built(case)
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():  # a little noise: none is zero, and no two are the same by chance
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.add_(noise.to(parameter.dtype), alpha=0.05)
    return module.train()


def used(case: Case) -> nn.Module:
    """A component in evaluation mode after a little training: its statistics and fits are no longer at their start."""
    module = plain(case)
    optimizer = torch.optim.SGD(list(module.parameters()) or [torch.zeros(1, requires_grad=True)], lr=1e-3)
    for step in range(2):
        backward(module, case.batch(8, seed=10 + step).run(module))
        optimizer.step()
    case.fit(module)
    return module.eval()


def backward(module: nn.Module, found: Tensors) -> Tensors:
    """The parameters' gradients by a loss that weighs all results at random (a plain sum is constant after a norm)."""
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(3)
    terms = []
    for values in found.values():
        if values.requires_grad:
            weights = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            terms.append((values * weights.to(values)).sum().double())
    if terms:
        torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {f"the gradient of {name}": gradient for name, gradient in gradients.items() if gradient is not None}


def untouched(module: nn.Module) -> list[str]:
    """The parameters that got no gradient from `backward`."""
    named_parameters = module.named_parameters()
    return [name for name, parameter in named_parameters if parameter.requires_grad and parameter.grad is None]


def buffers(module: nn.Module) -> Tensors:
    """A copy of a module's buffers."""
    return {f"the buffer {name}": buffer.clone() for name, buffer in module.named_buffers()}
