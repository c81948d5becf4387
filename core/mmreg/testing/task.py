"""Checks of tasks: labels, scores, losses, metrics, state.

Axes: B batch, N rows, K outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.target_values import TargetValues
from mmreg.contract.task import Concern, Space, Task
from mmreg.errors import MmregError, OptionError, TargetError
from mmreg.testing.devices import expect_to_move
from mmreg.testing.expectations import (
    Skipped,
    expect,
    expect_finite,
    expect_refused,
    expect_same,
    expect_shapes,
    json_text,
)
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject
from mmreg.testing.task_vectors import (
    expect_batch_loss,
    expect_head,
    expect_unit_vectors,
    mismatched,
    perfect_vectors,
)
from mmreg.testing.values import first_taken

CLASSES = ["cat", "dog", "bird", "dog", "cat", "bird", "bird", "cat", "dog", "cat", "bird", "dog"]
LABELS = [["a", "b"], ["b"], ["c"], [], ["a"], ["a", "c"], ["b", "c"], ["c"], ["a", "b", "c"], ["b"], [], ["a"]]
NUMBERS = [1.5, -2.0, 0.25, 3.0, -0.5, 7.0, 2.0, 1.0, 0.0, -4.5, 2.5, 6.0]
ROWS = [[1.5, -2.0], [0.25, 3.0], [-0.5, 7.0], [2.0, 1.0], [0.5, -4.5], [2.5, 6.0], [1.0, 0.0], [3.0, 3.5]]
TIMES = [{"time": 1 + 7 * row % 12, "event": row % 3 > 0} for row in range(12)]
USUAL: Mapping[Space, list[Any]] = {
    "log_probabilities": CLASSES,
    "log_odds": LABELS,
    "values": NUMBERS,
    "quantiles": NUMBERS,
    "log_hazards": TIMES,
}
"""By space, the target column that a task is tried with first if its author names none."""

CERTAIN = 30.0
"""The logit of what is certain."""


def targets_of(subject: Subject) -> list[Any]:
    """The target column to test a task with; `Skipped` if none was given, and it takes none of the usual ones."""
    if subject.targets:
        return list(subject.targets)
    if not subject.cls.needs_target:
        return [None] * len(CLASSES)

    def take(values: Sequence[Any]) -> None:
        task = subject.new()
        task.fit(values)
        task.encode(values)

    first = USUAL.get(subject.cls.space, [])
    return first_taken(
        [first, CLASSES, LABELS, NUMBERS, ROWS, [1, 2, 3, 1, 3, 2, 1, 2, 1, 3, 2, 3]],
        take,
        "it takes none of the usual target columns; pass targets=[...]",
    )


def fitted(subject: Subject) -> tuple[Task, list[Any], NDArray[Any], Tensor]:
    """A fitted task, its target column, and what it encodes that to, as an array and as a tensor."""
    values = targets_of(subject)
    task = subject.new()
    task.fit(values)
    targets = task.encode(values)
    return task, values, targets, torch.from_numpy(targets)


def perfect(task: Task, targets: Tensor) -> Tensor:
    """The scores (N, K) of somebody who knows the targets, and is certain."""
    if task.space == "vectors":
        return perfect_vectors(task, len(targets))
    if task.space == "log_probabilities":
        return task.scores(CERTAIN * torch.nn.functional.one_hot(targets.long(), task.num_outputs).float())
    if task.space == "log_hazards":
        return task.scores(-CERTAIN * targets[:, :1])
    return task.scores(CERTAIN * (2 * targets.float() - 1) if task.space == "log_odds" else targets.float())


def guesses(task: Task, targets: Tensor) -> list[Tensor]:
    """Scores (N, K) of others who know less: random ones, those of other rows, nearly perfect ones, doubts."""
    generator = torch.Generator().manual_seed(0)
    best = perfect(task, targets)
    random = [task.scores(torch.randn(len(best), task.num_logits, generator=generator)) for _ in range(4)]
    if task.space == "vectors":
        return [*random, mismatched(task, best), mismatched(task, best, 5), task.scores(best + random[0]), -best]
    wrong = [best.roll(1, 0), best.flip(0)]
    probable = task.space in ("log_probabilities", "log_odds")
    doubtful = task.scores(best.clamp(-CERTAIN, CERTAIN) / 40 if probable else best + 0.1)
    return [*random, *wrong, doubtful, -best if task.space != "log_probabilities" else task.scores(-best.clamp(-30, 0))]


@check("task")
def check_targets(subject: Subject) -> None:
    """Targets are encoded in the form and dtype of the task's space, and K is known."""
    task, values, targets, _ = fitted(subject)
    count, rows = task.num_outputs, len(values)
    expect(isinstance(count, int) and count >= 1, f"num_outputs should be a number from 1 on, found {count!r}")
    if task.space == "log_probabilities":
        _expect_array("classes", targets, np.int64, rows)
        expect(targets.min() >= 0 and targets.max() < count, f"classes should be below {count}, found {targets.max()}")
    else:
        size = 2 if task.space == "log_hazards" else count if task.needs_target else 0
        _expect_array("targets", targets, np.float32, rows, size)
    weights = task.row_weights(targets)
    _expect_array("row weights", weights, np.float32, rows)
    expect((weights >= 0).all(), "row weights should not be negative")


