"""The one number of a prediction that is explained: a probability, or a value in the target's units.

Axes: B rows, K scores of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Task
from mmreg.errors import OptionError
from mmreg.messages import listed, near

PROBABILITY = "probability_"
"""How the columns of predictions begin that hold a class's or label's probability."""


class Answer(Protocol):
    """What is explained of each row.

    Attributes:
        what: in a few words, such as "probability of the predicted class".
    """

    what: str

    def choose(self, scores: Tensor) -> tuple[NDArray[np.int64], list[str]]:
        """For rows with these scores (B, K): which output is explained of each, (B,), and what it is called."""

    def worth(self, scores: Tensor, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the chosen outputs (B,) come to by scores (..., B, K): (..., B)."""

    def slope(self, scores: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        """As `worth` of scores (B, K), as a tensor (B,) with a gradient; of numbers in the model's own units."""


class Probabilities:
    """The probability of a class or label: that of the given name, or of the one that each row is predicted to have.

    Args:
        task: its space is `log_probabilities` or `log_odds`.
        own: takes the task's scores out of the model's.
        name: None for the predicted one.
    """

    def __init__(self, task: Task, own: _Own, name: str | None) -> None:
        self._task, self._own = task, own
        self._exclusive = task.space == "log_probabilities"
        columns = list(task.predictions(torch.zeros(1, task.num_outputs)))
        names = [each.removeprefix(PROBABILITY) for each in columns if each.startswith(PROBABILITY)]
        self._names = names if len(names) == task.num_outputs else [str(k) for k in range(task.num_outputs)]
        self._given = None if name is None else _place(name, self._names)
        kind, most = ("class", "predicted class") if self._exclusive else ("label", "most probable label")
        self.what = f"probability of the {most}" if name is None else f"probability of the {kind} {name!r}"

    def choose(self, scores: Tensor) -> tuple[NDArray[np.int64], list[str]]:
        """See `Answer.choose`."""
        own = self._own(scores).cpu()
        if self._given is not None:
            chosen = np.full(len(own), self._given)
        else:
            chosen = (self._task.decide(own) if self._exclusive else own.argmax(1)).numpy()
        return chosen, [self._names[k] for k in chosen.tolist()]

    def worth(self, scores: Tensor, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Answer.worth`."""
        own = self._own(scores).cpu().double()
        index = torch.from_numpy(chosen).expand(own.shape[:-1])[..., None]
        return self._probability(own.gather(-1, index)[..., 0]).numpy()

    def slope(self, scores: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        """See `Answer.slope`."""
        index = torch.from_numpy(chosen).to(scores.device)[:, None]
        return self._probability(self._own(scores).gather(1, index)[:, 0])

    def _probability(self, scores: Tensor) -> Tensor:
        return scores.exp() if self._exclusive else scores.sigmoid()


class Numbers:
    """A number that the task predicts, in the target's units.

    Args:
        task: its space is `values`, `quantiles` or `log_hazards`.
        own: takes the task's scores out of the model's.
        name: that of a column of predictions; None for the only one, or of quantiles the middle one.

    Raises:
        OptionError: there are several and none is named.
    """

    def __init__(self, task: Task, own: _Own, name: str | None) -> None:
        self._task, self._own = task, own
        self._names = list(task.predictions(torch.zeros(1, task.num_outputs)))[: task.num_outputs]
        if name is None and len(self._names) > 1 and task.space != "quantiles":
            raise OptionError(
                f"the task predicts {len(self._names)} numbers a row: name the one to explain by --of (of=...): "
                f"{listed(self._names)}"
            )
        self._given = len(self._names) // 2 if name is None else _place(name, self._names)
        self.what = self._names[self._given] if task.space != "log_hazards" else "logarithm of the hazard"

    def choose(self, scores: Tensor) -> tuple[NDArray[np.int64], list[str]]:
        """See `Answer.choose`."""
        return np.full(len(scores), self._given), [self._names[self._given]] * len(scores)

    def worth(self, scores: Tensor, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Answer.worth`."""
        own = self._own(scores).cpu()
        columns = self._task.predictions(own.reshape(-1, own.shape[-1]))
        return np.array(columns[self._names[self._given]], np.float64).reshape(own.shape[:-1])

    def slope(self, scores: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        """See `Answer.slope`."""
        return self._own(scores)[:, self._given]


class _Own(Protocol):
    def __call__(self, scores: Tensor) -> Tensor: ...


def answer_of(task: Task, of: str | None = None, target: str | None = None) -> Answer:
    """What is to be explained of a run's predictions.

    Args:
        task: the run's.
        of: a class, a label, or the column of one of several numbers; None for the predicted class, the most probable
            label, the only number, or the middle quantile.
        target: which of several targets.

    Raises:
        OptionError: the task predicts nothing that can be shared out, or there is no such output or target.
    """
    targets = task.targets()
    if len(targets) == 1 and target is None:
        ((_, chosen),) = targets.items()
    elif target is None:
        raise OptionError(f"the run predicts {len(targets)} targets: name one by --target: {listed(targets)}")
    elif target not in targets:
        known = [name for name in targets if name]
        told = f"its targets are {listed(known)}" if known else "it has one target, which needs no name"
        raise OptionError(f"the run predicts no target {target!r}{near(target, known)}; {told}")
    else:
        chosen = targets[target]
    own = chosen.task
    answer: Probabilities | Numbers | None = None
    if own.space in ("log_probabilities", "log_odds"):
        answer = Probabilities(own, chosen.scores, of)
    elif own.space in ("values", "quantiles", "log_hazards"):
        answer = Numbers(own, chosen.scores, of)
    if answer is not None:
        answer.what = answer.what if target is None else f"{answer.what} of {target}"
        return answer
    raise OptionError(
        f"the task {type(own).__name__} predicts {own.space}, no probability or number that modalities could have a "
        "share in; explain a run that predicts a target"
    )


def _place(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise OptionError(f"of: there is no {name!r} to explain{near(name, names)}; there are {listed(names)}")
    return names.index(name)
