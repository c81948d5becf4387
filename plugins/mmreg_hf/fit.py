"""Whether a folder's weights are those that its model asks for: neither too few, nor those of further layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from mmreg.errors import OptionError
from mmreg.messages import listed, plural
from mmreg_hf.folders import CONFIG


def check_layers(model: nn.Module, unused: Iterable[str], folder: Path) -> None:
    """Refuse weights of a model with more layers; those of heads and of other towers are in none of its lists.

    Raises:
        OptionError: names the first ones.
    """
    sizes = {name: len(part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList | nn.Sequential)}
    base = f"{getattr(model, 'base_model_prefix', '')}."
    beyond = [key for key in unused if any(_is_beyond(sizes, name) for name in (key, key.removeprefix(base)))]
    if beyond:
        raise OptionError(
            f"model: the weights in {folder} hold {plural(len(beyond), 'tensor')} of layers that a model of its "
            f"{CONFIG} does not have: {listed(sorted(beyond), 3)}; its number of layers is not theirs"
        )


def _is_beyond(sizes: Mapping[str, int], name: str) -> bool:
    """Whether a tensor's name is in a list of modules (there with its length) at a place behind its end."""
    steps = name.split(".")
    return any(
        step.isdecimal() and int(step) >= sizes[holder]
        for place, step in enumerate(steps)
        if (holder := ".".join(steps[:place])) in sizes
    )


def check_complete(network: nn.Module, missing: set[str], unused: set[str], folder: Path) -> None:
    """Refuse a folder that lacks weights which are used.

    Raises:
        OptionError: names the first ones.
    """
    lacking = sorted(missing - unused)
    if lacking:
        total = len(list(network.parameters()))
        raise OptionError(
            f"model: the weights in {folder} lack {plural(len(lacking), 'tensor')} of {total} that its {CONFIG} asks "
            f"for: {listed(lacking, 3)}; with pooling: mean, what only the model's own pooling needs may be missing"
        )
