"""What training minimises: the losses of everything that is supervised, and the extra terms that components add."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmreg.contract.task import Task
from mmreg.model.model import Output


def total_loss(
    output: Output,
    targets: Tensor,
    weights: Tensor,
    task: Task,
    total_weight: float | Tensor,
    share: float,
    progress: float | Tensor,
    among: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
    """The loss of a batch, as its part of a step that may take several batches.

    The sum over a row's losses is weighted by the row, and divided by the weight of all rows of the step: so uneven
    last batches, accumulation and many processes give the same mean. A part of a model-level fusion has no loss on
    rows that lack it.

    Args:
        output: of the model.
        targets: as the task encodes them.
        weights: (B,).
        task: whose loss it is.
        total_weight: the weight of all rows of the step.
        share: the share of the step's rows that are in this batch; weighs the extra terms, which are means.
        progress: the part of the training that is done.
        among: what is called in the place of the task's `loss_among`, where several processes train.

    Returns:
        The loss, and detached, by part and name: the unweighted "loss" of each part, and each extra term (one that a
        component itself calls "loss" is an "extra_loss").
    """
    loss = weights.new_zeros(())
    named: dict[tuple[str, str], Tensor] = {}
    for supervised in output.supervised:
        rows = None
        if supervised.fusion is not None:
            rows = supervised.fusion.part_loss(supervised.logits, targets, progress)
        if rows is None:
            rows = (among or task.loss_among)(supervised.logits, targets, supervised.present)
        own = torch.where(supervised.present, rows * weights, 0).sum() / total_weight
        loss = loss + supervised.weight * own
        if supervised.name:
            named[supervised.name, "loss"] = own.detach()
    for (component, name), extra in output.losses.items():
        loss = loss + extra * share
        named[component, "extra_loss" if name == "loss" else name] = extra.detach() * share
    return loss, named
