"""Losses that are not finite: kept away from the weights, found, and traced to where they began.

On a CPU each step is looked at before it moves the weights. On an accelerator that would wait for the device, so losses
are looked at together, now and then; there a step is skipped by the device itself, if the optimizer is a fused one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Features, Signal
from mmreg.contract.spec import Spec, by_name
from mmreg.data.batches import Batch, Rows
from mmreg.errors import TrainingError
from mmreg.layers import own_share
from mmreg.messages import listed, plural
from mmreg.model.inference import transform
from mmreg.model.model import MultimodalModel
from mmreg.model.seeding import Draws

LOOK_EVERY = 50
"""Steps on an accelerator after which their losses are looked at."""
IN_A_ROW = 20
"""Steps in a row that may be skipped."""
ALL_FINITE = "all inputs"
"""How a reason begins that names no row."""
REMEDY = "lower the learning rate, set training.gradient_clip, or use precision float32"

SKIPPING = "leave such steps out by training.on_nonfinite: skip"


class NonFiniteError(TrainingError):
    """A loss, or weights, that are no longer finite numbers."""


class StepGuard:
    """Keeps a step that is not finite from moving the weights.

    Args:
        model: on its device.
        optimizer: over its parameters.
        skips: whether such steps are left out; then gradients are looked at, too.
        scaled: whether gradients are scaled, as for float16; the scaler then looks at them itself.
        device: where the model is.

    Attributes:
        bad: whether the last step was not finite; None where nobody looked, and on the device if that need not wait.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, skips: bool, scaled: bool, device: torch.device
    ) -> None:
        self.model, self.optimizer, self.skips, self.scaled = model, optimizer, skips, scaled
        fused = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        self.waits = device.type == "cpu" or (skips and not scaled and not fused)
        self.bad: bool | Tensor | None = None
        self._buffers: list[Tensor] = []

    def begin(self) -> None:
        """A step begins: keep the statistics that its forward pass will change."""
        if self.skips:
            self._buffers = [buffer.clone() for buffer in self.model.buffers()]

    def admits(self, loss: Tensor) -> bool:
        """Whether the optimizer is to move the weights by the gradients that there are now."""
        if not self.skips:
            if self.waits:
                self.bad = not math.isfinite(loss.item())
            return not self.bad
        finite = torch.isfinite(loss)
        if not self.scaled:
            gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            finite = finite & torch.isfinite(own_share(norm))  # of one number each process has all
        self.bad = not finite if self.waits else ~finite
        if self.bad is False:
            return True
        for buffer, before in zip(self.model.buffers(), self._buffers, strict=True):
            buffer.copy_(before if self.bad is True else torch.where(finite, buffer, before))
        if self.bad is True:
            return False
        if not self.scaled:  # what a fused optimizer itself goes by, on the device
            self.optimizer.found_inf = self.bad.float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        return True


class Watch:
    """Looks at the losses of steps, at once on a CPU and later on an accelerator.

    Args:
        skips: whether steps that are not finite are left out, rather than to end the training.
        explain: given the number of a step, from 1, says where what is not finite comes from.

    Attributes:
        skipped: steps that were left out.
        in_a_row: those of them that were the last ones.
    """

    def __init__(self, skips: bool, explain: Callable[[int], str]) -> None:
        self.skips, self._explain = skips, explain
        self.skipped = self.in_a_row = 0
        self._left_out = 0.0
        self._waiting: list[tuple[int, float, Tensor]] = []

    def after(self, number: int, loss: Tensor, bad: bool | Tensor | None, weight: float) -> None:
        """A step is done.

        Args:
            number: which one, from 1.
            loss: its loss.
            bad: as `StepGuard.bad` says.
            weight: of its rows.

        Raises:
            NonFiniteError: see `look`.
        """
        if isinstance(bad, bool):
            self._count(number, bad)
            return
        self._waiting.append((number, weight, loss.clone() if bad is None else bad))  # one call, as a step is short
        if len(self._waiting) >= LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Look at the steps that nobody has looked at so far; waits for the device.

        Raises:
            NonFiniteError: one was not finite, or too many in a row.
        """
        waiting, self._waiting = self._waiting, []
        if waiting:
            shown = torch.stack([value for _, _, value in waiting])
            flags = (shown if shown.dtype == torch.bool else ~torch.isfinite(shown)).tolist()
            for (number, weight, _), bad in zip(waiting, flags, strict=True):
                self._left_out += weight if bad else 0.0
                self._count(number, bad)

    def take_left_out(self) -> float:
        """The weight of the rows of the steps that turned out to be skipped since this was last asked."""
        weight, self._left_out = self._left_out, 0.0
        return weight

    def _count(self, number: int, bad: bool) -> None:
        if not bad:
            self.in_a_row = 0
            return
        if not self.skips:
            raise NonFiniteError(self._explain(number))
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= IN_A_ROW:
            raise NonFiniteError(f"{plural(self.in_a_row, 'step')} in a row had to be skipped; {self._explain(number)}")

    def to_plain(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_plain(self, data: Mapping[str, Any]) -> None:
        """Take over what `to_plain` gave."""
        self.skipped, self.in_a_row = data["skipped"], data["in_a_row"]


@torch.no_grad()
def reason(
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    group: Sequence[tuple[Rows, Draws]],
    device: torch.device,
    row_names: Callable[[NDArray[np.int64]], Sequence[Any]],
) -> str:
    """Where a loss that is not finite comes from, as far as that can be told, and what to do.

    Args:
        model: with the weights of before the step, if they could be kept.
        modalities: by name, fitted.
        group: the batches of the step, each with its draws.
        device: where to compute.
        row_names: what the rows at these positions among the training rows are called.
    """
    culprits: dict[str, list[NDArray[np.int64]]] = {}
    frozen: dict[str, list[NDArray[np.int64]]] = {}
    features: set[str] = set()
    for batch, draws in group:
        inputs = transform(batch.to(device), modalities, draws)
        for name, signal in inputs.signals.items():
            if len(positions := _positions(inputs, name)[_not_finite(signal, by_name(modalities[name].spec))]):
                culprits.setdefault(name, []).append(positions)
        if culprits:
            continue
        for name, given in _frozen_features(model, inputs):
            if len(positions := _positions(inputs, name)[_rows_not_finite(given)]):
                frozen.setdefault(name, []).append(positions)
        if not frozen:
            features |= _features_not_finite(model, inputs, draws)
    if culprits:
        told = [
            f"the values of {name!r}, as the model gets them, are not finite in {_rows(names)}"
            for name, names in _named(culprits, row_names)
        ]
        return f"{' and '.join(told)}; mend these cells, or {SKIPPING}"
    if frozen:
        told = [
            f"the frozen encoder of {name!r} gives features that are not finite for {_rows(names)}"
            for name, names in _named(frozen, row_names)
        ]
        return f"{' and '.join(told)}; use precision float32, or other weights, or {SKIPPING}"
    weights = [role for role, part in model.components().items() if bad_tensors(dict(part.named_parameters()))]
    if weights:
        return f"{ALL_FINITE} are finite, but the weights of {listed(sorted(weights))} no longer are; {REMEDY}"
    if features:
        return f"{ALL_FINITE} and weights are finite, but the features of {listed(sorted(features))} are not; {REMEDY}"
    return f"{ALL_FINITE}, weights and features are finite, so they have grown too large above; {REMEDY}"


def _positions(inputs: Batch, name: str) -> NDArray[np.int64]:
    """(n,) the rows that have an input, by their positions among the training rows; of several values each one's."""
    rows = inputs.rows[name]
    own = inputs.index if rows is None else inputs.index[rows.cpu().numpy()]
    segments = inputs.segments.get(name)
    return own if segments is None else own[segments.rows.cpu().numpy()]


