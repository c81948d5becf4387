"""Torchvision's networks without their last layer: stages that lead to a feature map, and what makes a vector of it.

Axes: B batch, C channels, T time, H W height and width, N positions of the last feature map, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision import models

HEADS = ("fc", "classifier", "heads", "head")
"""What torchvision calls that part of a network which ends with the layer of its classes."""
TAIL = ("avgpool", "dropout", "flatten", *HEADS)
"""The parts after the last feature map."""
CONTAINERS = ("features", "layers", "blocks", "trunk_output")
"""The parts whose own parts are stages."""
SHIFTED = (models.GoogLeNet, models.Inception3)
"""Networks that were trained on values from -1 to 1, and so undo ImageNet's normalisation."""
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
POOLING = (nn.MaxPool2d, nn.MaxPool3d)


def make_network(model: str, sizes: Sequence[int], initialized: bool) -> nn.Module:
    """A network as torchvision makes it.

    Args:
        model: its name.
        sizes: height and width, which a transformer of pictures is made for.
        initialized: whether to draw first weights for a network that takes long over it.
    """
    options: dict[str, Any] = {}
    if model in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "transform_input": True, "init_weights": initialized}
    elif model.startswith("vit_"):
        options = {"image_size": sizes[0]}
    elif model.startswith("maxvit"):
        options = {"input_size": tuple(sizes)}
    network: nn.Module = models.get_model(model, weights=None, **options)
    return network


class Backbone(nn.Module):
    """A network whose parts follow one another, under the names that they have in torchvision's state dicts.

    Args:
        network: as torchvision makes it; its parts become this module's.
        tokens: whether to give the positions of the last feature map, (B, N, D); otherwise what goes into the layer
            that was left out, (B, D).
        checkpoints: whether to compute each stage a second time in the backward pass, instead of keeping its values.
    """

    def __init__(self, network: nn.Module, tokens: bool, checkpoints: bool) -> None:
        super().__init__()
        self.tokens, self.checkpoints = tokens, checkpoints
        head_name = next(name for name in HEADS if hasattr(network, name))
        head = getattr(network, head_name)
        layers = [module for module in head.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)]
        positions = math.prod(_sizes(getattr(getattr(network, "avgpool", None), "output_size", 1)))
        self.out_features = _in_features(layers[0]) // positions if tokens else _in_features(layers[-1])
        for name, part in network.named_children():
            if name not in TAIL:
                self.add_module(name, part)
        self._stage_names = _stage_names(self)
        if not tokens:
            self._take_tail(network, head_name, head, layers[-1])
        self._shifted = isinstance(network, SHIFTED)
        self._rectified = isinstance(network, models.DenseNet)
        self._channels_last = isinstance(network, models.video.SwinTransformer3d)

    def _take_tail(self, network: nn.Module, head_name: str, head: nn.Module, last: nn.Module) -> None:
        """Take over what is between the feature map and the last layer."""
        parts = list(head.named_children())
        kept = parts[: [part for _, part in parts].index(last)] if parts else []
        self.add_module(head_name, nn.Sequential())
        for name, part in kept:
            self.get_submodule(head_name).add_module(name, part)
        self._head_name = head_name
        self.pool: nn.Module | None = getattr(network, "avgpool", None)  # without weights, so its name is free
        self.flattens = not any(isinstance(part, nn.Flatten) for _, part in kept)
        self.keeps_positions = math.prod(_sizes(getattr(self.pool, "output_size", 1))) > 1
        self.dropout: nn.Module | None = getattr(network, "dropout", None)

    def stages(self) -> list[nn.Module]:
        """The parts that lead to the last feature map, in order."""
        return [nn.ModuleList(map(self.get_submodule, names)) for names in self._stage_names]

    def forward(self, values: Tensor) -> Tensor:
        """Encode (B, C, H, W) or (B, C, T, H, W)."""
        if self._shifted:
            values = _from_minus_one(values)
        for names in self._stage_names:
            values = self._staged([self.get_submodule(name) for name in names], values)
        if self._channels_last:
            values = values.movedim(-1, 1)
        if self._rectified:
            values = values.relu()
        return values.flatten(2).transpose(1, 2) if self.tokens else self._pooled(values)

    def _pooled(self, values: Tensor) -> Tensor:
        if self.pool is not None:
            values = self.pool(values)
        if self.flattens:
            values = values.flatten(1) if self.keeps_positions else values.flatten(2).mean(2)
        if self.dropout is not None:
            values = self.dropout(values)
        result: Tensor = self.get_submodule(self._head_name)(values)
        return result

    def _staged(self, parts: Sequence[Callable[..., Any]], *values: Any) -> Any:
        """What some parts make of values, one after the other."""

        def run(*values: Any) -> Any:
            result: Any = values
            for part in parts:
                result = part(*result) if isinstance(result, tuple) else part(result)
            return result

        if not (self.checkpoints and torch.is_grad_enabled()):
            return run(*values)
        again = [part for part in parts if isinstance(part, nn.Module)]
        return checkpoint(run, *values, use_reentrant=False, context_fn=lambda: (nullcontext(), _no_statistics(again)))


