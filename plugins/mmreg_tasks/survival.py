"""The task of predicting how soon an event is to be expected, from times of which some are censored.

Axes: B batch, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, MinLen
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Concern, Space, Task
from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import plural
from mmreg_tasks import survival_metrics
from mmreg_tasks.baseline_hazard import BaselineHazard
from mmreg_tasks.concerns import FEW_ROWS
from mmreg_tasks.metrics import check_evaluation
from mmreg_tasks.numbers import short
from mmreg_tasks.survival_targets import EVENT, TIME, times_and_events

ABSENT = -1e30
"""The log-hazard of a row that is in no risk set; its exponential is 0."""


class Survival(Task):
    """How soon an event is to be expected: the log-hazard of Cox's proportional hazards (Cox 1972).

    It reads two columns: a time, and whether the event happened then. Where it did not, the row is censored: all that
    is known is that nothing had happened until that time.

    A head gives a row's log-hazard s. The loss is the negative partial log-likelihood: each event at a time t adds
    log(sum of exp(s_j) over the rows j with a time of t or later) - s, and censored rows add nothing of their own. Of
    events at the same time each is at risk in the terms of the others (Breslow 1974). As in deep survival models
    (DeepSurv, Katzman et al. 2018), the rows at risk are those of the batch, so a batch of few rows compares few: take
    a greater `batch_size`, not `accumulate`, where memory allows. A row's weight multiplies its own term. A batch
    without an event costs nothing.

    Only differences of log-hazards mean anything: exp(s_i - s_j) is how many times as likely the event of row i is at
    any time as that of row j. What averages log-hazards, such as the fusion `mean`, multiplies hazards (their geometric
    mean). For the probability of lasting beyond a time there are `times`: when a training is over, the baseline hazard
    is learned from the training rows (Breslow 1974), in a pass over them, and predictions have a column for each time.

    Args:
        times: Times in the target's unit, ascending: predictions tell how probable it is that a row's event comes
            later than each of them.

    Raises:
        OptionError: the times do not ascend.

    Example:
        >>> task = Survival()
        >>> task.fit([{"time": 5, "event": True}, {"time": 9, "event": "no"}])
        >>> task.encode([{"time": 7.5, "event": 1}]).tolist()
        [[7.5, 1.0]]
    """

    space: ClassVar[Space] = "log_hazards"
    main_metric: ClassVar[str] = "c_index"
    metrics: ClassVar[Mapping[str, bool]] = survival_metrics.METRICS
    columns: ClassVar[tuple[str, ...]] = (TIME, EVENT)
    compares_rows: ClassVar[bool] = True

    def __init__(self, *, times: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(1)] | None = None) -> None:
        if times is not None and any(later <= earlier for earlier, later in pairwise(times)):
            raise OptionError(
                f"times must ascend, each once, found {', '.join(f'{time:g}' for time in times)}: "
                f"write {', '.join(f'{time:g}' for time in sorted(set(times)))}"
            )
        self.times = times or ()
        self.num_outputs = 1
        self.module = self.baseline = BaselineHazard(times) if times else None

    def fit(self, values: Sequence[Any]) -> None:
        """Learn nothing but that there is something to learn.

        Args:
            values: dicts of "time", a number of at least 0, and "event": true or false, 1 or 0, "yes" or "no".

        Raises:
            TargetError: a value that is none, no event, or none before the last time.
        """
        times, events = times_and_events(values)
        rows = plural(len(times), "row")
        if not events.any():
            raise TargetError(f"no event has happened in {rows}, so there is nothing to learn from")
        first = times[events].min()
        if not first < times.max():
            raise TargetError(
                f"the first event, at {short(first)}, is at the last time of {rows}: none is known to have lasted "
                "longer, so there is nothing to learn from"
            )

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Times and whether (1 or 0) the event happened, (N, 2) float32.

        Raises:
            TargetError: a value that is none; see `fit`.
        """
        return np.stack(times_and_events(values), 1).astype(np.float32)

    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        """Few events to learn from, splits without one, and times at which nobody was watched any more."""
        events = {split: int(rows[:, 1].sum()) for split, rows in targets.items()}
        found = []
        if events["train"] < FEW_ROWS:
            told = f"{plural(events['train'], 'training row has', 'training rows have')} an event"
            found.append(Concern(f"{told}; hardly anything can be learned of them"))
        lacking = [split for split, count in events.items() if not count]
        if lacking:
            found.append(Concern(f"no {' and no '.join(lacking)} row has an event; nothing is measured there"))
        end = targets["train"][:, 0].max()
        if self.times and self.times[-1] > end:
            first = next(time for time in self.times if time > end)
            told = f"no training row was watched until {short(first)} (the last until {short(end)})"
            found.append(Concern(f"{told}: the probability of lasting beyond it is that of the last event before"))
        return found

    @property
    def learns_from_scores(self) -> bool:
        """Whether it is asked for probabilities, which need the finished model."""
        return self.baseline is not None

    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        """Learn the baseline hazard of log-hazards (N, 1) and targets (N, 2)."""
        if self.baseline is not None:
            self.baseline.fit(scores[:, 0], targets[:, 0], targets[:, 1] > 0)

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,)."""
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Each event's term of the partial log-likelihood, (B,), of log-hazards (B, 1); 0 for censored rows."""
        return self.loss_among(scores, targets, torch.ones(len(scores), dtype=torch.bool, device=scores.device))

    def loss_among(self, scores: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        """As `loss`, where rows that are not present are at risk in no term."""
        log_hazards = torch.where(present, at_least_float32(scores)[:, 0], ABSENT)
        # From the last time on, the rows at risk are all before; of equal times, up to the last of them.
        falling, order = targets[:, 0].sort(descending=True, stable=True)
        ranked = log_hazards[order]
        last = torch.searchsorted(-falling, -falling, right=True) - 1
        terms = ranked.logcumsumexp(0)[last] - ranked
        happened = (targets[:, 1] > 0) & present
        return torch.where(happened, terms[order.argsort()], 0)

    def scores(self, logits: Tensor) -> Tensor:
        """The log-hazards, (B, 1): the logits as they are."""
        return at_least_float32(logits)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """0, (1,)."""
        return torch.zeros(1)

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows: c_index, Harrell's, and the number of "events".

        The "baseline" says the same of all rows.

        Args:
            scores: (N, 1) log-hazards.
            targets: (N, 2) times and events.
            metrics: names of further ones; there are none.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        times, events = targets.cpu().double().numpy().T
        found = survival_metrics.c_index(scores.detach().cpu().double().numpy()[:, 0], times, events > 0)
        baseline = {"prediction": "the same risk", "c_index": survival_metrics.UNDEFINED}
        return {"c_index": found, "events": int(events.sum()), "baseline": baseline}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The log-hazard as "risk": the greater, the sooner the event is to be expected.

        Beside it stands the probability that it comes later than each of the `times`, such as "survival_365".
        """
        risks = scores.detach().cpu().double()[:, 0]
        lasting = {} if self.baseline is None else self.baseline.lasting(risks)
        return {"risk": risks.tolist(), **{f"survival_{time:.10g}": each.tolist() for time, each in lasting.items()}}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The C-index and the counts behind it."""
        told = plural(result["events"], "event")
        return f"C-index: {result['c_index']:.3g} ({plural(rows, 'row')}, {told}); always saying the same: 0.5"

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