@check("task")
def check_columns(subject: Subject) -> None:
    """A table's column is learned from and encoded as a list of the same values is."""
    task, values, encoded, _ = fitted(subject)
    try:
        cells = pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, TypeError, ValueError):
        raise Skipped("Arrow cannot hold its target column") from None
    column, again = TargetValues(cells), subject.new()
    if list(column) != values:
        raise Skipped("Arrow holds its target column as other values")
    again.fit_column(column)
    state, by_list = json_text(again.state(), "the state"), json_text(task.state(), "the state")
    expect(state == by_list, f"after fit_column the state should be {by_list}, as after fit, found {state}")
    same = np.array_equal(again.encode_column(column), encoded)
    expect(same, "encode_column should give what encode gives")


def _expect_array(what: str, array: NDArray[Any], dtype: Any, *shape: int) -> None:
    fits = array.dtype == dtype and array.shape == shape
    expect(fits, f"{what} should be {shape} {np.dtype(dtype)}, found {array.shape} {array.dtype}")
    expect(np.isfinite(array).all(), f"{what} should be finite")


@check("task")
def check_labels_round_trip(subject: Subject) -> None:
    """What it writes for a perfect prediction is what the target column held."""
    task, values, encoded, targets = fitted(subject)
    if task.space == "log_hazards":
        raise Skipped("it predicts risks, which are no times")
    columns = task.predictions(perfect(task, targets))
    for name, column in columns.items():
        expect(len(column) == len(values), f"the column {name!r} should have {len(values)} rows, found {len(column)}")
    json_text(columns, "predictions", strict=False)
    if not task.needs_target:
        return
    # The words of the target column come first, as one column, or as one for each of its numbers.
    first = next(iter(columns.values()))
    together = [list(row) for row in zip(*list(columns.values())[: task.num_outputs], strict=True)]
    for written in (first, together):
        try:
            again = task.encode(written)
        except MmregError:
            continue
        if np.allclose(again, encoded, rtol=1e-4, atol=1e-4):
            return
    raise AssertionError(
        f"its predictions should be the targets where they are perfect: expected {values[:4]}, found {first[:4]} in "
        f"the column {next(iter(columns))!r}"
    )


@check("task")
def check_bad_targets(subject: Subject) -> None:
    """A target that is missing or cannot be one is refused with a `TargetError`, never encoded or let through."""
    if not subject.cls.needs_target:
        raise Skipped("it has no target")
    values = targets_of(subject)
    for what, bad in {"a missing value": None, "NaN": float("nan"), "an object": object()}.items():
        for call, column in (("fit", [*values, bad]), ("encode", [values[0], bad])):
            task = subject.new()
            task.fit(values)
            expect_refused(partial(getattr(task, call), column), TargetError, f"{call}: {what}")
    expect_refused(lambda: subject.new().fit([]), TargetError, "fit: a column without rows")


@check("task")
def check_concerns(subject: Subject) -> None:
    """What it says about the targets is a line each, with options that it takes and a metric that it has."""
    task, _, targets, _ = fitted(subject)
    for splits in ({"train": targets}, {"train": targets, "validation": targets[:1], "test": targets[1:2]}):
        for concern in task.concerns(splits):
            line = isinstance(concern, Concern) and concern.text.strip() and "\n" not in concern.text
            expect(line, f"concerns should be `Concern`s with one line of text each, found {concern!r}")
            subject.cls(**{**subject.options, **concern.options})
            expect(concern.metric is None or concern.metric in task.metrics, f"there is no metric {concern.metric!r}")


