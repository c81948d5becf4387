"""The pretrained weights of timm's networks: where they are, and how pictures have to be for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from mmreg.errors import OptionError
from mmreg.messages import near
from mmreg.pretrained import downloading, find_weights, weights_at_hand

HUB_FILE = "model.safetensors"
"""What a file of weights is called on the Hugging Face hub."""
RESIZE = {"center": "crop", "border": "pad", "squash": "stretch"}
"""What the image modality calls timm's ways to come to a size."""


def pretrained_config(model: str) -> Any:
    """What timm knows of a network's pretrained weights.

    Args:
        model: its name, which may end with a dot and the tag of one of several pretrained weights.

    Raises:
        OptionError: timm has no such network, or no such weights of it.
    """
    if not timm.is_model(model):
        told = near(model.partition(".")[0], timm.list_models())
        raise OptionError(f"model: timm {timm.__version__} has no {model!r}{told}; timm.list_models() names all it has")
    try:
        return timm.models.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{model.partition('.')[0]}.*")]
        told = f"it has {', '.join(tags)}" if tags else "it has none"
        raise OptionError(f"model: {model!r} names weights that timm does not have; {told}") from error


def default_weights(model: str) -> Path:
    """The file of a network's own weights: at hand, from the hub's cache, or downloaded there.

    Raises:
        OptionError: there are none, or they are not at hand and cannot be downloaded.
    """
    config = pretrained_config(model)
    name = f"{config.architecture}.{config.tag}.safetensors"
    at_hand = weights_at_hand(name)
    if at_hand is not None:
        return at_hand
    if config.hf_hub_id:
        file = config.hf_hub_filename or HUB_FILE
        cached = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return Path(cached)
        with downloading(name, f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}"):
            return Path(hf_hub_download(config.hf_hub_id, file))
    if config.url:
        return find_weights(config.url)
    raise OptionError(f"weights: timm has no weights of {model!r}; give the path of a file, or none")


def preprocessing(model: str) -> Mapping[str, Any]:
    """How the pictures were that a network's weights were trained with, as options of the image modality."""
    config = pretrained_config(model)
    height, width = config.input_size[1:]
    return {
        "size": height if height == width else [height, width],
        "resize": RESIZE.get(config.crop_mode, "crop"),
        "interpolation": "bilinear" if config.interpolation == "bilinear" else "bicubic",
        "normalize": {"mean": list(config.mean), "std": list(config.std)},
    }
