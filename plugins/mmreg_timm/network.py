"""A network of timm without its last layer: made, given weights, reduced to its features, and taken apart into stages.

Axes: B batch, C channels, H W height and width, N positions of the last feature map, D features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from mmreg.errors import OptionError
from mmreg.messages import shortened
from mmreg_timm.weights import pretrained_config


def make_network(model: str, size: tuple[int, int], weights: Mapping[str, Tensor] | None, source: str = "") -> Any:
    """A network that gives the features of which its last layer would make classes.

    Args:
        model: its name in timm.
        size: height and width of the pictures; position embeddings are interpolated to it.
        weights: a state dict of such a network, of whatever classes; drawn at random if it is None.
        source: where they come from, for messages.

    Raises:
        OptionError: the weights are not of this network.
    """
    config = pretrained_config(model)
    options: dict[str, Any] = {"num_classes": 0}
    if config.fixed_input_size:
        options["img_size"] = size
    network = timm.create_model(model, pretrained=False, **options)
    if weights is None:
        return network
    heads = config.classifier or ()
    tops = tuple(f"{name.partition('.')[0]}." for name in ([heads] if isinstance(heads, str) else heads))
    own = network.state_dict()
    given = {name: tensor for name, tensor in weights.items() if name in own or not name.startswith(tops)}
    # No classes in the file either, so that timm wants all else to be there, and nothing more.
    overlay = {"state_dict": given, "num_classes": 0, "custom_load": False, "source": ""}
    try:
        return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except (RuntimeError, KeyError, AttributeError, ValueError) as error:
        told = shortened(str(error).replace("\n", " "), 300)
        raise OptionError(f"weights: {source} is not of {model}: {told}") from error


def try_network(network: Any, size: tuple[int, int], tokens: bool) -> int:
    """Encode an empty picture, to see that the size is one for the network; the number of features D.

    Asked for tokens, the network loses what has no part in them.

    Raises:
        Exception: whatever the network raises at another size.
    """
    called: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _: called.add(module)) for module in network.modules()]
    training = network.training
    try:
        with torch.no_grad():
            picture = torch.zeros(1, 3, *size)
            network.eval()
            features = network_tokens(network, picture) if tokens else network(picture)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if tokens:
        for name, part in list(network.named_children()):
            if not called.intersection(part.modules()):
                setattr(network, name, nn.Identity())
    out_features: int = features.shape[-1]
    return out_features


def network_tokens(network: Any, values: Tensor) -> Tensor:
    """The positions of the last feature map, or the patches of a transformer, (B, N, D)."""
    features: Any = network.forward_features(values)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise OptionError(f"{_name(network)} gives no sequence of features; take another model, or a fusion of vectors")
    if features.ndim == 3:
        return features[:, getattr(network, "num_prefix_tokens", 0) :]
    width = network.num_features
    channels_last = features.shape[1] != width and features.shape[3] == width
    if channels_last or (features.shape[3] == width and getattr(network, "output_fmt", "NCHW") == "NHWC"):
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def _name(network: Any) -> str:
    name: str = network.pretrained_cfg["architecture"]
    return name


def network_stages(network: Any) -> list[nn.Module]:
    """The parts of a network in the order in which timm groups its parameters; none if it does not say."""
    if not hasattr(network, "group_matcher"):
        return []
    try:
        matcher = network.group_matcher(coarse=True)
    except AssertionError:  # one that groups its parameters by single blocks alone
        matcher = network.group_matcher(coarse=False)
    names = group_parameters(network, matcher)
    parameters = dict(network.named_parameters())
    groups = {parameters[name]: number for number, group in names.items() for name in group}
    parts: dict[int, nn.ModuleList] = defaultdict(nn.ModuleList)
    for part in network.children():
        for number, whole in _wholes(part, groups):
            parts[number].append(whole)
    for parameter in network.parameters(recurse=False):
        parts[groups[parameter]].append(nn.ParameterList([parameter]))
    return [parts[number] for number in sorted(parts)]


def _wholes(module: nn.Module, groups: Mapping[nn.Parameter, int]) -> Iterator[tuple[int, nn.Module]]:
    """The greatest parts of a module whose parameters are all of one group, with its number."""
    numbers = {groups[parameter] for parameter in module.parameters()}
    if len(numbers) == 1:
        yield numbers.pop(), module
        return
    for parameter in module.parameters(recurse=False):
        yield groups[parameter], nn.ParameterList([parameter])
    for part in module.children():
        yield from _wholes(part, groups)
