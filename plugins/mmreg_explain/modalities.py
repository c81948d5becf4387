"""Which modality decided: Shapley values over subsets of modalities, in which the others are absent.

Axes: B rows of a batch, R rows, n modalities, S subsets, Q independent estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from mmreg import Run
from mmreg.errors import OptionError, RunError
from mmreg_explain.answer import Answer, answer_of
from mmreg_explain.choosing import chosen_rows
from mmreg_explain.explanation import Explanation
from mmreg_explain.sampling import ROUNDS, SampledCoalitions, standard_error
from mmreg_explain.shapley import MOST_EXACT, AllCoalitions, Coalitions


def explain(
    run: Run,
    table: Any,
    *,
    rows: Iterable[int] | None = None,
    of: str | None = None,
    target: str | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Explanation:
    """Share out what a run predicts for each row among its modalities.

    A modality that is not in a subset is absent, as an empty cell in the table is; without any, the model says the
    training prior. Each modality is encoded once, whatever the number of subsets.

    Args:
        run: as `mmreg.load` gives it.
        table: rows, as `Run.predict` takes them.
        rows: the numbers of those that are explained, from 1; None for all.
        of: a class, a label, or the column of one of several numbers; None for the predicted class, the most probable
            label, the only number, or the middle quantile.
        target: which of several targets.
        rounds: of more than 10 modalities, how many rounds of random orders are asked, at least 2.
        seed: of these.
        batch_size: rows at a time; the run's if not given.
        progress: told of rows: how many are done, their number, and what is done.

    Raises:
        OptionError: the run's task predicts nothing that can be shared out, or something that is named is not there.
        TableError: the table is unreadable or has none of the run's columns.
        RunError: there is no row to explain.
    """
    answer = answer_of(run.task, of, target)
    coalitions = coalitions_of(len(run.inputs), rounds, seed)
    given = run.prepare(chosen_rows(run, table, rows), progress=progress)
    if not len(given):
        raise RunError("there are no rows to explain")
    return _explained(run, given, answer, coalitions, batch_size, progress)


def coalitions_of(players: int, rounds: int, seed: int) -> Coalitions:
    """All subsets of so many modalities, or of more than 10 random ones."""
    if players <= MOST_EXACT:
        return AllCoalitions(players)
    if rounds < 2:
        raise OptionError(f"rounds must be at least 2, so that their spread tells the error; found {rounds}")
    return SampledCoalitions(players, rounds, seed)


def _explained(
    run: Run,
    given: Any,
    answer: Answer,
    coalitions: Coalitions,
    batch_size: int | None,
    progress: Callable[[int, int, str], object] | None,
) -> Explanation:
    names, count = list(run.inputs), len(given)
    exact = isinstance(coalitions, AllCoalitions)
    members = coalitions.members
    values, base = np.zeros(count), np.zeros(count)
    shapley, interactions = np.zeros((count, len(names))), np.zeros((count, len(names), len(names)))
    errors = None if exact else np.zeros_like(shapley)
    sums: Any = 0
    outputs = [""] * count
    done = 0
    for batch in run.row_inputs(given, batch_size):
        with torch.no_grad():
            whole = batch.scores()
            chosen, called = answer.choose(whole)
            worths = np.stack([answer.worth(_scores(run, batch, subset), chosen) for subset in members])
        estimates, pairs = coalitions.attribute(worths)
        index = batch.index
        values[index], base[index] = worths[-1], worths[0]
        shapley[index], interactions[index] = estimates.mean(0), pairs.mean(0)
        if errors is not None:
            errors[index] = standard_error(estimates)
        sums = sums + pairs.sum(1)
        for place, name in zip(index.tolist(), called, strict=True):
            outputs[place] = name
        done += len(index)
        if progress is not None:
            progress(done, count, "explaining rows")
    key, keys = given.keys()
    there = given.present()
    present = np.stack([np.any([there[each] for each in run.inputs[name]], 0) for name in names], 1)
    return Explanation(
        what=answer.what,
        modalities=names,
        key=key,
        keys=keys,
        outputs=outputs,
        values=values,
        base=base,
        shapley=shapley,
        interactions=interactions,
        present=present,
        exact=exact,
        errors=errors,
        subsets=len(members),
        estimates=sums / count,
    )


def _scores(run: Run, batch: Any, subset: Any) -> torch.Tensor:
    """What the model says of a batch with some modalities alone."""
    left_out = [
        each for name, inside in zip(run.inputs, subset, strict=True) if not inside for each in run.inputs[name]
    ]
    return batch.scores(absent=left_out)  # type: ignore[no-any-return]
