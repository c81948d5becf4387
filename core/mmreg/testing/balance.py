"""Checks of balances: what they make of a small fused model's rows, losses and gradients, and what they remember.

Axes: B batch, D features, K classes, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.contract.balance import Balance, BalanceBatch, EncoderGradients, Observed
from mmreg.contract.task import Space
from mmreg.testing.expectations import expect
from mmreg.testing.metric import OUTPUTS, random_targets
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject

ROWS, VALUES = 12, 4
SIZES = {"a": 5, "b": 4, "c": 6, "d": 3}


@dataclass(frozen=True)
class Rows:
    """A batch: by modality (B, VALUES) values, and what `BalanceBatch` has of it."""

    values: Mapping[str, Tensor]
    present: Tensor
    targets: Tensor
    weights: Tensor


class Rig:
    """A small model of concatenated features with a balance, and its steps, as training does them.

    Args:
        subject: the balance under test.
        space: of the task's scores.
    """

    def __init__(self, subject: Subject, space: Space) -> None:
        cls: type[Balance] = subject.cls
        count = min(len(SIZES), max(3, cls.min_inputs), cls.max_inputs or len(SIZES))
        self.space, self.sizes = space, dict(list(SIZES.items())[:count])
        passed_in: dict[str, Any] = {"num_logits": OUTPUTS, "num_outputs": OUTPUTS, "space": space}
        if cls.shares_head:
            passed_in["head_size"] = sum(self.sizes.values())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(1)
            self.balance: Balance = cls(self.sizes, **passed_in, **subject.all_options)
            self.encoders = {name: nn.Linear(VALUES, size) for name, size in self.sizes.items()}
            self.head = nn.Linear(sum(self.sizes.values()), OUTPUTS)
        self.prior = torch.full((OUTPUTS,), 0.0 if space != "log_probabilities" else -math.log(OUTPUTS))

    def rows(self, seed: int = 0, count: int = ROWS) -> Rows:
        """Random rows, all of whose modalities are there."""
        generator = torch.Generator().manual_seed(seed)
        values = {name: torch.randn(count, VALUES, generator=generator) for name in self.sizes}
        present = torch.ones(count, len(self.sizes), dtype=torch.bool)
        # The loss here compares no rows, and takes log-hazards for values.
        targets = random_targets("values" if self.space == "log_hazards" else self.space, count, generator)
        return Rows(values, present, targets, torch.rand(count, generator=generator) + 0.5)

    def row_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row, as the bundled tasks have it."""
        if self.space == "log_probabilities":
            return functional.cross_entropy(scores, targets, reduction="none")
        if self.space == "log_odds":
            return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1)
        return (scores - targets).square().mean(1)

    def own_logits(self, vectors: Mapping[str, Tensor], present: Tensor) -> Mapping[str, Tensor]:
        """What each modality says by itself, by what the balance makes of it."""
        if not self.balance.shares_head:
            return self.balance.own_logits(vectors)
        columns = torch.arange(len(vectors))
        alone = {name: _side_by_side(vectors, present & (columns == at)) for at, name in enumerate(vectors)}
        return self.balance.shared_logits(alone, present, self.head)

    def fused(self, vectors: Mapping[str, Tensor], kept: Tensor) -> Tensor:
        """The head's logits (B, K) with some modalities (B, M) alone."""
        logits: Tensor = self.head(_side_by_side(vectors, kept))
        return logits.log_softmax(1) if self.space == "log_probabilities" else logits

    def weights(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name."""
        modules = {**self.encoders, "the head": self.head, "it": self.balance}
        return {f"{name}: {key}": each for name, part in modules.items() for key, each in part.named_parameters()}

    def step(self, rows: Rows) -> dict[str, Tensor]:
        """The loss of a step and the gradients of all weights, none of which are moved."""
        vectors = {name: encoder(rows.values[name]) for name, encoder in self.encoders.items()}
        logits = self.own_logits(vectors, rows.present)
        kept = self.balance.keep(rows.present)
        reaching = {name: each.detach() if self.balance.detaches else each for name, each in vectors.items()}
        total = rows.weights.sum()

        def mean(scores: Tensor, present: Tensor) -> Tensor:
            return torch.where(present, self.row_loss(scores, rows.targets) * rows.weights, 0).sum() / total

        loss, own = mean(self.fused(reaching, kept), rows.present.any(1)), torch.zeros(())
        if self.balance.own_loss:
            for column, each in enumerate(logits.values()):
                own = own + self.balance.own_loss * mean(each, rows.present[:, column])
        found = self.balance.observe(self._batch(rows, vectors, logits)) if self.balance.observes else Observed()
        loss = loss + own + sum(found.losses.values(), torch.zeros(()))
        owned = self._own(own) if self.balance.own_gradients else {}
        named = self.weights()
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        result = dict(zip(named, gradients, strict=True))
        if self.balance.modulates:
            self._modulate(result, owned, found.sums)
        unused = [name for name, each in result.items() if each is None]
        expect(not unused, f"a step should train all weights, but gave none of these a gradient: {', '.join(unused)}")
        return {"the loss": loss.detach(), **{name: each for name, each in result.items() if each is not None}}

    def _batch(self, rows: Rows, vectors: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> BalanceBatch:
        @torch.no_grad()
        def joint(kept: Tensor) -> Tensor:
            left = kept & rows.present
            return torch.where(left.any(1, keepdim=True), self.fused(vectors, left), self.prior)

        return BalanceBatch(
            vectors,
            logits,
            rows.present,
            rows.targets,
            rows.weights,
            self.prior,
            lambda scores: self.row_loss(scores, rows.targets),
            joint,
        )

    def _own(self, own: Tensor) -> dict[str, Tensor]:
        named = {name: each for name, each in self.weights().items() if name.partition(":")[0] in self.sizes}
        if not own.requires_grad:
            return {name: torch.zeros_like(each) for name, each in named.items()}
        found = torch.autograd.grad(own, list(named.values()), retain_graph=True, allow_unused=True)
        given = zip(named.items(), found, strict=True)
        return {name: torch.zeros_like(each) if one is None else one for (name, each), one in given}

    def _modulate(
        self, gradients: Mapping[str, Tensor | None], own: Mapping[str, Tensor], sums: Mapping[str, Tensor]
    ) -> None:
        given = {}
        for name in self.sizes:
            keys = [key for key in gradients if key.partition(":")[0] == name]
            whole = [each for key in keys if (each := gradients[key]) is not None]
            given[name] = EncoderGradients(whole, [own[key] for key in keys if own])
        with torch.no_grad():
            self.balance.modulate(given, sums)


def _side_by_side(vectors: Mapping[str, Tensor], kept: Tensor) -> Tensor:
    """The features of all, zeros where a modality (B, M) is not kept."""
    return torch.cat([torch.where(kept[:, [at]], each, 0) for at, each in enumerate(vectors.values())], 1)


def rigs(subject: Subject) -> Iterator[Rig]:
    """A model for each space of scores that the balance takes."""
    for space in sorted(subject.cls.spaces):
        yield Rig(subject, space)


def degenerate(rig: Rig) -> Iterator[tuple[str, Rows]]:
    """Batches at which a ratio or a mean tends to be undefined, with what they are."""
    rows = rig.rows(3)
    yield "every row has all modalities", rows
    present = torch.rand(rows.present.shape, generator=torch.Generator().manual_seed(4)) > 0.4
    yield "some are absent", replace(rows, present=present)
    for column, name in enumerate(rig.sizes):
        without = rows.present.clone()
        without[:, column] = False
        yield f"no row has {name}", replace(rows, present=without)
        yield f"{name} is all that there is", replace(rows, present=~without)
    yield "no row has anything", replace(rows, present=torch.zeros_like(rows.present))
    yield "one row", rig.rows(5, 1)
    yield "equal rows", replace(rows, values={name: each[:1].expand_as(each) for name, each in rows.values.items()})
    yield "equal targets", replace(rows, targets=rows.targets[:1].expand_as(rows.targets).contiguous())
    yield "values of zero", replace(rows, values={name: torch.zeros_like(each) for name, each in rows.values.items()})
    yield "a modality that is always right", _certain(rig, rows)


def _certain(rig: Rig, rows: Rows) -> Rows:
    """Rows of which one modality has the target itself among its values, large."""
    target = rows.targets if rows.targets.ndim == 2 else functional.one_hot(rows.targets, OUTPUTS)
    return replace(rows, values={**rows.values, "a": 50.0 * functional.pad(target.float(), (0, VALUES - OUTPUTS))})


@check("balance")
def check_balance_declarations(subject: Subject) -> None:
    """Its spaces, its bounds on the number of modalities, what it asks for and its version are of the right form."""
    cls = subject.cls
    spaces: Any = getattr(cls, "spaces", None)
    known = get_args(Space)
    fits = isinstance(spaces, frozenset) and spaces and spaces <= set(known)
    expect(fits, f"spaces should be a frozenset of some of {', '.join(known)}, found {spaces!r}")
    least, most = cls.min_inputs, cls.max_inputs
    right = isinstance(least, int) and least >= 1 and (most is None or (isinstance(most, int) and most >= least))
    expect(right, f"min_inputs and max_inputs should be bounds on the number of modalities, found {least!r}, {most!r}")
    for name in ("observes", "modulates", "own_gradients", "detaches", "shares_head", "blends"):
        expect(isinstance(getattr(cls, name), bool), f"{name} should be true or false, found {getattr(cls, name)!r}")
    expect(cls.modulates or not cls.own_gradients, "own_gradients are for modulate, but modulates is not set")
    expect(isinstance(cls.version, int), f"version should be a whole number, found {cls.version!r}")
    weight = Rig(subject, sorted(spaces)[0]).balance.own_loss
    fits = isinstance(weight, float | int) and math.isfinite(weight) and weight >= 0
    expect(fits, f"own_loss should be a weight of at least 0, found {weight!r}")
    expect(weight > 0 or not cls.blends, "it blends the modalities' own losses, but own_loss is 0, so there are none")


@check("balance")
def check_balance_own_logits(subject: Subject) -> None:
    """Own logits are finite and of all modalities or none, and no row's depend on other rows, or on what is drawn."""
    for rig in rigs(subject):
        rows = rig.rows()
        rig.step(rows)
        vectors = {name: encoder(rows.values[name]).detach() for name, encoder in rig.encoders.items()}
        for training in (True, False):
            rig.balance.train(training)
            whole = rig.own_logits(vectors, rows.present)
            expect(
                list(whole) in ([], list(rig.sizes)), f"they should be of {', '.join(rig.sizes)}, found {list(whole)}"
            )
            few = rig.own_logits({name: each[:5] for name, each in vectors.items()}, rows.present[:5])
            for name, each in whole.items():
                shape = (ROWS, OUTPUTS)
                expect(each.shape == shape, f"those of {name} should be {shape}, found {tuple(each.shape)}")
                expect(bool(each.isfinite().all()), f"those of {name} should be finite")
                same = torch.allclose(each[:5], few[name], atol=1e-5)
                expect(same, f"{rig.space}: the first rows' logits of {name} change with the rows that come after them")


@check("balance")
def check_balance_keeps_rows(subject: Subject) -> None:
    """What it leaves of the rows' modalities is among what they have, and something of every row that has any."""
    for rig in rigs(subject):
        for what, rows in degenerate(rig):
            rig.step(rows)
            for _ in range(20):
                before = rows.present.clone()
                kept = rig.balance.keep(rows.present)
                fits = kept.dtype == torch.bool and kept.shape == before.shape
                expect(fits, f"{what}: keep should give bool {tuple(before.shape)}, found {kept.dtype} {kept.shape}")
                expect(torch.equal(rows.present, before), f"{what}: keep changed what it was given")
                expect(not (kept & ~before).any(), f"{what}: keep gives rows a modality that they lack")
                expect(torch.equal(kept.any(1), before.any(1)), f"{what}: keep leaves a row without any modality")


@check("balance")
def check_balance_step(subject: Subject) -> None:
    """Steps have a finite loss and finite gradients of all weights, also where modalities are absent or rows alike."""
    for rig in rigs(subject):
        for what, rows in degenerate(rig):
            for name, each in rig.step(rows).items():
                expect(bool(each.isfinite().all()), f"{rig.space}, {what}: {name} should be finite in a step")
            for name, buffer in rig.balance.named_buffers():
                fits = not buffer.is_floating_point() or bool(buffer.isfinite().all())
                expect(fits, f"{rig.space}, {what}: its buffer {name} should be finite after a step")


@check("balance")
def check_balance_state(subject: Subject) -> None:
    """All that it remembers is in its state dict: another one that takes this over goes on to the same bits."""
    for rig in rigs(subject):
        for seed in (1, 2, 3):
            rig.step(rig.rows(seed))
        other = Rig(subject, rig.space)
        other.balance.load_state_dict({name: each.clone() for name, each in rig.balance.state_dict().items()})
        found = []
        for one in (rig, other):
            torch.default_generator.manual_seed(7)
            found.append([one.step(one.rows(seed)) for seed in (4, 5)])
        for first, second in zip(*found, strict=True):
            for name, each in first.items():
                told = f"{rig.space}: {name} is another in the next steps of one that has its state dict"
                expect(torch.equal(each, second[name]), f"{told}; keep what is remembered in buffers")