@check("task")
def check_scores(subject: Subject) -> None:
    """Scores lie in the task's space and are their own scores; so does the prior, which rows without anything get."""
    task, _, encoded, _ = fitted(subject)
    if not task.needs_target:
        expect_head(task)
    logits = 3 * torch.randn(7, task.num_logits, generator=torch.Generator().manual_seed(1))
    scores, prior = task.scores(logits), task.prior(encoded, task.row_weights(encoded))
    outputs = (task.num_outputs,)
    expect_shapes({"scores": scores, "the prior": prior}, {"scores": (7, *outputs), "the prior": outputs})
    expect_same({"scores": task.scores(scores)}, {"scores": scores}, "made of scores", 1e-5)
    alone = torch.cat([task.scores(logits[row : row + 1]) for row in range(len(logits))])
    expect_same({"scores": alone}, {"scores": scores}, "a row alone", 1e-5)
    for what, values in {"scores": scores, "the prior": prior[None], "half": task.scores(logits.half())}.items():
        expect_finite({what: values}, "always")
        if task.space == "log_probabilities":
            total = float(values.double().logsumexp(1).abs().max())
            expect(total < 1e-3, f"{what}: probabilities should sum to one, found sums {total:.2g} away in log")
        if task.space == "vectors":
            expect_unit_vectors(what, values)


@check("task")
def check_loss(subject: Subject) -> None:
    """A row's loss is least for a perfect prediction, finite, the same of logits and scores, and among absent rows."""
    task, _, _, targets = fitted(subject)
    best = task.loss(perfect(task, targets), targets)
    for guess in (perfect(task, targets), *guesses(task, targets)):
        loss = task.loss(guess, targets)
        expect_shapes({"a row's loss": loss}, {"a row's loss": (len(targets),)})
        expect_finite({"the loss": loss}, "for every prediction")
        # Where rows are compared, one's loss may well be lower at the cost of another's.
        lowest = float((loss - best).detach().sum() if task.compares_rows else (loss - best).detach().min())
        expect(lowest >= -1e-5, f"a perfect prediction should have the lowest loss, found one {-lowest:.3g} lower")
    wrong = perfect(task, targets)
    shuffled = task.loss(mismatched(task, wrong) if task.space == "vectors" else wrong.roll(1, 0), targets)
    worse = float((shuffled.sum() - best.sum()).detach())
    expect(worse > 1e-3, "the loss should be greater where predictions are wrong")
    logits = torch.randn(len(targets), task.num_logits, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = task.loss(logits, targets)
    expect_same({"a row's loss": task.loss(task.scores(logits), targets)}, {"a row's loss": loss}, "of scores", 1e-4)
    loss.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    expect(logits.grad is not None and logits.grad.isfinite().all(), "the loss should have a finite gradient")
    if task.space == "vectors":
        expect_batch_loss(task, logits.detach(), targets)
        return
    _check_rows_apart(task, logits.detach(), targets)


def _check_rows_apart(task: Task, logits: Tensor, targets: Tensor) -> None:
    """Rows that are not there have no influence; nor has any other row, unless the task says that it compares them."""
    loss, rows = task.loss(logits, targets), len(targets)
    expect_same(
        {"loss_among": task.loss_among(logits, targets, torch.ones(rows).bool())}, {"loss_among": loss}, "of all"
    )
    present = torch.arange(rows) % 3 > 0
    absent = torch.where(present[:, None], logits, math.nan).requires_grad_()
    found = task.loss_among(absent, targets, present)[present]
    alone = task.loss(logits[present], targets[present])
    expect_same({"a row's loss": found}, {"a row's loss": alone}, "beside rows that are not there", 1e-5)
    if task.compares_rows:
        found.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        free = absent.grad is not None and absent.grad.isfinite().all() and not absent.grad[~present].any()
        expect(free, "rows that are not there should have no gradient")
        return
    each = torch.cat([task.loss(logits[row : row + 1], targets[row : row + 1]) for row in range(rows)])
    expect_same({"a row's loss": each}, {"a row's loss": loss}, "a row alone", 1e-5)


@check("task")
def check_task_devices(subject: Subject) -> None:
    """On a GPU, where the model is, scores and losses stay there and are the same; without one, nothing is mixed."""
    task, _, _, targets = fitted(subject)
    logits = torch.randn(len(targets), task.num_logits, generator=torch.Generator().manual_seed(0))

    def computed(device: str) -> dict[str, Tensor]:
        on_device = logits.to(device)
        return {"scores": task.scores(on_device), "the loss": task.loss(on_device, targets.to(device))}

    expect_to_move(computed)


@check("task")
def check_metrics(subject: Subject) -> None:
    """Metrics equal references, are best for a perfect prediction, and are plain data; unknown ones are refused."""
    task, _, _, targets = fitted(subject)
    expect(task.main_metric in task.metrics, f"main_metric {task.main_metric!r} is not among its metrics")
    names, best = list(task.metrics), perfect(task, targets)
    result = task.evaluate(best, targets, names)
    json_text(result, "metrics", strict=False)
    missing = [name for name in names if name not in result]
    expect(not missing, f"evaluate was asked for {', '.join(missing)} and does not give them")
    headline = task.headline(result, len(targets))
    expect(headline.strip() and "\n" not in headline, f"headline should be one line, found {headline!r}")
    for guess in guesses(task, targets):
        other = task.evaluate(guess, targets, names)
        for name, more_is_better in task.metrics.items():
            if all(isinstance(each[name], int | float) for each in (result, other)):
                difference = (other[name] - result[name]) * (1 if more_is_better else -1)
                found = f"{other[name]:.4g}, but {result[name]:.4g} for the perfect one"
                expect(not difference > 1e-4, f"{name} should be best for a perfect prediction, found {found}")
    expect_refused(lambda: task.evaluate(best, targets, ["no_such_metric"]), OptionError, "evaluate: an unknown metric")
    unknown = sorted(set(subject.references) - set(names))
    expect(not unknown, f"there are references for {', '.join(unknown)}, which it does not have")
    for name, reference in subject.references.items():
        for guess in guesses(task, targets):
            found, expected = task.evaluate(guess, targets, [name])[name], reference(guess, targets)
            expect(_close(found, expected), f"{name} should be {expected:.6g} by its definition, found {found}")
    if not subject.references:
        raise Skipped(f"no reference for {', '.join(names)} to compare with; pass references={{...}}")


def _close(found: Any, expected: float) -> bool:
    """Whether a metric is what it should be; what is undefined may be NaN, None, or an empty mapping."""
    if math.isnan(expected):
        return found is None or found == {} or found != found
    return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-4)


