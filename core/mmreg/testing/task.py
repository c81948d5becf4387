"""Checks of tasks: labels, scores, losses, metrics, state.

Axes: B batch, N rows, K outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.task import Task
from mmreg.errors import MmregError, OptionError, TargetError
from mmreg.testing.references import IN_UNITS, REFERENCES
from mmreg.testing.subject import Skipped, Subject, check, expect, json_text

USUAL: tuple[list[Any], ...] = (
    ["cat", "dog", "bird", "dog", "cat", "bird", "bird", "cat", "dog", "cat", "bird", "dog"],
    [["a", "b"], ["b"], ["c"], [], ["a"], ["a", "c"], ["b", "c"], ["c"], ["a", "b", "c"], ["b"], [], ["a"]],
    [1.5, -2.0, 0.25, 3.0, -0.5, 7.0, 2.0, 1.0, 0.0, -4.5, 2.5, 6.0],
    [[1.5, -2.0], [0.25, 3.0], [-0.5, 7.0], [2.0, 1.0], [0.5, -4.5], [2.5, 6.0], [1.0, 0.0], [3.0, 3.5]],
)
"""Target columns that a task is tried with if its author names none: classes, labels, numbers, rows of numbers."""

CERTAIN = 30.0
"""The logit of what is certain."""


def targets_of(subject: Subject) -> list[Any]:
    """The target column to test a task with.

    Raises:
        Skipped: none was given, and it takes none of the usual ones.
    """
    if subject.targets:
        return list(subject.targets)
    for values in sorted(USUAL, key=lambda values: _preference(subject.cls.space, values)):
        try:
            task = new(subject)
            task.fit(values)
            task.encode(values)
        except Skipped:
            raise
        except Exception:  # what is not for it is no failure of it
            continue
        return list(values)
    raise Skipped("it takes none of the usual target columns; pass targets=[...]")


def _preference(space: str, values: Sequence[Any]) -> bool:
    """The columns that are usual in a space come first."""
    labels = any(isinstance(value, list) and (not value or isinstance(value[0], str)) for value in values)
    kind = "log_odds" if labels else "log_probabilities" if isinstance(values[0], str) else "values"
    return kind != space


def new(subject: Subject) -> Task:
    """A task that has learned nothing yet."""
    task: Task = subject.cls(**subject.all_options)
    return task


def fitted(subject: Subject) -> tuple[Task, list[Any], NDArray[Any]]:
    """A fitted task, its target column, and what it encodes that to."""
    values = targets_of(subject)
    task = new(subject)
    task.fit(values)
    return task, values, task.encode(values)


def perfect(task: Task, targets: NDArray[Any]) -> Tensor:
    """The scores (N, K) of somebody who knows the targets, and is certain."""
    given = torch.from_numpy(np.asarray(targets))
    if task.space == "log_probabilities":
        return task.scores(CERTAIN * torch.nn.functional.one_hot(given.long(), task.num_outputs).float())
    return task.scores(CERTAIN * (2 * given.float() - 1) if task.space == "log_odds" else given.float())


def guesses(task: Task, targets: NDArray[Any]) -> list[Tensor]:
    """Scores (N, K) of others who know less: random ones, those of other rows, nearly perfect ones, doubts."""
    generator = torch.Generator().manual_seed(0)
    best = perfect(task, targets)
    random = [task.scores(torch.randn(best.shape, generator=generator)) for _ in range(4)]
    wrong = [best.roll(1, 0), best.flip(0)]
    doubtful = task.scores(best.clamp(-CERTAIN, CERTAIN) / 40 if task.space != "values" else best + 0.1)
    return [*random, *wrong, doubtful, -best if task.space != "log_probabilities" else task.scores(-best.clamp(-30, 0))]


@check
def check_targets(subject: Subject) -> None:
    """Targets are encoded in the form and dtype of the task's space, and K is known."""
    task, values, targets = fitted(subject)
    count = task.num_outputs
    expect(isinstance(count, int) and count >= 1, f"num_outputs should be a number from 1 on, found {count!r}")
    rows = len(values)
    if task.space == "log_probabilities":
        fits = targets.dtype == np.int64 and targets.shape == (rows,)
        expect(fits, f"classes should be ({rows},) int64, found {targets.shape} {targets.dtype}")
        expect(targets.min() >= 0 and targets.max() < count, f"classes should be below {count}, found {targets.max()}")
    else:
        fits = targets.dtype == np.float32 and targets.shape == (rows, count)
        expect(fits, f"targets should be ({rows}, {count}) float32, found {targets.shape} {targets.dtype}")
        expect(np.isfinite(targets).all(), "encoded targets should be finite")
    weights = task.row_weights(targets)
    fits = weights.shape == (rows,) and weights.dtype == np.float32 and bool(np.isfinite(weights).all())
    expect(fits and bool((weights >= 0).all()), f"row weights should be ({rows},) float32, finite and not negative")