class PatchBackbone(Backbone):
    """A vision transformer (Dosovitskiy et al. 2021): pooled is the class token's features, tokens are the patches'."""

    conv_proj: Any
    class_token: Any
    encoder: Any

    def __init__(self, network: nn.Module, tokens: bool, checkpoints: bool) -> None:
        super().__init__(network, tokens, checkpoints)
        self.class_token = network.class_token

    def stages(self) -> list[nn.Module]:
        """The embedding of patches, and each layer."""
        embedding = nn.ParameterList([self.class_token, self.encoder.pos_embedding])
        return [nn.ModuleList([self.conv_proj, self.encoder.dropout, embedding]), *self.encoder.layers]

    def forward(self, values: Tensor) -> Tensor:
        """Encode (B, C, H, W)."""
        patches = self.conv_proj(values).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(patches.shape[0], -1, -1)
        values = self.encoder.dropout(torch.cat([class_token, patches], 1) + self.encoder.pos_embedding)
        for layer in self.encoder.layers:
            values = self._staged([layer], values)
        values = self.encoder.ln(values)
        return values[:, 1:] if self.tokens else self.get_submodule(self._head_name)(values[:, 0])


class MultiscaleBackbone(Backbone):
    """A multiscale vision transformer of clips (Fan et al. 2021), whose layers pool the positions as they go."""

    conv_proj: Any
    pos_encoding: Any
    blocks: Any
    norm: Any

    def stages(self) -> list[nn.Module]:
        """The embedding of patches, and each layer."""
        return [nn.ModuleList([self.conv_proj, self.pos_encoding]), *self.blocks]

    def forward(self, values: Tensor) -> Tensor:
        """Encode (B, C, T, H, W)."""
        values = self.pos_encoding(self.conv_proj(values).flatten(2).transpose(1, 2))
        sizes = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        for block in self.blocks:
            values, sizes = self._staged([block], values, sizes)
        values = self.norm(values)
        return values[:, 1:] if self.tokens else self.get_submodule(self._head_name)(values[:, 0])


def make_backbone(network: nn.Module, tokens: bool, checkpoints: bool) -> Backbone:
    """The backbone of a network of any family; see `Backbone`."""
    if isinstance(network, models.VisionTransformer):
        return PatchBackbone(network, tokens, checkpoints)
    if isinstance(network, models.video.MViT):
        return MultiscaleBackbone(network, tokens, checkpoints)
    return Backbone(network, tokens, checkpoints)


def _stage_names(backbone: nn.Module) -> list[list[str]]:
    """The names of the parts of each stage: one with parts of its own, or layers up to the next pooling.

    What has no weights belongs to the stage before.
    """
    names = []
    for name, part in backbone.named_children():
        inner = [f"{name}.{number}" for number, _ in part.named_children()] if name in CONTAINERS else [name]
        names += inner
    stages: list[list[str]] = []
    open_ended = False
    for name in names:
        part = backbone.get_submodule(name)
        composed = any(True for _ in part.children())
        weightless = not any(True for _ in part.parameters())
        if stages and ((open_ended and not composed) or weightless):
            stages[-1].append(name)
        else:
            stages.append([name])
        open_ended = not composed and not isinstance(part, POOLING) and (open_ended or not weightless)
    return stages


def _sizes(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _in_features(layer: nn.Module) -> int:
    size = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    assert isinstance(size, int)
    return size


def _from_minus_one(values: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) that are normalised by ImageNet's mean and deviation, from -1 to 1 instead."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    channels = zip(values.unbind(1), mean, std, strict=True)
    return torch.stack([channel * (s / 0.5) + (m - 0.5) / 0.5 for channel, m, s in channels], 1)


@contextmanager
def _no_statistics(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norms move no running statistics, as they did in the forward pass already."""
    norms: list[Any] = [module for part in parts for module in part.modules() if isinstance(module, BATCH_NORMS)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
