"""The pretrained weights of torchvision: by name or from a file, and how pictures have to be for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchvision import models

from mmreg.errors import OptionError
from mmreg.messages import listed, near
from mmreg.pretrained import find_weights, read_weights

OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)
"""What some weights are called in files that older releases of torchvision wrote, some of them its own."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""How the names begin of weights that a network has while it is trained on ImageNet alone."""


def pictures() -> list[str]:
    """The names of the networks for pictures."""
    names: list[str] = models.list_models(module=models)
    return names


def clips() -> list[str]:
    """The names of the networks for clips."""
    names: list[str] = models.list_models(module=models.video)
    return names


def check_model(model: str) -> None:
    """Refuse a name that torchvision does not know.

    Raises:
        OptionError: it is none of a network for pictures or clips.
    """
    known = [*pictures(), *clips()]
    if model not in known:
        raise OptionError(f"model: torchvision has no {model!r}{near(model, known)}; it has {listed(known, 200)}")


def is_name(weights: str) -> bool:
    """Whether weights are told by a name of torchvision's, rather than none, or a file."""
    return weights != "none" and not os.path.isabs(weights)  # noqa: PTH117 (of any text)


def named_weights(model: str, weights: str) -> Any:
    """The member of torchvision's enum of a model's weights.

    Raises:
        OptionError: there is none of that name.
    """
    check_model(model)
    known = models.get_model_weights(model)
    names = list(known.__members__)
    if weights == "default":
        return known.DEFAULT
    if weights not in names:
        have = listed(["none", "default", *(name for name in names if name != "DEFAULT")])
        raise OptionError(
            f"weights: {model} has no {weights!r}{near(weights, names)}; give the path of a file, or {have}"
        )
    return known[weights]


def load(model: str, weights: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a model's weights by the names that torchvision has for them now, and where they come from.

    Raises:
        OptionError: they cannot be found, downloaded or read.
    """
    source = weights
    if is_name(weights):
        named = named_weights(model, weights)
        source = str(find_weights(named.url, f"{named.meta['_file_size']:.0f} MB"))
    return {_renamed(name): tensor for name, tensor in read_weights(source).items()}, source


def _renamed(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name


def preprocessing(model: str, weights: str) -> Mapping[str, Any]:
    """How the pictures were that weights were trained with, as options of the image modality.

    Those of a file are taken to be as those of the model's own.
    """
    named = named_weights(model, weights if is_name(weights) else "default")
    transforms = named.transforms()
    size = [transforms.crop_size[0], transforms.crop_size[-1]]
    return {
        "size": size[0] if size[0] == size[1] else size,
        "resize": "crop",  # torchvision cuts the middle out, too, of a picture that is a little larger
        "interpolation": "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
        "normalize": {"mean": list(transforms.mean), "std": list(transforms.std)},
    }


def least_sizes(model: str) -> tuple[int, int]:
    """The least number of frames, and of pixels each way, that a network makes something of."""
    meta = models.get_model_weights(model).DEFAULT.meta
    frames = meta.get("min_temporal_size", 1)
    return frames, 32 if model.startswith("swin") else meta["min_size"][0]
