"""What the checks of a task without a target need: scores that are vectors of its inputs, and features for its head.

Axes: N rows, B batch, M inputs, D features, K = M D.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmreg.contract.task import Task
from mmreg.testing.expectations import Skipped, expect, expect_finite, expect_same, expect_shapes

INPUTS = ("image", "text")
"""The inputs of a task that has no target."""
SIZES = dict(zip(INPUTS, (5, 3), strict=True))
"""The sizes of their features."""


def perfect_vectors(task: Task, rows: int) -> Tensor:
    """Scores (N, K) of somebody who knows what belongs together: a row's vectors are one, at right angles to others'.

    Raises:
        Skipped: the vectors are too short for that.
    """
    size = task.num_outputs // len(INPUTS)
    if size < rows:
        raise Skipped(f"its vectors are of {size} numbers, fewer than the {rows} rows that it is tried with")
    return task.scores(torch.eye(rows, size).repeat(1, len(INPUTS)))


def mismatched(task: Task, scores: Tensor, shift: int = 1) -> Tensor:
    """The same scores (N, K), but each row has the first input's vector of another one."""
    size = task.num_outputs // len(INPUTS)
    return torch.cat([scores[:, :size].roll(shift, 0), scores[:, size:]], 1)


def expect_unit_vectors(what: str, scores: Tensor) -> None:
    """Each input's vector among scores (N, K) is of length one, or zero."""
    lengths = scores.double().reshape(len(scores), len(INPUTS), -1).norm(dim=2)
    wrong = float(torch.minimum(lengths, (lengths - 1).abs()).max())
    expect(wrong < 1e-3, f"{what}: vectors should be of length one, or zero, found lengths {wrong:.2g} away")


def expect_batch_loss(task: Task, scores: Tensor, targets: Tensor) -> None:
    """A row's loss may depend on the batch's other rows, but neither on their order nor on those without any vector."""
    loss = task.loss(scores, targets)
    turned = task.loss(scores.flip(0), targets).flip(0)
    expect_same({"a row's loss": turned}, {"a row's loss": loss}, "in any order", 1e-4)
    empty = torch.cat([scores, torch.zeros_like(scores[:2])]).requires_grad_()
    among = task.loss(empty, torch.cat([targets, targets[:2]]))
    expect_same({"a row's loss": among[: len(loss)]}, {"a row's loss": loss}, "beside rows without any vector", 1e-4)
    among.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    finite = empty.grad is not None and empty.grad.isfinite().all()
    expect(finite, "the gradient should be finite, also for rows without any vector")
    expect_finite({"the loss": task.loss(torch.zeros_like(scores), targets)}, "where no row has a vector")


def expect_head(task: Task) -> None:
    """Its head makes logits of its inputs' features, and absent ones have no influence on them."""
    generator = torch.Generator().manual_seed(3)
    present = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    features = {name: torch.randn(len(present), size, generator=generator) for name, size in SIZES.items()}
    head = task.head(SIZES)
    logits = head(features, present)
    expect_shapes({"logits": logits}, {"logits": (len(present), task.num_logits)})
    expect_finite({"logits": logits}, "always")
    for at, (name, each) in enumerate(features.items()):
        others = torch.where(present[:, at, None], each, torch.nan)
        changed = head({**features, name: others}, present)
        expect_same({"logits": changed}, {"logits": logits}, f"whatever absent rows of {name} hold", 1e-6)
    changed.sum().backward()
    gradients = [parameter.grad for parameter in head.parameters() if parameter.requires_grad]
    finite = all(each is not None and each.isfinite().all() for each in gradients)
    expect(finite, "the gradients of its head should be finite, whatever absent rows hold")