@check
def check_labels_round_trip(subject: Subject) -> None:
    """What it writes for a perfect prediction is what the target column held."""
    task, values, targets = fitted(subject)
    columns = task.predictions(perfect(task, targets))
    for name, column in columns.items():
        expect(len(column) == len(values), f"the column {name!r} should have {len(values)} rows, found {len(column)}")
    try:
        json.dumps(columns)
    except TypeError as error:
        raise AssertionError(f"predictions should be plain values, but {error}") from error
    # The words of the target column come first, as one column, or as one for each of its numbers.
    first = next(iter(columns.values()))
    together = [list(row) for row in zip(*list(columns.values())[: task.num_outputs], strict=True)]
    for written in (first, together):
        try:
            again = task.encode(written)
        except MmregError:
            continue
        if np.allclose(again, targets, rtol=1e-4, atol=1e-4):
            return
    raise AssertionError(
        f"its predictions should be the targets where they are perfect: expected {values[:4]}, found {first[:4]} in "
        f"the column {next(iter(columns))!r}"
    )


@check
def check_bad_targets(subject: Subject) -> None:
    """A target that is missing or cannot be one is refused with a `TargetError`, never encoded or let through."""
    values = targets_of(subject)
    for what, bad in {"a missing value": None, "NaN": float("nan"), "an object": object()}.items():
        for call, column in (("fit", [*values, bad]), ("encode", [values[0], bad])):
            task = new(subject)
            task.fit(values)
            try:
                getattr(task, call)(column)
            except TargetError:
                continue
            except Exception as error:
                raise AssertionError(
                    f"{call} should refuse {what} with a TargetError, found {type(error).__name__}: {error}"
                ) from error
            raise AssertionError(f"{call} should refuse {what} with a TargetError, but took it")
    try:
        new(subject).fit([])
    except TargetError:
        return
    raise AssertionError("fit should refuse a column without rows with a TargetError")


@check
def check_scores(subject: Subject) -> None:
    """Scores lie in the task's space and are their own scores; so does the prior, which rows without anything get."""
    task, _, targets = fitted(subject)
    logits = 3 * torch.randn(7, task.num_outputs, generator=torch.Generator().manual_seed(1))
    scores = task.scores(logits)
    expect(scores.shape == logits.shape, f"scores should be {tuple(logits.shape)}, found {tuple(scores.shape)}")
    again = task.scores(scores)
    expect(torch.allclose(again, scores, atol=1e-5), "scores of scores should be the same scores")
    alone = torch.cat([task.scores(logits[row : row + 1]) for row in range(len(logits))])
    expect(torch.allclose(alone, scores, atol=1e-5), "a row's scores should not depend on the other rows")
    prior = task.prior(targets, task.row_weights(targets))
    expect(prior.shape == (task.num_outputs,), f"the prior should be ({task.num_outputs},), found {tuple(prior.shape)}")
    for what, values in {"scores": scores, "the prior": prior[None], "half": task.scores(logits.half())}.items():
        expect(values.isfinite().all(), f"{what} should be finite")
        if task.space == "log_probabilities":
            total = float(values.double().logsumexp(1).abs().max())
            expect(total < 1e-3, f"{what}: probabilities should sum to one, found sums {total:.2g} away in log")