def _named(
    culprits: Mapping[str, list[NDArray[np.int64]]], row_names: Callable[[NDArray[np.int64]], Sequence[Any]]
) -> list[tuple[str, Sequence[Any]]]:
    return [
        (name, row_names(np.array(list(dict.fromkeys(np.concatenate(positions).tolist())))))
        for name, positions in culprits.items()
    ]


def _frozen_features(model: MultimodalModel, inputs: Batch) -> Iterator[tuple[str, Features]]:
    """What the encoders give that are not trained, by input: once for all, or now."""
    yield from inputs.features.items()
    for name, signal in inputs.signals.items():
        encoder = model.encoder_of(name)
        if not encoder.training and not any(each.requires_grad for each in encoder.parameters()):
            yield name, encoder(signal)


def _rows_not_finite(features: Features) -> NDArray[np.bool_]:
    """(n,) which rows have a feature that is not finite."""
    tensors = [each for each in (features.pooled, features.tokens) if each is not None]
    finite = torch.stack([torch.isfinite(each).flatten(1).all(1) for each in tensors]).all(0)
    bad: NDArray[np.bool_] = (~finite).cpu().numpy()
    return bad


def bad_tensors(tensors: Mapping[str, Tensor]) -> list[str]:
    """Which of these real tensors hold what is not a finite number."""
    return [name for name, each in tensors.items() if each.is_floating_point() and not bool(torch.isfinite(each).all())]


def _not_finite(signal: Signal[Any], specs: Mapping[str, Spec]) -> NDArray[np.bool_]:
    """(n,) which rows of a signal have a value that is not finite, padding aside."""
    bad = np.zeros(len(signal), np.bool_)
    lengths = signal.lengths_on_host()
    for name, spec in specs.items():
        values = signal.values[name] if isinstance(signal.values, Mapping) else signal.values
        if not values.is_floating_point():
            continue
        for row, each in enumerate(values.cpu()):
            if lengths is not None and spec.ragged_axis is not None:
                each = each.narrow(spec.ragged_axis, 0, int(lengths[row]))
            bad[row] |= not bool(torch.isfinite(each).all())
    return bad


def _features_not_finite(model: MultimodalModel, inputs: Batch, draws: Draws) -> set[str]:
    """The modalities whose encoder gives features that are not finite."""
    found: set[str] = set()

    def looking_at(name: str) -> Callable[[nn.Module, Any, Features], None]:
        def look(module: nn.Module, arguments: Any, given: Features) -> None:
            tensors = {key: each for key in ("pooled", "tokens") if (each := getattr(given, key)) is not None}
            if bad_tensors(tensors):
                found.add(name)

        return look

    own = [name for name in model.modalities if name not in model.shares]
    handles = [model.encoder_of(name).register_forward_hook(looking_at(name)) for name in own]
    try:
        model(inputs, draws)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _rows(names: Sequence[Any]) -> str:
    return f"{'row' if len(names) == 1 else 'rows'} {listed(names, 5)}"
