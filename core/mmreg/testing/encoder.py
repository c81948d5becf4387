"""Checks of encoders: the specs they take, padding, and rows that are absent.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_dataclass

from mmreg import registry
from mmreg.contract.interfaces import Encoder, Modality, Outputs
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec, Specs, specs_text
from mmreg.contract.task import Task
from mmreg.errors import MmregError
from mmreg.model.model import MultimodalModel, Output
from mmreg.testing.cases import (
    CASES,
    Case,
    CaseBatch,
    backward,
    buffers,
    case_check,
    out_features,
    plain,
    tensors_of,
    untouched,
)
from mmreg.testing.expectations import (
    TOLERANCE,
    Skipped,
    Tensors,
    expect,
    expect_finite,
    expect_refused,
    expect_same,
    expect_shapes,
    named,
)
from mmreg.testing.registration import check
from mmreg.testing.signals import LONGEST, UNUSUAL, USUAL, is_ragged, lengthened, make_signal, map_ragged
from mmreg.testing.subject import Subject, make_subject

MOST_SPECS = 4
"""Of the usual specs that an encoder takes, so many are tested."""


@dataclass(frozen=True)
class SignalBatch(CaseBatch):
    """A signal of B rows."""

    signal: Signal[Any]
    spec: Specs

    def run(self, module: nn.Module) -> Tensors:
        """Encode the signal."""
        return tensors_of(module(self.signal))

    def take(self, rows: Sequence[int]) -> Self:
        """See `CaseBatch`."""
        taken = super().take(rows)
        if taken.signal.lengths is None:
            return taken
        longest = int(taken.signal.lengths.max())

        def shorter(values: Tensor, spec: Spec) -> Tensor:
            return values.narrow(cast(int, spec.ragged_axis) + 1, 0, longest)

        return replace(taken, signal=map_ragged(taken.signal, self.spec, shorter))

    def on(self, device: torch.device | str) -> Self:
        """See `CaseBatch`; what is known on the host stays there."""
        return replace(self, signal=self.signal.to(device))

    def padded(self) -> Self | None:
        """See `CaseBatch`; padding may hold anything, and holds NaN."""
        if not is_ragged(self.spec):
            return None
        return replace(self, signal=lengthened(self.signal, self.spec, 5, float("nan")))


register_dataclass(SignalBatch)


@dataclass(frozen=True)
class EncoderCase(Case):
    """An encoder built for a spec and asked for one kind of output."""

    cls: Any
    spec: Specs
    outputs: Outputs
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The spec and the output."""
        return f"built for {specs_text(self.spec)}, asked for {self.outputs}"

    @property
    def hint(self) -> str:
        """See `Case`: the default takes every spec, so that an encoder that lacks its own is built for each."""
        inherited = getattr(self.cls.accepts, "__func__", None) is vars(Encoder)["accepts"].__func__
        return "; it has no `accepts`, so it is taken to accept every spec" if inherited else ""

    def build(self) -> nn.Module:
        """See `Case`."""
        passed_in = {"outputs": self.outputs} if "tokens" in self.cls.provides else {}
        module: nn.Module = self.cls(self.spec, **passed_in, **self.options)
        return module

    def batch(
        self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None, lengths: Sequence[int] = ()
    ) -> SignalBatch:
        """See `Case`; the lengths are drawn unless they are given."""
        generator = torch.Generator().manual_seed(seed)
        drawn = [LONGEST, *torch.randint(1, LONGEST + 1, (rows,), generator=generator).tolist()][:rows]
        return SignalBatch(make_signal(self.spec, lengths or drawn, generator, labels), self.spec)

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        found, size = self.batch(rows).run(module), out_features(module)
        other = "pooled" if self.outputs == "tokens" else "tokens"
        expect(other not in found, f"it was asked for {self.outputs} alone, but gave {other} too")
        if self.outputs == "pooled":
            expect_shapes(found, {"pooled": (rows, size)})
        else:
            expect_shapes(found, {"tokens": (rows, None, size), "mask": (rows, None)})
            expect(found["mask"].any(1).all(), "every row should have at least one valid token")


def encoder_cases(subject: Subject) -> list[EncoderCase]:
    """Every spec that the encoder takes, with everything that it provides; `Skipped` if it takes none that is known."""
    options = subject.all_options
    specs = list(subject.specs) or _taken(subject, [*needed_specs(subject), *USUAL])[:MOST_SPECS]
    specs = specs or _taken(subject, default_specs(subject))
    if not specs:
        raise Skipped("it takes none of the usual specs; pass specs=[Spec(...)] that it takes (or --spec)")
    provided = sorted(subject.cls.provides)
    return [EncoderCase(subject.cls, spec, outputs, options) for spec in specs for outputs in provided]


CASES["encoder"] = encoder_cases


