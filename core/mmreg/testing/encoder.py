"""Checks of encoders: the specs they take, padding, and rows that are absent.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.contract.interfaces import Encoder, Outputs
from mmreg.contract.signals import Features, Signal
from mmreg.contract.spec import Spec
from mmreg.contract.task import Task
from mmreg.errors import MmregError
from mmreg.layers import masked_mean
from mmreg.model.model import MultimodalModel
from mmreg.testing.cases import (
    TOLERANCE,
    Batch,
    Case,
    Outcome,
    backward,
    buffers,
    each_case,
    expect_finite,
    expect_finite_gradients,
    expect_same,
    plain,
    provides_cases,
)
from mmreg.testing.signals import LONGEST, UNUSUAL, USUAL, lengthened, make_signal, take
from mmreg.testing.subject import Skipped, Subject, check, expect

MOST_SPECS = 4
"""Of the usual specs that an encoder takes, so many are tested."""


@dataclass(frozen=True)
class EncoderBatch(Batch):
    """A signal of B rows."""

    signal: Signal
    spec: Spec

    def __len__(self) -> int:
        return len(self.signal)

    def run(self, module: nn.Module) -> Outcome:
        """Encode the signal."""
        features: Features = module(self.signal)
        return outcome_of(features)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """See `Batch`."""
        return replace(self, signal=self.signal.replace(function(self.signal.values)))

    def take(self, rows: Sequence[int]) -> Self:
        """See `Batch`."""
        return replace(self, signal=take(self.signal, self.spec, rows))

    def on(self, device: torch.device | str) -> Self:
        """See `Batch`."""
        return replace(self, signal=self.signal.to(device))

    def padded(self) -> Self | None:
        """See `Batch`; padding may hold anything, and holds NaN."""
        if self.spec.ragged_axis is None:
            return None
        return replace(self, signal=lengthened(self.signal, self.spec, 5, float("nan")))


def outcome_of(features: Features) -> Outcome:
    """Features as what checks compare."""
    rows = {}
    if features.pooled is not None:
        rows["pooled"] = features.pooled
    if features.tokens is not None:
        mask = features.mask
        if mask is None:
            mask = torch.ones(features.tokens.shape[:2], dtype=torch.bool, device=features.tokens.device)
        rows["tokens"] = torch.where(mask.unsqueeze(-1), features.tokens, 0)
        rows["mask"] = mask
    return Outcome(rows, features.losses)


@dataclass(frozen=True)
class EncoderCase(Case):
    """An encoder built for a spec and asked for one kind of output."""

    cls: Any
    spec: Spec
    outputs: Outputs
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The spec and the output."""
        return f"built for {self.spec}, asked for {self.outputs}"

    @property
    def hint(self) -> str:
        """See `Case`: the default takes every spec, so that an encoder that lacks its own is built for each."""
        inherited = getattr(self.cls.accepts, "__func__", None) is vars(Encoder)["accepts"].__func__
        return "; it has no `accepts`, so it is taken to accept every spec" if inherited else ""

    def build(self) -> nn.Module:
        """See `Case`."""
        module: nn.Module = self.cls(self.spec, **passed_in(self.cls, self.outputs), **self.options)
        return module

    def batch(
        self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None, even: bool = False, length: int = LONGEST
    ) -> EncoderBatch:
        """See `Case`; `length` is that of the longest row, which comes first, or of all rows if these are even."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(1, length + 1, (rows,), generator=generator).tolist()
        lengths = [length] * rows if even else [length, *drawn[1:]]
        return EncoderBatch(make_signal(self.spec, lengths, generator, labels), self.spec)

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        size = getattr(module, "out_features", None)
        expect(isinstance(size, int) and size > 0, f"out_features should be a positive number, found {size!r}")
        features = module(self.batch(rows).signal)
        expect(isinstance(features, Features), f"forward should give Features, found {type(features).__name__}")
        given, other = getattr(features, self.outputs), "pooled" if self.outputs == "tokens" else "tokens"
        expect(given is not None, f"it was asked for {self.outputs} and gave none")
        expect(getattr(features, other) is None, f"it was asked for {self.outputs} alone, but gave {other} too")
        expect(given.is_floating_point(), f"{self.outputs} should be floating point, found {given.dtype}")
        if self.outputs == "pooled":
            wanted: tuple[int, ...] = (rows, cast(int, size))
        else:
            wanted = (rows, given.shape[1] if given.dim() > 1 else 1, cast(int, size))
        expect(tuple(given.shape) == wanted, f"{self.outputs} should be {wanted}, found {tuple(given.shape)}")
        mask = features.mask
        if mask is not None:
            expect(mask.dtype == torch.bool, f"the mask should be bool, found {mask.dtype}")
            expect(mask.shape == wanted[:2], f"the mask should be {wanted[:2]}, found {tuple(mask.shape)}")
            expect(mask.any(1).all(), "every row should have at least one valid token")

    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[Batch, Tensor], Tensor]]:
        """See `Case`."""
        head = nn.Linear(cast(int, module.out_features), 2)

        def loss(batch: Batch, labels: Tensor) -> Tensor:
            found = batch.run(module)
            pooled = found.rows.get("pooled")
            if pooled is None:
                pooled = masked_mean(found.rows["tokens"], found.rows["mask"])
            return functional.cross_entropy(head(pooled), labels)

        return head, loss


def passed_in(cls: Any, outputs: Outputs) -> dict[str, Outputs]:
    """The keyword by which the framework tells an encoder what it will be asked for, if it has a choice."""
    return {"outputs": outputs} if "tokens" in cls.provides else {}


@provides_cases("encoder")
def encoder_cases(subject: Subject) -> list[EncoderCase]:
    """Every spec that the encoder takes, with everything that it provides.

    Raises:
        Skipped: it takes none of the usual ones.
    """
    options = subject.all_options
    specs = list(subject.specs) or [spec for spec in USUAL if subject.cls.accepts(spec, options) is None][:MOST_SPECS]
    if not specs:
        raise Skipped("it takes none of the usual specs; pass specs=[Spec(...)] that it takes")
    return [
        EncoderCase(subject.cls, spec, outputs, options) for spec in specs for outputs in sorted(subject.cls.provides)
    ]


@check
def check_specs(subject: Subject) -> None:
    """A spec that `accepts` lets pass can be built for and encoded; one that it refuses, with a reason, cannot."""
    options = subject.all_options
    for spec in dict.fromkeys([*subject.specs, *USUAL, *UNUSUAL]):
        reason = subject.cls.accepts(spec, options)
        if reason is None:
            for outputs in sorted(subject.cls.provides):
                _expect_encoded(EncoderCase(subject.cls, spec, outputs, options))
            continue
        expect(spec not in subject.specs, f"it should take {spec}, which was given for it; its reason not to: {reason}")
        said = isinstance(reason, str) and reason.strip()
        expect(said, f"`accepts` should give a reason for refusing {spec}, found {reason!r}")
        try:
            subject.cls(spec, **passed_in(subject.cls, "pooled"), **options)
        except MmregError:
            continue
        except Exception as error:
            raise AssertionError(
                f"the constructor should refuse {spec}, which `accepts` refuses, with an error of mmreg's such as "
                f"SpecError, found {type(error).__name__}: {error}"
            ) from error
        raise AssertionError(f"`accepts` refuses {spec} ({reason}), but the constructor takes it")


def _expect_encoded(case: EncoderCase) -> None:
    try:
        module = case.build().eval()
        outcome = case.batch().run(module)
    except Exception as error:
        raise AssertionError(
            f"`accepts` lets {case.spec} pass, but {case.label} it raised {type(error).__name__}: {error}{case.hint}"
        ) from error
    expect_finite(outcome, f"for {case.spec}, which `accepts` lets pass")


@each_case
def check_shortest_length(case: EncoderCase) -> None:
    """Rows of length 1, the shortest there is, are encoded and trained on, by themselves and beside longer ones."""
    if case.spec.ragged_axis is None:
        raise Skipped("it takes nothing ragged")
    module = plain(case)
    for rows, length in ((4, 1), (4, LONGEST)):
        batch = case.batch(rows, length=length, even=True)
        if length > 1:
            assert batch.signal.lengths is not None
            shortest = torch.tensor([1] + [length] * (rows - 1))
            batch = replace(batch, signal=Signal(batch.signal.values, shortest, shortest))
        outcome = batch.run(module)
        expect_finite(outcome, f"for {rows} rows, of which one at least has the length 1")
        expect_finite_gradients(backward(module, outcome), "for rows of length 1")
    expect_finite(case.batch(4, length=1, even=True).run(module.eval()), "for rows of length 1, in evaluation")


@dataclass(frozen=True)
class _Inputs:
    """A batch as the model takes it."""

    signals: Mapping[str, Signal]
    rows: Mapping[str, Tensor | None]
    present: Tensor


def _model(case: EncoderCase, module: nn.Module) -> MultimodalModel:
    """A model of the encoder alone, with a head of two numbers."""
    task = cast(Task, SimpleNamespace(scores=lambda logits: logits, module=None))
    torch.manual_seed(5)
    head = nn.Linear(cast(int, module.out_features), 2)
    return MultimodalModel(
        {"it": cast(Encoder, module)}, {"it": case.outputs}, None, head, task, torch.zeros(2)
    ).train()


@each_case
def check_absent_rows(case: EncoderCase) -> None:
    """Within a model, rows that lack the modality change neither the others' results nor any batch statistic."""
    if case.outputs != "pooled":
        raise Skipped("tokens are read by a fusion")
    module = plain(case)
    rows = [1, 2, 4]
    batch = case.batch(len(rows))
    present = torch.zeros(6, 1, dtype=torch.bool)
    present[rows] = True
    with_absent, without = _model(case, module), _model(case, copy.deepcopy(module))
    torch.manual_seed(6)
    found = with_absent(_Inputs({"it": batch.signal}, {"it": torch.tensor(rows)}, present)).scores
    torch.manual_seed(6)
    wanted = without(_Inputs({"it": batch.signal}, {"it": None}, torch.ones(len(rows), 1, dtype=torch.bool))).scores
    tolerance = TOLERANCE[torch.float32]
    expect_same(Outcome({"scores": found[rows]}), Outcome({"scores": wanted}), "beside absent rows", tolerance)
    expect_same(Outcome(buffers(with_absent)), Outcome(buffers(without)), "beside absent rows, buffers", tolerance)

    before = buffers(with_absent)
    nobody = with_absent(_Inputs({}, {}, torch.zeros(4, 1, dtype=torch.bool)))
    gradients = backward(with_absent.encoders, Outcome({"scores": nobody.supervised[0].logits}))
    expect_same(Outcome(buffers(with_absent)), Outcome(before), "where every row lacks it, buffers")
    for name, gradient in gradients.items():
        expect(gradient is not None and not gradient.any(), f"where every row lacks it, {name} should get zeros")
