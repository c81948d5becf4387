"""Test-time augmentation: the mean of what is predicted for a row as it is and for augmented versions of it.

Axes: B batch, K classes, R passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmreg.contract.task import Space, Task
from mmreg.errors import OptionError
from mmreg.model.model import Output
from mmreg.model.nodes import Part
from mmreg.model.seeding import Draws, derive


class _Watched(Draws):
    """Draws that know whether anything was drawn."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._begun: list[tuple[torch.Generator, Tensor]] = []

    def generator(self, device: torch.device, name: str) -> torch.Generator:
        made = super().generator(device, name)
        self._begun.append((made, made.get_state()))
        return made

    @property
    def used(self) -> bool:
        return any(not made.get_state().equal(before) for made, before in self._begun)


class Augmented:
    """How rows are augmented.

    What is drawn depends on seed, copy and the batch's number, and within a batch on a row's place: the same rows in
    batches of the same size are augmented alike.

    Args:
        copies: how many augmented versions of each row there are besides the plain one.
        seed: of what is drawn.

    Raises:
        OptionError: there is no version.
    """

    def __init__(self, copies: int, seed: int) -> None:
        if copies < 1:
            raise OptionError(f"augmented must be at least 1, found {copies}")
        self.copies, self.seed = copies, seed

    def draws(self, batch: int) -> Iterator[_Watched]:
        """What the versions of a batch, by its number, draw from."""
        for copy in range(self.copies):
            yield _Watched(derive(self.seed, "augmented", copy, batch))

    def check(self, draws: _Watched) -> None:
        """Refuse to predict the same twice.

        Raises:
            OptionError: no modality has drawn anything.
        """
        if not draws.used:
            raise OptionError(
                "no modality of this run augments, so that all versions of a row are the same; leave augmented out, or "
                "train with an option that augments"
            )


def averaged(outputs: Sequence[Output], task: Task) -> Output:
    """The mean of several predictions for the same rows; of extras the plain mean."""
    parts = {}
    for name, part in outputs[0].parts.items():
        scores = torch.stack([task.scores(output.parts[name].scores) for output in outputs])
        parts[name] = Part(_mean_scores(scores, task), part.present)
    extras = {name: torch.stack([output.extras[name] for output in outputs]).mean(0) for name in outputs[0].extras}
    scores = _mean_scores(torch.stack([output.scores for output in outputs]), task)
    return replace(outputs[0], scores=scores, parts=parts, extras=extras)


def _mean_scores(scores: Tensor, task: Task) -> Tensor:
    """The mean of R predictions (R, B, K) of a task, each target in its own space, (B, K)."""
    return torch.cat([mean_scores(each.scores(scores), each.task.space) for each in task.targets().values()], -1)


def mean_scores(scores: Tensor, space: Space) -> Tensor:
    """The scores (B, K) of the mean of what R predictions (R, B, K) say: of probabilities, or of numbers."""
    if space not in ("log_probabilities", "log_odds"):
        return scores.mean(0)
    count = math.log(len(scores))
    if space == "log_probabilities":
        return scores.logsumexp(0) - count
    return logsigmoid(scores).logsumexp(0) - logsigmoid(-scores).logsumexp(0)