def _taken(subject: Subject, specs: Iterable[Specs]) -> list[Specs]:
    """Those of some specs that the encoder takes, each once; it is asked as a recipe asks it."""
    several, taken = subject.cls.multiple_arrays, []
    for spec in specs:
        asked = several or isinstance(spec, Spec)
        if asked and spec not in taken and subject.cls.accepts(spec, subject.all_options) is None:
            taken.append(spec)
    return taken


def needed_specs(subject: Subject) -> list[Specs]:
    """What installed modalities give with the options that the encoder needs of its own, such as a fixed size."""
    needs = subject.cls.modality_options(subject.all_options)
    return _given(needs, lambda modality: True) if needs else []


def default_specs(subject: Subject) -> list[Specs]:
    """What the modalities give whose default encoder it is."""
    return _given({}, lambda modality: modality.default_encoder == subject.name)


def _given(options: Mapping[str, Any], wanted: Callable[[type[Modality]], bool]) -> list[Specs]:
    """What those of the installed modalities give that are wanted and have some options."""
    found: list[Specs] = []
    for entry in registry.specs("modality"):
        try:
            modality = make_subject(entry)
            if wanted(modality.cls):
                found.append(replace(modality, options={**modality.options, **options}).new().spec)
        except Exception:  # one that lacks the options, needs others or is broken says nothing of the encoder
            continue
    return found


@check("encoder")
def check_specs(subject: Subject) -> None:
    """A spec that `accepts` lets pass can be built for and encoded; one that it refuses, with a reason, cannot."""
    options = subject.all_options
    for spec in (*subject.specs, *needed_specs(subject), *USUAL, *UNUSUAL):
        if not (subject.cls.multiple_arrays or isinstance(spec, Spec)):
            continue
        text = specs_text(spec)
        reason = subject.cls.accepts(spec, options)
        if reason is None:
            for outputs in sorted(subject.cls.provides):
                case = EncoderCase(subject.cls, spec, outputs, options)
                with named(f"`accepts` lets {text} pass, but {case.label}", case.hint):
                    expect_finite(case.batch().run(case.build().eval()), "in evaluation")
            continue
        expect(spec not in subject.specs, f"it should take {text}, which was given for it; its reason not to: {reason}")
        said = isinstance(reason, str) and reason.strip()
        expect(said, f"`accepts` should give a reason for refusing {text}, found {reason!r}")
        build = EncoderCase(subject.cls, spec, "pooled", options).build
        expect_refused(build, MmregError, f"{text}, which `accepts` refuses ({reason}),")


@case_check("encoder")
def check_shortest_length(case: EncoderCase) -> None:
    """Rows of length 1, the shortest there is, are encoded and trained on, by themselves and beside longer ones."""
    if not is_ragged(case.spec):
        raise Skipped("it takes nothing ragged")
    module = plain(case)
    for lengths in ([1] * 4, [1] + [LONGEST] * 3):
        found = case.batch(lengths=lengths).run(module)
        expect_finite(found, f"for rows of the lengths {lengths}")
        expect_finite(backward(module, found), f"for rows of the lengths {lengths}")
    expect_finite(case.batch(lengths=[1] * 4).run(module.eval()), "for rows of length 1, in evaluation")


@case_check("encoder")
def check_absent_rows(case: EncoderCase) -> None:
    """Within a model, rows that lack the modality change neither the others' results nor any batch statistic."""
    if case.outputs != "pooled":
        raise Skipped("tokens are read by a fusion")
    encoder = plain(case)
    task = cast(Task, SimpleNamespace(scores=lambda logits: logits, module=None, needs_target=True))
    head = nn.Linear(cast(int, encoder.out_features), 2)
    with_absent = MultimodalModel({"it": cast(Encoder, encoder)}, {"it": "pooled"}, None, head, task, torch.zeros(2))
    without = copy.deepcopy(with_absent.train())

    def run(model: MultimodalModel, present: Tensor, rows: Tensor | None = None) -> Output:
        signals = {"it": case.batch(3).signal} if present.any() else {}
        torch.manual_seed(6)
        places = dict.fromkeys(signals, rows)
        output: Output = model(SimpleNamespace(signals=signals, features={}, rows=places, present=present))
        return output

    rows, present = torch.tensor([1, 2, 4]), torch.zeros(6, 1, dtype=torch.bool)
    present[rows] = True
    found = {"scores": run(with_absent, present, rows).scores[rows], **buffers(with_absent)}
    expected = {"scores": run(without, present[rows]).scores, **buffers(without)}
    expect_same(found, expected, "beside absent rows", TOLERANCE[torch.float32])

    before, nobody = buffers(with_absent), run(with_absent, torch.zeros(4, 1, dtype=torch.bool))
    gradients = backward(encoder, {"scores": nobody.supervised[0].logits})
    expect_same(buffers(with_absent), before, "where every row lacks it")
    silent = untouched(encoder)
    expect(not silent, f"where every row lacks it, {', '.join(silent)} should get a gradient of zeros, found none")
    for name, gradient in gradients.items():
        expect(not gradient.any(), f"where every row lacks it, {name} should be zeros")