@check
def check_loss(subject: Subject) -> None:
    """A row's loss is least for a perfect prediction, finite, and the same for logits and for scores."""
    task, _, encoded = fitted(subject)
    targets = torch.from_numpy(np.asarray(encoded))
    best = task.loss(perfect(task, encoded), targets)
    expect(best.shape == (len(targets),), f"the loss should be ({len(targets)},), found {tuple(best.shape)}")
    expect(best.isfinite().all(), "the loss of a perfect prediction should be finite")
    for guess in guesses(task, encoded):
        loss = task.loss(guess, targets)
        expect(loss.isfinite().all(), "the loss should be finite")
        worse = bool((loss >= best - 1e-5).all())
        lowest = float((loss - best).min())
        expect(worse, f"no prediction should have a lower loss than the perfect one, found one {-lowest:.3g} lower")
    shuffled = task.loss(perfect(task, encoded).roll(1, 0), targets)
    expect(float(shuffled.sum()) > float(best.sum()) + 1e-3, "the loss should be greater where predictions are wrong")
    logits = torch.randn(len(targets), task.num_outputs, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = task.loss(logits, targets)
    same = torch.allclose(loss, task.loss(task.scores(logits), targets), atol=1e-4)
    expect(same, "the loss should be the same for logits and for the scores made of them")
    loss.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    expect(logits.grad is not None and logits.grad.isfinite().all(), "the loss should have a finite gradient")
    alone = torch.cat([task.loss(logits[row : row + 1], targets[row : row + 1]) for row in range(len(targets))])
    expect(torch.allclose(alone, loss, atol=1e-5), "a row's loss should not depend on the other rows")


@check
def check_metrics(subject: Subject) -> None:
    """Metrics equal references, are best for a perfect prediction, and are plain data; unknown ones are refused."""
    task, values, encoded = fitted(subject)
    targets = torch.from_numpy(np.asarray(encoded))
    expect(task.main_metric in task.metrics, f"main_metric {task.main_metric!r} is not among its metrics")
    names = list(task.metrics)
    result = task.evaluate(perfect(task, encoded), targets, names)
    try:
        json.dumps(result)
    except TypeError as error:
        raise AssertionError(f"evaluate should give plain data, but {error}") from error
    missing = [name for name in names if name not in result]
    expect(not missing, f"evaluate was asked for {', '.join(missing)} and does not give them")
    headline = task.headline(result, len(targets))
    expect(headline.strip() and "\n" not in headline, f"headline should be one line, found {headline!r}")
    for guess in guesses(task, encoded):
        _expect_no_better(task, result, task.evaluate(guess, targets, names))
    try:
        task.evaluate(perfect(task, encoded), targets, ["no_such_metric"])
    except OptionError:
        pass
    else:
        raise AssertionError("evaluate should refuse an unknown metric with an OptionError")
    references: dict[str, Callable[[Tensor, Tensor], float]] = {
        **{name: reference for (space, name), reference in REFERENCES.items() if space == task.space},
        **(_in_units(task, values) if task.space == "values" else {}),
        **subject.references,
    }
    compared = sorted(set(references) & set(names))
    for name in compared:
        for guess in guesses(task, encoded):
            found, expected = task.evaluate(guess, targets, [name])[name], references[name](guess, targets)
            close = math.isclose(float(found), expected, rel_tol=1e-4, abs_tol=1e-4)
            expect(close, f"{name} should be {expected:.6g} by its definition, found {found:.6g}")
    if not compared:
        raise Skipped(f"no reference for {', '.join(names)} to compare with; pass references={{...}}")


def _in_units(task: Task, values: list[Any]) -> dict[str, Callable[[Tensor, Tensor], float]]:
    """References for errors in the units of the target column, which the predictions are written in."""
    actual = np.array(values, np.float64).reshape(len(values), -1)

    def written(scores: Tensor) -> NDArray[np.float64]:
        return np.array(list(task.predictions(scores).values())[: task.num_outputs], np.float64).T

    return {
        name: lambda scores, _, reference=reference: reference(written(scores), actual)  # type: ignore[misc]
        for name, reference in IN_UNITS.items()
    }


def _expect_no_better(task: Task, best: dict[str, Any], other: dict[str, Any]) -> None:
    for name, more_is_better in task.metrics.items():
        if not all(isinstance(result[name], int | float) for result in (best, other)):
            continue
        difference = (other[name] - best[name]) * (1 if more_is_better else -1)
        expect(
            not difference > 1e-4,
            f"{name} should be best for a perfect prediction ({best[name]:.4g}), found {other[name]:.4g} for another",
        )


@check
def check_task_state(subject: Subject) -> None:
    """Its state is plain JSON data from which a new one is rebuilt that encodes, scores and predicts the same."""
    task, values, encoded = fitted(subject)
    targets = torch.from_numpy(np.asarray(encoded))
    text = json_text(task.state())
    again = json_text(fitted(subject)[0].state())
    expect(again == text, "the state differs between two fits on the same targets")
    rebuilt = new(subject)
    rebuilt.load_state(json.loads(text))
    count, found = task.num_outputs, rebuilt.num_outputs
    expect(found == count, f"num_outputs should be {count} after a state was loaded, found {found}")
    expect(np.array_equal(rebuilt.encode(values), encoded), "targets are encoded otherwise after a state was loaded")
    for scores in (perfect(task, encoded), *guesses(task, encoded)):
        expect(rebuilt.predictions(scores) == task.predictions(scores), "predictions differ after a state was loaded")
        same = torch.equal(rebuilt.loss(scores, targets), task.loss(scores, targets))
        expect(same, "the loss differs after a state was loaded")
    expect(json_text(rebuilt.state()) == text, "the state differs after a state was loaded")
