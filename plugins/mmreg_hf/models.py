"""From a configuration to a model of transformers, with the weights of safetensors files or random ones.

What a model is stands in its configuration, plain data with a `model_type`: the class is transformers' own of that
type, never one that a folder brings along. Of a model with several towers one alone is made.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmreg.errors import OptionError
from mmreg.messages import one_line
from mmreg.pretrained import read_weights
from mmreg_hf.fit import check_layers
from mmreg_hf.folders import CONFIG, read_settings, weights_files
from mmreg_hf.reading import reading

Tower = Literal["text", "vision", "audio"]

TOWERS = {
    "clip_text_model": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "siglip_text_model": ("SiglipTextModel", ""),
    "siglip_vision_model": ("SiglipVisionModel", ""),
    "clap_text_model": ("ClapTextModel", "ClapTextModelWithProjection"),
    "clap_audio_model": ("ClapAudioModel", "ClapAudioModelWithProjection"),
}
"""By the type of a tower: its class, and the one with a projection into the space that the towers share."""

DROPPED = frozenset(
    {
        *("auto_map", "trust_remote_code", "attn_implementation", "experts_implementation", "use_kernels"),
        *("name_or_path", "quantization_config", "torch_dtype", "dtype", "use_pretrained_backbone"),
    }
)
"""Keys of a configuration that could lead to code or to other weights, or say what is ours to say."""


def read_config(folder: Path, tower: Tower) -> dict[str, Any]:
    """The configuration of a folder's model, or of its tower if it has several.

    Raises:
        OptionError: there is none, it asks for code of its own, or the model has no such tower.
    """
    path = folder / CONFIG
    data = read_settings(path)
    if "auto_map" in data and data.get("model_type") not in _known_types():
        raise OptionError(
            f"model: {folder} brings code of its own for its type {data.get('model_type')!r} (auto_map in {CONFIG}), "
            "which is never run; use a model whose type transformers has itself"
        )
    if (folder / "adapter_config.json").is_file():
        raise OptionError(
            f"model: {folder} holds an adapter of peft (adapter_config.json), not a model: merge them where the model "
            "is trusted (merge_and_unload, then save_pretrained) and name that folder"
        )
    if f"{tower}_config" not in data:
        return plain_config(data)
    with reading(path):
        config = make_config(data)  # completes the parts with their defaults and types
        part: Any = getattr(config, f"{tower}_config", None)
        if not hasattr(part, "to_dict"):
            raise OptionError(f"model: {path} has a {tower}_config, but a {data.get('model_type')} has no such part")
        part = part.to_dict()
    if part.get("model_type") not in TOWERS:
        families = sorted({name.partition("_")[0] for name in TOWERS if f"_{tower}_" in name})
        raise OptionError(
            f"model: {folder} is of the type {data.get('model_type')!r}, of whose parts none can be used alone; of "
            f"models with several towers these can: {', '.join(families) or 'none'}"
        )
    if "projection_dim" in data:
        part["projection_dim"] = data["projection_dim"]
    return plain_config(part)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says where it was or is computed how, parts of parts included.

    An implementation of attention may be the name of a kernel on the hub, which is code.
    """
    return {
        key: plain_config(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not (str(key).startswith("_") or key in DROPPED)
    }


def make_config(data: Mapping[str, Any]) -> Any:
    """A configuration of transformers.

    Raises:
        OptionError: transformers has no such type, or refuses the values.
    """
    from transformers import AutoConfig, __version__

    kind = data.get("model_type")
    if kind not in _known_types():
        raise OptionError(f"model: transformers {__version__} has no models of the type {kind!r}")
    try:
        with quiet():
            config = AutoConfig.for_model(**plain_config(data))
    except Exception as error:  # transformers raises whatever its checks raise
        raise OptionError(f"model: the configuration of a {kind} is wrong: {one_line(error)}") from error
    if getattr(config, "use_cache", False):
        config.use_cache = False  # of texts that are written word by word
    return config


def _known_types() -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING


def model_class(config: Any, projected: bool) -> Any:
    """The class of a configuration's model.

    Raises:
        OptionError: transformers has none that gives features, or none with a projection.
    """
    import transformers

    kind = config.model_type
    if projected:
        name = TOWERS.get(kind, ("", ""))[1]
        if not name:
            with_one = sorted({tower.partition("_")[0] for tower, names in TOWERS.items() if names[1]})
            raise OptionError(f"pooling: a {kind} has no projection; {', '.join(with_one)} models have one")
        return getattr(transformers, name)
    if getattr(config, "is_encoder_decoder", False):
        raise OptionError(f"model: a {kind} is an encoder with a decoder; only encoders alone are taken")
    if kind in TOWERS:
        return getattr(transformers, TOWERS[kind][0])
    if kind == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    found = transformers.MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise OptionError(f"model: transformers has no model of the type {kind!r} that gives features")
    return found[0] if isinstance(found, tuple | list) else found


def make_model(config: Any, projected: bool) -> nn.Module:
    """A model with random weights.

    Raises:
        OptionError: transformers makes none of the configuration.
    """
    cls = model_class(config, projected)
    try:
        with quiet():
            model: nn.Module = cls(config)
    except MemoryError:
        raise
    except Exception as error:  # transformers raises whatever its modules raise
        kind = config.model_type
        raise OptionError(f"model: the configuration of a {kind} makes no model: {one_line(error)}") from error
    return model.float()


def load_model(config: Any, projected: bool, folder: Path) -> tuple[nn.Module, set[str]]:
    """A model with the weights of a folder, and the names of those that it has and the folder has not.

    Raises:
        OptionError: a file is damaged, or weights are of another shape or of layers that the model does not have.
    """
    cls = model_class(config, projected)
    weights: dict[str, Tensor] = {}
    for path in weights_files(folder):
        weights |= read_weights(path)
    prefixes: tuple[str, ...] = ()
    if config.model_type in TOWERS and not projected:  # the class has the names of a tower's own weights alone
        prefixes = (f"{config.model_type.split('_')[1]}_model.",)
    elif config.model_type == "whisper":
        prefixes = ("model.encoder.", "encoder.")
    for prefix in prefixes:
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        weights = own or weights
    try:
        with quiet():
            # All is handed over, so that transformers opens no file and asks no hub.
            model, told = cls.from_pretrained(
                None, config=config, state_dict=weights, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # transformers raises several kinds
        with torch.device("meta"):  # without memory
            make_model(config, projected)  # where the configuration alone is at fault, this tells so
        raise OptionError(f"model: the weights in {folder} are not of its {CONFIG}: {one_line(error)}") from error
    check_layers(model, told["unexpected_keys"], folder)
    return model, set(told["missing_keys"])


def unused_parameters(network: nn.Module, features: Tensor) -> set[str]:
    """The names of the parameters that features (which have a gradient) do not depend on."""
    reached: set[int] = set()
    seen, waiting = set(), [features.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return {name for name, parameter in network.named_parameters() if id(parameter) not in reached}


def compute_layers_again(network: Any) -> None:
    """Let a model keep what goes into its layers alone, and compute the rest again for its gradients.

    Raises:
        OptionError: it has no way to.
    """
    if not getattr(network, "supports_gradient_checkpointing", False):
        raise OptionError(f"checkpoint_gradients: a {network.config.model_type} has no way to; leave it out")
    later = "activation_checkpointing_enable"  # its name in later releases
    enable = getattr(network, later if hasattr(network, later) else "gradient_checkpointing_enable")
    with quiet():
        enable({"use_reentrant": False})
        # Only what is reentrant needs it; it would let gradients flow to frozen embeddings.
        network.disable_input_require_grads()


def layer_stages(network: nn.Module) -> list[nn.Module]:
    """What comes before a model's layers as one stage, then each layer; none if it has no list of layers."""
    path = _layers_path(network)
    if path is None:
        return []
    before: list[nn.Module] = []
    place = network
    for step in path:
        for name, child in place.named_children():
            if name == step:
                break
            before.append(child)
        place = getattr(place, step)
    return [nn.ModuleList(before), *place.children()]


def _layers_path(network: nn.Module) -> list[str] | None:
    """The attributes that lead to the list of modules with the most parameters that is in no other list."""
    lists = [name for name, part in network.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if not outer:
        return None
    sizes = {name: sum(p.numel() for p in network.get_submodule(name).parameters()) for name in outer}
    longest: str = max(outer, key=lambda name: sizes[name])
    return longest.split(".")


def takes(network: nn.Module, argument: str) -> bool:
    """Whether a model's forward has an argument."""
    return argument in inspect.signature(network.forward).parameters


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' notes, warnings and progress bars of reading what is at hand."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if shown:
                logging.enable_progress_bar()
