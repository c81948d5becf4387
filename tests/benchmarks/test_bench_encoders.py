"""What a step of the bundled convolutional networks costs: beside the same layers as one writes them down, and by size.

The batch is 64 pictures of 64 pixels, or 32 sounds of 40 bands and 250 frames (5 s); on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from harness import compare
from torch import Tensor, nn

from mmreg import Encoder, Signal, Spec, registry

pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT = 1.3
"""How many times slower than what stands beside it a network may be."""


def plain(channels: int, features: int, *, last: nn.Module) -> nn.Sequential:
    """Convolution, norm, ReLU and pooling as one writes them down."""
    layers: list[nn.Module] = []
    for size in (32, 64, 128):
        layers += [nn.Conv2d(channels, size, 3, padding=1, bias=False), nn.BatchNorm2d(size)]
        layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        channels = size
    return nn.Sequential(*layers, last, nn.Flatten(), nn.Linear(features, 128))


def pictures(size: int) -> Callable[[], Tensor]:
    """A step's result of `image_cnn` on pictures of a size."""
    signal = Signal(torch.randn(64, 3, size, size))
    encoder: Encoder = registry.build("encoder", "image_cnn", Spec("CHW", (3, size, size)))
    return lambda: pooled(encoder, signal)


def sounds(*lengths: int) -> Callable[[], Tensor]:
    """A step's result of `audio_cnn` on sounds of these lengths in turn."""
    frames = torch.tensor(lengths).repeat(32 // len(lengths))
    signal = Signal(torch.randn(32, 1, 40, max(lengths)), frames, frames)
    encoder: Encoder = registry.build("encoder", "audio_cnn", Spec("CHW", (1, 40, None)))
    return lambda: pooled(encoder, signal)


def pooled(encoder: Encoder, signal: Signal) -> Tensor:
    result = encoder(signal).pooled
    assert isinstance(result, Tensor)
    return result


def plain_pictures() -> Callable[[], Tensor]:
    """The same by plain layers, on pictures of 64 pixels."""
    values, network = torch.randn(64, 3, 64, 64), plain(3, 8192, last=nn.Dropout(0.5))
    return lambda: network(values)  # type: ignore[no-any-return]


def plain_sounds() -> Callable[[], Tensor]:
    """The same by plain layers, on sounds of 250 frames without lengths."""
    values, network = torch.randn(32, 1, 40, 250), plain(1, 640, last=nn.AdaptiveAvgPool2d((5, 1)))
    return lambda: network(values)  # type: ignore[no-any-return]


@pytest.mark.bench
@pytest.mark.parametrize(
    ("what", "against", "ours", "beside", "limit"),
    [
        ("image_cnn", "plain layers", lambda: pictures(64), plain_pictures, LIMIT),
        ("image_cnn, 128 pixels", "64 pixels", lambda: pictures(128), lambda: pictures(64), LIMIT),
        ("image_cnn, 256 pixels", "64 pixels", lambda: pictures(256), lambda: pictures(64), 2 * LIMIT),
        ("audio_cnn", "plain layers", lambda: sounds(250), plain_sounds, LIMIT),
        ("audio_cnn, differing lengths", "one length", lambda: sounds(250, 150), lambda: sounds(250), LIMIT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_step(
    what: str,
    against: str,
    ours: Callable[[], Callable[[], Tensor]],
    beside: Callable[[], Callable[[], Tensor]],
    limit: float,
) -> None:
    torch.manual_seed(0)
    pair = step(ours()), step(beside())
    compare(f"step of {what}", against, *pair, rounds=5, at_most=limit, clock=time.process_time)


def step(result: Callable[[], Tensor]) -> Callable[[], None]:
    """One step forward and back."""
    return lambda: result().square().sum().backward()  # type: ignore[no-untyped-call, no-any-return]
