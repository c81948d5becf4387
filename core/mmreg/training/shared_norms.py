"""The statistics of batch norms over the rows of several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmreg.layers import MaskedBatchNorm, masked_batch_norm
from mmreg.model.model import Inputs, MultimodalModel


def share_statistics(model: nn.Module, peers: Any) -> Callable[[], None]:
    """Let the batch norms of a model, in training, take their statistics of the values of several processes.

    Each process has to call every one of them as often as the others.

    Args:
        model: with batch norms of torch's, or of `mmreg.layers`.
        peers: the processes, a torch.distributed group.

    Returns:
        What undoes it.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    for module in model.modules():
        kind = type(module)
        if isinstance(module, MaskedBatchNorm) or kind in _SHARED:
            changed.append((module, kind))
            module.__class__ = _SHARED.get(kind, kind)
            module.peers = peers

    def undo() -> None:
        for module, kind in changed:
            module.__class__ = kind
            vars(module).pop("peers", None)
        changed.clear()

    return undo


@contextmanager
def statistics_of(model: MultimodalModel, inputs: Inputs, own: int) -> Iterator[None]:
    """A block in which batch norms take the statistics of a batch's first rows alone, those of this process."""
    rows = torch.arange(len(inputs.present), device=inputs.present.device) < own
    norms = {module for module in model.modules() if "peers" in vars(module)}
    encoders: dict[nn.Module, dict[int, Tensor]] = {}
    for name, given in inputs.signals.items():
        there, segments = inputs.rows[name], inputs.segments.get(name)
        of_values = rows if there is None else rows[there]
        of_values = of_values if segments is None else of_values[segments.rows]
        encoders.setdefault(model.encoder_of(name), {})[id(given)] = of_values

    def enter(encoder: nn.Module, arguments: tuple[Any, ...]) -> None:
        found = encoders[encoder]  # by the signal, as several modalities may share an encoder
        for module in encoder.modules():
            if module in norms:
                vars(module)["own"] = found.get(id(arguments[0]), next(iter(found.values())))

    hooks = [encoder.register_forward_pre_hook(enter) for encoder in encoders]
    for module in norms:
        vars(module)["own"] = rows
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in norms:
            vars(module).pop("own")


class _Shared(nn.modules.batchnorm._BatchNorm):
    """A batch norm of torch's whose statistics, in training, are of several processes."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        if not self.training:
            return super().forward(values)
        self._check_input_dim(values)  # type: ignore[no-untyped-call]
        return masked_batch_norm(self, values, None, vars(self)["peers"], vars(self).get("own"))


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


class _Shared3d(_Shared, nn.BatchNorm3d):
    pass


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Shared1d,
    nn.BatchNorm2d: _Shared2d,
    nn.BatchNorm3d: _Shared3d,
}
"""What takes the place of torch's own."""
