"""What values the settings of a model's folder may have: types, and bounds beyond which nothing could be computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmreg.errors import OptionError
from mmreg.messages import shortened


@dataclass(frozen=True)
class Bounds:
    """What a setting's numbers may be: a single one, or each of a list.

    Attributes:
        least: the smallest.
        most: the largest.
        whole: whether they are integers.
    """

    least: float
    most: float
    whole: bool = True

    def __contains__(self, value: Any) -> bool:
        right = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return right and self.least <= value <= self.most

    def __str__(self) -> str:
        number = "an integer" if self.whole else "a number"
        return f"{number} from {self.least:,} to {self.most:,}"


_LAYERS, _SIZES, _WINDOW = Bounds(1, 1_000), Bounds(1, 1_000_000), Bounds(1, 1_000_000)
_ANY = Bounds(-1e6, 1e6, whole=False)

BOUNDS: Mapping[str, Bounds] = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "encoder_layers", "depths"), _LAYERS),
    "decoder_layers": Bounds(0, 1_000),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "encoder_attention_heads"), Bounds(1, 10_000)),
    **dict.fromkeys(("hidden_size", "hidden_sizes", "dim", "n_embd", "d_model"), Bounds(1, 100_000)),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "encoder_ffn_dim", "conv_dim"), _SIZES),
    **dict.fromkeys(("conv_kernel", "conv_stride"), Bounds(1, 100_000)),
    "projection_dim": Bounds(0, 1_000_000),
    "vocab_size": Bounds(1, 10_000_000),
    "type_vocab_size": Bounds(0, 1_000_000),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_source_positions"), Bounds(1, 20_000_000)),
    "num_channels": Bounds(1, 1_000),
    **dict.fromkeys(("image_size", "patch_size", "size", "crop_size", "height", "width"), Bounds(1, 10_000)),
    "shortest_edge": Bounds(1, 10_000_000),  # of some models it is a number of pixels in all
    **dict.fromkeys(("image_mean", "mean"), _ANY),
    **dict.fromkeys(("image_std", "std", "rescale_factor"), Bounds(1e-9, 1e6, whole=False)),  # divided by
    **dict.fromkeys(("padding_value", "top_db"), _ANY),
    "sampling_rate": Bounds(1, 1_000_000),
    **dict.fromkeys(("hop_length", "fft_window_size", "n_fft"), _WINDOW),
    **dict.fromkeys(("feature_size", "num_mel_bins"), Bounds(1, 10_000)),
    **dict.fromkeys(("frequency_min", "frequency_max"), Bounds(0, 1_000_000, whole=False)),
    **dict.fromkeys(("max_length_s", "chunk_length"), Bounds(1, 3_600)),
    "max_length": Bounds(0, 100_000),
}
"""By a setting's key, wherever it is; what a model has no such key for may be anything that transformers takes."""

SWITCHES = frozenset({"do_normalize", "do_rescale", "do_center_crop", "do_resize", "offset", "is_encoder_decoder"})
"""Keys of settings that are true or false."""
PARTS = ("text_config", "vision_config", "audio_config")
"""Keys of the configurations of a model's towers."""
NAMES = frozenset({"id2label", "label2id", "task_specific_params"})
"""Keys of mappings whose own keys are no settings of the model's."""


def check_finite(data: Mapping[str, Any], path: Path) -> None:
    """Refuse settings with a number that is none, such as NaN, which Python's reading of JSON takes.

    Raises:
        OptionError: names the file and the key.
    """
    for key, value in _leaves(data, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"model: {path} has {value} as {key}, where a finite number is needed")


def check_values(data: Mapping[str, Any], path: Path, place: str = "") -> None:
    """Refuse settings of a wrong type, or so large or small that nothing could be computed by them.

    What is null counts as not given.

    Raises:
        OptionError: names the file, the key, what is there and what may be.
    """
    for key, value in data.items():
        wanted = _wanted(key, value)
        if wanted:
            raise OptionError(f"model: {path} has {shortened(repr(value))} as {place}{key}, where {wanted} is needed")
        if isinstance(value, Mapping) and key not in NAMES:
            check_values(value, path, f"{place}{key}.")


def _wanted(key: str, value: Any) -> str:
    """What a value should be; empty if it is, or if nothing is known of it."""
    if value is None:
        return ""
    if key in BOUNDS and not isinstance(value, Mapping):
        numbers = [number for _, number in _leaves(value, "")]
        return "" if numbers and all(number in BOUNDS[key] for number in numbers) else str(BOUNDS[key])
    if key in SWITCHES and not isinstance(value, bool):
        return "true or false"
    if key == "model_type" and not isinstance(value, str):
        return "the name of a type"
    if key in PARTS and not isinstance(value, Mapping):
        return "a mapping"
    return ""


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The single values in lists and mappings, each with where it is."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{place}[{number}]")
    else:
        yield place, value
