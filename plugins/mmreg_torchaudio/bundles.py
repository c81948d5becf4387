"""The pretrained networks that torchaudio knows by name: their architecture, where their weights are, how to name them.

A bundle tells its architecture by attributes with an underscore alone; torchaudio 2.11, which has them, is its last
release.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torchaudio.pipelines
from torch import Tensor
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.utils.import_huggingface import transform_wavlm_encoder_state
from torchaudio.pipelines import Wav2Vec2ASRBundle, Wav2Vec2Bundle
from torchaudio.pipelines._wav2vec2.utils import _get_state_dict

from mmreg.errors import OptionError
from mmreg.messages import listed, near, one_line

OWNERS = ("wav2vec2.", "hubert.", "wavlm.", "model.")
"""How all names begin in files of networks that have such a one as a part."""
_FACTORIES = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}


def bundle_names() -> list[str]:
    """What bundles are called: the networks trained without labels, and those trained further to write down speech."""
    kinds = (Wav2Vec2Bundle, Wav2Vec2ASRBundle)
    return [name for name, value in vars(torchaudio.pipelines).items() if type(value) in kinds]


def find_bundle(name: str) -> Wav2Vec2Bundle:
    """The bundle of a name; an `OptionError` names those there are."""
    known = bundle_names()
    if name not in known:
        raise OptionError(f"model: there is no bundle {name!r}{near(name, known)}; there are {listed(known, 40)}")
    return getattr(torchaudio.pipelines, name)


def weights_url(bundle: Wav2Vec2Bundle) -> str:
    """Where the weights of a bundle are loaded from; the folder of them all stands in torchaudio's code alone."""
    folder = re.search(r"https://[^\"{]+", inspect.getsource(_get_state_dict))
    assert folder is not None, "of its last release it is known to be there"
    return f"{folder.group()}{bundle._path}"


def make_network(bundle: Wav2Vec2Bundle, changes: Mapping[str, Any]) -> Wav2Vec2Model:
    """A network of a bundle's architecture, without a last layer of letters, with random weights.

    Args:
        bundle: the architecture.
        changes: parameters of torchaudio's function that differ from the bundle's.

    Raises:
        OptionError: there is no such parameter, or torchaudio refuses a value.
    """
    factory = _FACTORIES[bundle._model_type]
    known = [name for name in inspect.signature(factory).parameters if name != "aux_num_out"]
    for name in changes:
        if name not in known:
            raise OptionError(f"architecture: there is no {name!r}{near(name, known)}; there are {listed(known, 40)}")
    try:
        return factory(**{**bundle._params, **changes, "aux_num_out": None})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise OptionError(f"architecture: torchaudio makes no network of it: {one_line(error)}") from error


def own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file under the names of torchaudio's network, without what is not part of it.

    Args:
        weights: of torchaudio, or of transformers' Wav2Vec2, Hubert or WavLM classes: the network alone, or with layers
            for its training behind it.
    """
    owner = next((owner for owner in OWNERS if any(name.startswith(owner) for name in weights)), "")
    network = {name.removeprefix(owner): tensor for name, tensor in weights.items() if name.startswith(owner)}
    transformer, others = {}, {}
    for name, tensor in network.items():
        # Files that are older than torch's parametrizations have a weight's norm and direction under these names.
        name = name.replace("conv.weight_g", "conv.parametrizations.weight.original0")
        name = name.replace("conv.weight_v", "conv.parametrizations.weight.original1")
        if name.startswith("encoder.") and not name.startswith("encoder.feature_projection."):
            transformer[name.removeprefix("encoder.").removeprefix("transformer.")] = tensor
        elif name.startswith("feature_projection."):
            others[f"encoder.{name}"] = tensor
        elif name.startswith(("feature_extractor.", "encoder.")):
            others[name] = tensor
    if (
        any(".attention.gru_rel_pos_" in name for name in transformer)
        and "layers.0.attention.q_proj.bias" in transformer
    ):
        _join_projections(transformer)
    return {**others, **{f"encoder.transformer.{name}": tensor for name, tensor in transformer.items()}}


def _join_projections(transformer: dict[str, Tensor]) -> None:
    """Put WavLM's three projections of a layer into one, as torchaudio has it."""
    num_layers = sum(name.endswith(".attention.q_proj.bias") for name in transformer)
    try:
        transform_wavlm_encoder_state(transformer, num_layers)
    except KeyError as error:
        raise OptionError(f"weights: the file lacks encoder.{error.args[0]}") from error
