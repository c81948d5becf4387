"""The baseline hazard: with it, a row's log-hazard becomes the probability of lasting beyond a time.

Axes: N rows, T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

NEVER = -1e30
"""The logarithm of a hazard that adds nothing; its exponential is 0."""


class BaselineHazard(nn.Module):
    """The cumulative baseline hazard at some times (Breslow 1974), which a finished model's log-hazards tell.

    Until time t it is the sum, over the events up to then, of one over the sum of exp(s_j) of the rows j still at risk.
    A row of log-hazard s lasts until t with the probability exp(-hazard(t) exp(s)).

    Args:
        times: ascending.
    """

    log_hazards: Tensor
    is_known: Tensor

    def __init__(self, times: Sequence[float]) -> None:
        super().__init__()
        self.times = tuple(times)
        self.register_buffer("log_hazards", torch.full((len(times),), NEVER))
        self.register_buffer("is_known", torch.zeros((), dtype=torch.bool))

    def fit(self, log_hazards: Tensor, times: Tensor, events: Tensor) -> None:
        """Learn it from rows whose times are known.

        Args:
            log_hazards: (N,) what the model says of them.
            times: (N,) until when each was watched.
            events: (N,) bool, whether the event happened then.
        """
        falling, order = times.double().sort(descending=True, stable=True)
        # Of equal times all are at risk.
        last = torch.searchsorted(-falling, -falling, right=True) - 1
        at_risk = log_hazards.double()[order].logcumsumexp(0)[last]
        steps = torch.where(events[order], -at_risk, NEVER)
        for number, time in enumerate(self.times):
            until = steps[falling <= torch.tensor(time).to(times.dtype)]  # rounded as the rows' times are
            self.log_hazards[number] = until.logsumexp(0).clamp(min=NEVER).float() if len(until) else NEVER
        self.is_known.fill_(True)

    def lasting(self, log_hazards: Tensor) -> dict[float, Tensor]:
        """The probability (N,) of lasting beyond each time, by log-hazards (N,); empty before `fit`."""
        if not self.is_known:
            return {}
        known = self.log_hazards.to(log_hazards.device).double()
        exponents = (known[:, None] + log_hazards.double()).exp()
        return dict(zip(self.times, cast("list[Tensor]", list((-exponents).exp())), strict=True))