@check("task")
def check_task_state(subject: Subject) -> None:
    """Its state is plain JSON data from which a new one is rebuilt that encodes, scores and predicts the same."""
    task, values, encoded, targets = fitted(subject)
    text = json_text(task.state())
    again = json_text(fitted(subject)[0].state())
    expect(again == text, "the state differs between two fits on the same targets")
    rebuilt = subject.new()
    rebuilt.load_state(json.loads(text))
    count, found = task.num_outputs, rebuilt.num_outputs
    expect(found == count, f"num_outputs should be {count} after a state was loaded, found {found}")
    expect(np.array_equal(rebuilt.encode(values), encoded), "targets are encoded otherwise after a state was loaded")
    for scores in (perfect(task, targets), *guesses(task, targets)):
        ours, theirs = (json_text(each.predictions(scores), "predictions", strict=False) for each in (task, rebuilt))
        expect(ours == theirs, "predictions differ after a state was loaded")
        same = torch.equal(rebuilt.loss(scores, targets), task.loss(scores, targets))
        expect(same, "the loss differs after a state was loaded")
    expect(json_text(rebuilt.state()) == text, "the state differs after a state was loaded")


@check("task")
def check_fit_scores(subject: Subject) -> None:
    """What it learns of a finished model's scores is finite and in its module, and changes no state, score or loss."""
    task, _, _, targets = fitted(subject)
    if not task.learns_from_scores:
        raise Skipped("it learns nothing of a finished model's scores")
    guess = guesses(task, targets)[0]
    state, before = json_text(task.state()), {"scores": task.scores(guess), "the loss": task.loss(guess, targets)}
    task.fit_scores(guess, targets)
    expect(json_text(task.state()) == state, "the state was saved before fit_scores, so this should not change it")
    expect_same({"scores": task.scores(guess), "the loss": task.loss(guess, targets)}, before, "after fit_scores")
    learned = {} if task.module is None else task.module.state_dict()
    expect_finite(learned, "what fit_scores learned, as it is saved")
    rebuilt = subject.new()
    rebuilt.load_state(json.loads(state))
    if rebuilt.module is not None:
        rebuilt.module.load_state_dict(learned)
    ours, theirs = (json_text(each.predictions(guess), "predictions", strict=False) for each in (task, rebuilt))
    expect(ours == theirs, "predictions differ once state and module were loaded: put what is learned into buffers")
