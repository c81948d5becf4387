"""Torchvision's networks of every family, small where its classes allow it, and where their last map is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        make: makes it.
        shape: of one sample, (C, H, W) or (C, T, H, W).
        map_name: the part that gives its last feature map.
        as_map: what makes (B, C, *) of that, or of a transformer (B, N, C).
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    map_name: str
    as_map: Callable[[Tensor], Tensor] = lambda values: values


def _named(name: str, *shape: int, map_name: str = "features", **options: object) -> Case:
    return Case(lambda: models.get_model(name, weights=None, **options), shape, map_name)


def _transformer() -> nn.Module:
    network = models.VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5)
    nn.init.normal_(network.heads.head.weight)  # torchvision begins with zeros
    return network


def _multiscale() -> nn.Module:
    def block(heads: int, channels: tuple[int, int], stride: list[int]) -> MSBlockConfig:
        return MSBlockConfig(heads, *channels, [3, 3, 3], [3, 3, 3], stride, [1, 2, 2])

    blocks = [block(1, (8, 16), [1, 1, 1]), block(2, (16, 16), [1, 2, 2])]
    return models.video.MViT((32, 32), 4, blocks, True, True, True, True, num_classes=5)


SMALL: dict[str, Case] = {
    "densenet": Case(
        lambda: models.DenseNet(8, (2, 2), 16, num_classes=5), (3, 32, 40), "features", lambda values: values.relu()
    ),
    "efficientnet": _named("efficientnet_b0", 3, 32, 40),
    "googlenet": _named("googlenet", 3, 32, 40, map_name="inception5b", init_weights=True, aux_logits=False),
    "mnasnet": _named("mnasnet0_5", 3, 32, 40, map_name="layers"),
    "mobilenet_v2": Case(lambda: models.MobileNetV2(5, 0.25), (3, 32, 40), "features"),
    "mobilenet_v3": _named("mobilenet_v3_small", 3, 32, 40),
    "regnet": _named("regnet_y_400mf", 3, 32, 40, map_name="trunk_output"),
    "resnet": Case(lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]), (3, 32, 40), "layer4"),
    "shufflenet": _named("shufflenet_v2_x0_5", 3, 32, 40, map_name="conv5"),
    "squeezenet": _named("squeezenet1_1", 3, 32, 40),
    "convnext": Case(
        lambda: models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=5),
        (3, 32, 40),
        "features",
    ),
    "swin": Case(
        lambda: models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=5), (3, 32, 40), "permute"
    ),
    "vit": Case(_transformer, (3, 32, 32), "encoder", lambda values: values[:, 1:]),
    "maxvit": Case(
        lambda: models.MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 4, 0.0, num_classes=5), (3, 32, 32), "blocks.1"
    ),
    "video_resnet": Case(
        lambda: models.video.VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=5),
        (3, 4, 16, 24),
        "layer4",
    ),
    "mvit": Case(_multiscale, (3, 4, 32, 32), "norm", lambda values: values[:, 1:]),
    "swin3d": Case(
        lambda: models.video.SwinTransformer3d([2, 4, 4], 8, [1, 1], [1, 2], [2, 2, 2], num_classes=5),
        (3, 4, 32, 40),
        "norm",
        lambda values: values.movedim(-1, 1),
    ),
}
"""Every family but those whose networks are always large."""

LARGE: dict[str, Case] = {
    "alexnet": _named("alexnet", 3, 80, 100),
    "vgg": _named("vgg11_bn", 3, 32, 70),
    "inception": _named("inception_v3", 3, 80, 100, map_name="Mixed_7c", init_weights=True, aux_logits=False),
    "s3d": _named("s3d", 3, 14, 224, 224),
}

CASES = {**SMALL, **LARGE}


def make(case: Case) -> nn.Module:
    """The network of a case, whose norms have statistics of some batch."""
    torch.manual_seed(0)
    network = case.make()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def last_layer(network: nn.Module) -> nn.Module:
    """The layer of the classes."""
    head = next(getattr(network, name) for name in ("fc", "classifier", "heads", "head") if hasattr(network, name))
    return [module for module in head.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)][-1]
