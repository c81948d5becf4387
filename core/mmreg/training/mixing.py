"""Mixing pairs of training rows: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), in all modalities at once.

Everything is computed on the batch's device, without waiting for it, and in the same way whatever is drawn.

Axes: B batch, n rows that have a modality, M modalities, H W height and width, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.contract.task import Task
from mmreg.data.batches import Batch
from mmreg.layers import length_mask
from mmreg.model.model import Output
from mmreg.model.seeding import Draws
from mmreg.recipe.training_form import Training
from mmreg.training.losses import total_loss


@dataclass(frozen=True)
class Mixed:
    """A batch whose rows have been mixed.

    Attributes:
        batch: the rows; each has its own target and weight still.
        partners: (B,) int64, the row that each was mixed with; each row is the partner of one.
        share: () how much of each row is its own.
    """

    batch: Batch
    partners: Tensor
    share: Tensor

    def loss(
        self,
        output: Output,
        task: Task,
        total_weight: float | Tensor,
        share: float,
        progress: float | Tensor,
        among: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
        """The loss for each row's own target and for its partner's, weighted by how much of each there is.

        As each row is the partner of one, the weights of all rows sum to the same as without mixing. See `total_loss`.
        """
        targets, weights = self.batch.targets, self.batch.weights
        assert targets is not None
        assert weights is not None
        own, terms = total_loss(output, targets, weights * self.share, task, total_weight, share, progress, among)
        others = targets[self.partners], weights[self.partners] * (1 - self.share)
        without_extras = replace(output, losses={})
        other, more = total_loss(without_extras, *others, task, total_weight, share, progress, among)
        return own + other, {key: term + more[key] if key in more else term for key, term in terms.items()}


class Mixing:
    """Mixes the rows of batches as a recipe says.

    A row is mixed with the one before it in the batch of those that have the same modalities, the first with the last:
    so none is mixed with what is not there, and a row that is alone with its modalities stays as it is. The shorter of
    two is zero where it has ended.

    Args:
        options: of the training.
        modalities: by name, fitted, in the order of the recipe; all of them allow what the recipe asks for.
    """

    def __init__(self, options: Training, modalities: Mapping[str, Modality]) -> None:
        self._mixup, self._cutmix = options.mixup, options.cutmix
        self._columns = {name: column for column, name in enumerate(modalities)}
        self._cut = {name for name, modality in modalities.items() if "cutmix" in modality.mixes}
        self._ragged = {name: _ragged_axis(modality) for name, modality in modalities.items()}

    def __call__(self, batch: Batch, present: Tensor | None, draws: Draws) -> Mixed:
        """Mix a batch.

        Args:
            batch: as its modalities' `transform` gives it.
            present: (B, M) the batch's, in host memory; None where that does not know it.
            draws: where random draws come from.
        """
        device = batch.present.device
        source = draws.generator(device, "mix")
        blend, cut = (_beta(alpha, source) if alpha is not None else None for alpha in (self._mixup, self._cutmix))
        places = torch.rand(3, generator=source, device=device)
        centre, coin = places[:2], places[2]
        share = cut if blend is None else blend
        assert share is not None
        cuts = torch.ones_like(share, dtype=torch.bool) if blend is None else coin < 0.5
        boxes: dict[str, Tensor] = {}
        if cut is not None:
            sizes = {name: signal.values.shape[-2:] for name, signal in batch.signals.items() if name in self._cut}
            boxes = {name: box_mask((height, width), cut, centre) for name, (height, width) in sizes.items()}
            # A box is of whole pixels and ends at the border: what is left of the pictures tells the share.
            left = torch.stack([1 - box.float().mean() for box in boxes.values()]).mean() if boxes else cut
            share = torch.where(cuts, left, share)
        partners, on_host = partners_of(batch.present), None if present is None else partners_of(present)
        signals = {}
        for name, signal in batch.signals.items():
            rows = batch.rows[name]
            index = _within(partners, rows)
            if name in boxes:
                pasted = torch.where(boxes[name], signal.values[index], signal.values)
                mixed = pasted if blend is None else torch.where(cuts, pasted, _blended(signal.values, index, share))
                signals[name] = signal.replace(mixed)
            else:
                own = None
                if on_host is not None and present is not None:
                    own = on_host if rows is None else _within(on_host, present[:, self._columns[name]].nonzero()[:, 0])
                signals[name] = self._mixed(name, signal, index, own, share)
        return Mixed(replace(batch, signals=signals), partners, share)

    def _mixed(
        self, name: str, signal: Signal[Any], index: Tensor, on_host: Tensor | None, share: Tensor
    ) -> Signal[Any]:
        """A signal with each of its rows (n,) blended with that of an index, which is given in host memory as well."""
        values, lengths, axis = signal.values, signal.lengths, self._ragged[name]
        if lengths is None or axis is None:
            return signal.replace(_blended(values, index, share))
        valid = length_mask(lengths, values.shape[axis + 1])
        shape = [len(values), *(1 for _ in values.shape[1:])]
        shape[axis + 1] = -1
        values = values.masked_fill(~valid.view(shape), 0)
        host = signal.host_lengths
        # Where the host does not know who is present, it knows lengths only if all are alike.
        longer = host if host is None or on_host is None else torch.maximum(host, host[on_host])
        return Signal(_blended(values, index, share), torch.maximum(lengths, lengths[index]), longer)


def partners_of(present: Tensor) -> Tensor:
    """For each row (B,) the one before it of those with the same modalities (B, M), for the first of them the last."""
    patterns = (present.long() << torch.arange(present.shape[1], device=present.device)).sum(1)
    ordered, order = patterns.sort(stable=True)
    place = torch.arange(len(order), device=present.device)
    first, last = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
    before = torch.where(place == first, last - 1, place - 1)
    return torch.empty_like(order).scatter(0, order, order[before])


def box_mask(size: tuple[int, int], share: Tensor, centre: Tensor) -> Tensor:
    """Which pixels (H, W) lie in a box that leaves a share of the picture, if it is not cut at the border.

    Args:
        size: H and W.
        share: () what is left outside.
        centre: (2,) where the middle is, from 0 to 1.
    """
    inside: list[Tensor] = []
    for length, middle in zip(size, centre, strict=True):
        half = (0.5 * (1 - share).sqrt() * length).floor()
        offset = torch.arange(length, device=centre.device) - (middle * length).floor()
        inside.append((offset >= -half) & (offset < half))
    return inside[0][:, None] & inside[1]


def _beta(alpha: float, draws: torch.Generator) -> Tensor:
    """A draw () of Beta(alpha, alpha); torch.distributions takes no generator."""
    share: Tensor = torch._sample_dirichlet(torch.full((2,), alpha, device=draws.device), draws)[0]
    return share


def _blended(values: Tensor, index: Tensor, share: Tensor) -> Tensor:
    return values[index].lerp(values, share.to(values.dtype))


def _within(partners: Tensor, rows: Tensor | None) -> Tensor:
    """The places of partners (B,) among rows (n,) of a batch, for each of these rows; of all B if None is given."""
    if rows is None:
        return partners
    places = torch.zeros_like(partners).scatter(0, rows, torch.arange(len(rows), device=rows.device))
    return places[partners[rows]]


def _ragged_axis(modality: Modality) -> int | None:
    """The index of the axis that varies between the rows of what a modality gives, without the batch axis."""
    assert isinstance(modality.spec, Spec)  # as it can be mixed
    return modality.spec.ragged_axis
