"""A run's whole model in a form without a decision that depends on data: every row is encoded, absent ones are masked.

The model itself leaves rows out by their numbers, so its shapes depend on which rows have what. In evaluation mode no
row's features depend on other rows, so encoding an absent row's zeros as well changes nothing but time.

Axes: B batch, T tokens, D features, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreg import Features, Run, Signal, Task
from mmreg_export.arrays import ModalityArrays, present_rows

SCORES = "scores"


@dataclass(frozen=True)
class Inputs:
    """What the model takes of a batch; see `mmreg.model.model.Inputs`."""

    present: Tensor
    features: Mapping[str, Features] = field(default_factory=dict)
    signals: Mapping[str, Signal[Any]] = field(default_factory=dict)
    rows: Mapping[str, Tensor | None] = field(default_factory=dict)
    segments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Readable:
    """What people read of the scores of one target.

    Attributes:
        output: the output's name.
        what: "probabilities" or "values".
        names: of its columns (K,): classes, labels, or what numbers are called.
        places: (K,) which columns of the scores it is made of.
        space: what these are.
        shift: (K,) of values, what is added to them after they are multiplied by `scale` (K,).
        scale: as there.
        labels: where the most probable class is what is told, the classes in their own types.
    """

    output: str
    what: str
    names: Sequence[str]
    places: Sequence[int]
    space: str
    shift: Sequence[float] = ()
    scale: Sequence[float] = ()
    labels: Sequence[Any] = ()

    def of(self, scores: Tensor) -> Tensor:
        """(B, K) of scores; of values float64, as those that lie far from zero are close together in their units."""
        own = scores[:, self.places[0] : self.places[-1] + 1]
        if self.what == "probabilities":
            return own.exp() if self.space == "log_probabilities" else own.sigmoid()
        wide = own.double()
        return wide * wide.new_tensor(self.scale) + wide.new_tensor(self.shift)


def readables(task: Task) -> list[Readable]:
    """What people read of a task's scores, for each target whose scores are of classes, labels or numbers."""
    found = []
    all_places = torch.arange(task.num_outputs)[None]
    for name, target in task.targets().items():
        own, places = target.task, target.scores(all_places)[0].tolist()
        prefix = f"{name}." if name else ""
        columns = own.predictions(torch.zeros(1, len(places)))
        if own.space in ("log_probabilities", "log_odds"):
            start = "probability_"
            names = [column.removeprefix(start) for column in columns if column.startswith(start)]
            classes = own.space == "log_probabilities" and type(own).decide is Task.decide
            labels = own.predictions(torch.eye(len(places)).log()).get("label", ()) if classes else ()
            found.append(Readable(f"{prefix}probabilities", "probabilities", names, places, own.space, labels=labels))
        elif own.space == "log_hazards":
            found.append(Readable(f"{prefix}values", "values", ["risk"], places, own.space, [0.0], [1.0]))
        elif own.space in ("values", "quantiles"):  # their units are a shift and a scale away
            shift = [column[0] for column in columns.values()]
            ones = own.predictions(torch.ones(1, len(places))).values()
            scale = [one[0] - zero for one, zero in zip(ones, shift, strict=True)]
            found.append(Readable(f"{prefix}values", "values", list(columns), places, own.space, shift, scale))
    return found


class Program(nn.Module):
    """From arrays as the modalities' `load` gives them to scores, with each modality's transform in it.

    Args:
        run: on the CPU, in float32.
        modalities: what each takes part with.
    """

    def __init__(self, run: Run, modalities: Sequence[ModalityArrays]) -> None:
        super().__init__()
        self.model = run.model.eval().requires_grad_(False)
        self._transforms = run.modalities
        self._modalities = list(modalities)
        self._readables = readables(run.task)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict.

        Args:
            inputs: arrays by name: each modality's, their lengths (B,) int64, and "present_NAME" (B,) bool.

        Returns:
            "scores" (B, K) in the task's space, what people read of them, and the operators' extras (B,).
        """
        present = present_rows(self._modalities, inputs)
        features = {
            each.name: masked(self._encoded(each, inputs), present[:, column])
            for column, each in enumerate(self._modalities)
        }
        output = self.model(Inputs(present, features, rows=dict.fromkeys(features)))
        read = {each.output: each.of(output.scores) for each in self._readables}
        return {SCORES: output.scores.clone(), **read, **output.extras}

    def _encoded(self, modality: ModalityArrays, inputs: Mapping[str, Tensor]) -> Features:
        signal = self._transforms[modality.name].transform(modality.signal(inputs), training=False)
        features: Features = self.model.encoder_of(modality.name)(signal)
        return features


def masked(features: Features, present: Tensor) -> Features:
    """Features with zeros, and no valid token, for the rows (B,) that are not present."""
    pooled, tokens, mask = features.pooled, features.tokens, features.mask
    if pooled is not None:
        pooled = torch.where(present[:, None], pooled, 0)
    if tokens is not None:
        tokens = torch.where(present[:, None, None], tokens, 0)
        mask = present[:, None].expand(tokens.shape[:2]) if mask is None else mask & present[:, None]
    return replace(features, pooled=pooled, tokens=tokens, mask=mask, losses={})
