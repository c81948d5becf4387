"""Checks of metrics: one finite number, whatever the rows, that says which predictions are better.

Axes: N rows, K classes, labels or numbers a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmreg.contract.task import Metric, Space
from mmreg.testing.expectations import expect
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject

ROWS, OUTPUTS = 40, 3
CERTAIN = 30.0
"""The logit of what is certain."""

TOLERANCE = 1e-5
"""How far numbers that should be the same may be apart: torchmetrics computes in float32."""


def random_scores(space: Space, rows: int, generator: torch.Generator, outputs: int = OUTPUTS) -> Tensor:
    """Scores (N, K) of somebody who knows nothing."""
    logits = torch.randn(rows, 1 if space == "log_hazards" else outputs, generator=generator)
    if space == "quantiles":
        return logits.sort(1).values
    return logits.log_softmax(1) if space == "log_probabilities" else logits


def random_targets(space: Space, rows: int, generator: torch.Generator, outputs: int = OUTPUTS) -> Tensor:
    """Targets as a task of the space encodes them; every class and label occurs, if there are rows enough."""
    if space == "log_probabilities":
        return torch.arange(rows)[torch.randperm(rows, generator=generator)] % outputs
    if space == "log_odds":
        return (torch.rand(rows, outputs, generator=generator) > 0.5).float()
    if space == "quantiles":
        return torch.randn(rows, 1, generator=generator).repeat(1, outputs)
    if space == "log_hazards":  # times, and whether the event happened
        times, events = torch.rand(2, rows, generator=generator)
        return torch.stack([times, (events > 0.3).float()], 1)
    return torch.randn(rows, outputs, generator=generator)


def perfect(space: Space, targets: Tensor, outputs: int = OUTPUTS) -> Tensor:
    """The scores (N, K) of somebody who knows the targets, and is certain."""
    if space == "log_probabilities":
        return (CERTAIN * one_hot(targets, outputs)).float().log_softmax(1)
    if space == "log_hazards":
        return -CERTAIN * targets[:, :1]
    return CERTAIN * (2 * targets - 1) if space == "log_odds" else targets.clone()


def measured(subject: Subject, scores: Tensor, targets: Tensor, what: str) -> float:
    """What the metric gives for some rows.

    Raises:
        AssertionError: it is no plain, finite number.
    """
    metric: Metric = subject.cls(num_outputs=scores.shape[1], **subject.all_options)
    before = scores.clone(), targets.clone()
    found: float = metric.compute(scores, targets)
    expect(type(found) is float, f"{what}: compute should give a float, found {type(found).__name__}")
    expect(math.isfinite(found), f"{what}: the metric should be finite, found {found}")
    kept = torch.equal(scores, before[0]) and torch.equal(targets, before[1])
    expect(kept, f"{what}: compute changed the scores or targets that it was given")
    return found


def degenerate(space: Space) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Rows on which metrics tend to be undefined, with what they are."""
    generator = torch.Generator().manual_seed(1)
    targets = random_targets(space, 1, generator)
    yield "one row", random_scores(space, 1, generator), targets
    yield "one row that is right", perfect(space, targets), targets
    scores, targets = random_scores(space, ROWS, generator), random_targets(space, ROWS, generator)
    same = targets[:1].expand_as(targets).contiguous()
    yield "equal targets", scores, same
    yield "equal targets and predictions that are right", perfect(space, same), same
    yield "equal predictions", scores[:1].expand_as(scores).contiguous(), targets
    yield "predictions that are all wrong", perfect(space, targets.roll(1, 0)), targets
    if space == "log_probabilities":
        yield "a class that is never true nor predicted", perfect(space, targets % 2), targets % 2
        yield "a class that is never predicted", perfect(space, targets % 2), targets
    if space == "log_odds":
        for what, value in (("no labels", 0.0), ("all labels", 1.0)):
            everywhere = torch.full_like(targets, value)
            yield f"{what} in any row", scores, everywhere
            yield f"{what} in any row, and the right predictions", perfect(space, everywhere), everywhere
    if space not in ("log_probabilities", "log_hazards"):
        yield "one label or number a row", scores[:, :1].clone(), targets[:, :1].clone()
    if space == "log_hazards":
        yield "no event in any row", scores, targets * torch.tensor([1.0, 0.0])
    if space in ("values", "quantiles"):
        yield "zeros", torch.zeros_like(scores), torch.zeros_like(targets)
        yield "large numbers", 1e6 * scores, 1e6 * targets


@check("metric")
def check_metric_declarations(subject: Subject) -> None:
    """Its spaces, of which there is at least one, its direction and its version are of the right form."""
    cls = subject.cls
    spaces: Any = getattr(cls, "spaces", None)
    known = [space for space in get_args(Space) if space != "several"]  # a metric is one target's
    fits = isinstance(spaces, frozenset) and spaces and spaces <= set(known)
    expect(fits, f"spaces should be a frozenset of some of {', '.join(known)}, found {spaces!r}")
    expect(
        isinstance(cls.more_is_better, bool), f"more_is_better should be true or false, found {cls.more_is_better!r}"
    )
    expect(isinstance(cls.version, int), f"version should be a whole number, found {cls.version!r}")


@check("metric")
def check_metric_is_finite(subject: Subject) -> None:
    """It is a plain, finite number on any rows: a single one, equal ones, classes or labels that never occur."""
    for space in sorted(subject.cls.spaces):
        for what, scores, targets in degenerate(space):
            measured(subject, scores, targets, f"{space}, {what}")


@check("metric")
def check_metric_of_rows(subject: Subject) -> None:
    """It is the same for rows in another order, and the same again: nothing is left of rows that it saw before."""
    for space in sorted(subject.cls.spaces):
        generator = torch.Generator().manual_seed(2)
        scores, targets = random_scores(space, ROWS, generator), random_targets(space, ROWS, generator)
        order = torch.randperm(ROWS, generator=generator)
        first = measured(subject, scores, targets, space)
        for what, other in (
            ("in another order", measured(subject, scores[order], targets[order], space)),
            ("a second time", measured(subject, scores, targets, space)),
        ):
            close = math.isclose(first, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            expect(close, f"{space}: it should be {first:.6g} for the same rows {what}, found {other:.6g}")
        metric: Metric = subject.cls(num_outputs=scores.shape[1], **subject.all_options)
        metric.compute(*(each.flip(0) for each in (perfect(space, targets), targets)))
        used = metric.compute(scores, targets)
        close = math.isclose(first, used, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        expect(close, f"{space}: it should be {first:.6g} whatever it has measured before, found {used:.6g}")


@check("metric")
def check_metric_direction(subject: Subject) -> None:
    """A perfect prediction is never worse than a random one, and sometimes better, in the direction that it says."""
    sign = 1 if subject.cls.more_is_better else -1
    for space in sorted(subject.cls.spaces):
        gains = []
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            scores, targets = random_scores(space, ROWS, generator), random_targets(space, ROWS, generator)
            best = measured(subject, perfect(space, targets), targets, space)
            other = measured(subject, scores, targets, space)
            gains.append(sign * (best - other))
            said = "more" if sign > 0 else "less"
            expect(
                gains[-1] >= -TOLERANCE,
                f"{space}: {said} is better, but it is {best:.4g} for a perfect prediction and {other:.4g} for a "
                "random one",
            )
        expect(max(gains) > TOLERANCE, f"{space}: it is never better for a perfect prediction than for random ones")
