"""Rows to look at, with their inputs: the most confident wrong ones, those of the greatest loss, some right ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmreg.errors import MmregError
from mmreg.messages import cell, shortened
from mmreg_report.inputs import Inputs
from mmreg_report.labels import LONGEST, label_names
from mmreg_report.markup import Html, escaped, folded, table, tag
from mmreg_report.subject import Subject, Target
from mmreg_report.tables import rows_of

MOST_BYTES = 3_000_000
"""Of all pictures and sounds of the rows, as they stand in the page."""
MOST_WRONG = 30
"""Rows that were told wrong that are shown, besides the first of each cell of the confusion matrix."""
PER_PAIR = 2
MOST_SHOWN = 60
MOST_LOSS = 20
EXAMPLES = 8


def rows(subject: Subject) -> list[Html]:
    """Tables of rows for each target."""
    inputs, parts = Inputs(subject, MOST_BYTES), []
    for target in subject.each_target():
        of = f" of {cell(target.name)}" if target.name else ""
        if target.task.space == "log_probabilities":
            parts += _classified(subject, target, inputs, of)
        else:
            parts += _by_loss(subject, target, inputs, of)
    if inputs.left_out:
        parts.append(tag("p", f"{inputs.left_out} inputs are not shown, as the file would become too large."))
    return parts


def _classified(subject: Subject, target: Target, inputs: Inputs, of: str) -> list[Html]:
    told, chances, order = _told(target)
    wrong = [n for n in order if told[n] != target.targets[n]]
    right = [n for n in order if told[n] == target.targets[n]]
    chosen = _most_confident(target, wrong, told)
    names = label_names(target.task) or [str(k) for k in range(target.task.num_outputs)]
    losses = _losses(target)

    def row(n: int) -> dict[str, Any]:
        pair = int(target.targets[n]), int(told[n])
        facts = {"true": escaped(names[pair[0]]), "told": escaped(names[pair[1]]), "probability": float(chances[n])}
        facts |= {} if losses is None else {"loss": float(losses[n])}
        marker = tag("span", subject.keys[target.rows[n]], data_pair=f"{target.name}/{pair[0]}/{pair[1]}")
        return {subject.key: marker, **facts, **inputs.of(int(target.rows[n]))}

    title = f"Most confident wrong rows{of} ({rows_of(subject.split)}; {len(chosen)} of {len(wrong):,})"
    parts = (
        [table([row(n) for n in chosen], title, stacks=True)] if wrong else [tag("p", f"No row{of} was told wrong.")]
    )
    steps = max(1, len(right) // EXAMPLES)
    some = right[::steps][:EXAMPLES]
    if some:
        parts.append(
            folded("Some rows that were told right", table([row(n) for n in some], f"Right rows{of}", stacks=True))
        )
    return parts


def _told(target: Target) -> tuple[Tensor, Tensor, list[int]]:
    """Of each row the class that is told and its probability; and the rows, that of the greatest probability first."""
    told = target.task.decide(target.scores).cpu()
    chances = target.scores.double().exp().gather(1, told[:, None])[:, 0]
    return told, chances, chances.argsort(descending=True, stable=True).tolist()


def _most_confident(target: Target, wrong: Sequence[int], told: Tensor) -> list[int]:
    """Those of the wrong rows that are shown: the first ones, and some of each pair of classes."""
    chosen: list[int] = []
    pairs: Counter[tuple[int, int]] = Counter()
    for place, n in enumerate(wrong):
        pair = int(target.targets[n]), int(told[n])
        pairs[pair] += 1
        if place < MOST_WRONG or (pairs[pair] <= PER_PAIR and len(chosen) < MOST_SHOWN):
            chosen.append(n)
    return chosen


def shown_places(subject: Subject) -> list[int]:
    """The places among the predicted rows of those that are shown, without the examples of right ones."""
    places: list[int] = []
    for target in subject.each_target():
        chosen: list[int] = []
        if target.task.space == "log_probabilities":
            told, _, order = _told(target)
            chosen = _most_confident(target, [n for n in order if told[n] != target.targets[n]], told)
        elif (losses := _losses(target)) is not None:
            chosen = _worst(losses)
        places += target.rows[chosen].tolist()
    return list(dict.fromkeys(places))


def _worst(losses: Tensor) -> list[int]:
    worst: list[int] = losses.argsort(descending=True, stable=True)[:MOST_LOSS].tolist()
    return worst


def _by_loss(subject: Subject, target: Target, inputs: Inputs, of: str) -> list[Html]:
    losses = _losses(target)
    if losses is None:
        return []
    worst = _worst(losses)
    told = target.task.predictions(target.scores[worst])
    columns = [name for name in told if not name.startswith("probability_")]
    true = target.task.predictions(target.targets[worst]) if target.task.space == "values" else {}
    found = []
    for place, n in enumerate(worst):
        facts: dict[str, Any] = {subject.key: subject.keys[target.rows[n]], "loss": float(losses[n])}
        facts |= {f"true {name}": _short(true[name][place]) for name in columns if name in true}
        facts |= {f"told {name}": _short(told[name][place]) for name in columns}
        if target.task.space == "log_odds":
            names = label_names(target.task) or []
            marked = zip(names, target.targets[n].tolist(), strict=False)
            facts["true"] = _short(", ".join(name for name, there in marked if there > 0.5))
        found.append({**facts, **inputs.of(int(target.rows[n]))})
    return [table(found, f"Rows of the greatest loss{of} ({rows_of(subject.split)})", stacks=True)]


def _losses(target: Target) -> Tensor | None:
    """The loss of each row, (n,); None where rows have none of their own."""
    if target.task.compares_rows:
        return None
    try:
        with torch.no_grad():
            losses = target.task.loss(target.scores, target.targets).double().cpu()
    except (MmregError, RuntimeError, ValueError, NotImplementedError):  # of logits alone, as an ordinal scale's
        return None
    return losses.nan_to_num(0.0, posinf=float("inf"), neginf=0.0) if losses.shape == (len(target.scores),) else None


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return value
    return escaped(shortened(str(value), LONGEST))
