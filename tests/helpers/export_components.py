"""Every bundled component in a run that is small enough to be exported by the dozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

VECTOR = {"type": "vector", "column": "vector", "encoder": "mlp"}
RNN = {"name": "text_rnn", "embedding_size": 6, "hidden_size": 5, "num_layers": 2}
TITLE = {"type": "text", "column": "title", "encoder": RNN}
IMAGE: dict[str, Any] = {"type": "image", "column": "image", "size": 16}
IMAGE["encoder"] = {"name": "image_cnn", "channels": [4], "features": 4}
AUDIO = {"type": "audio", "column": "audio", "sample_rate": 8000}
CNN = {"name": "audio_cnn", "channels": [4], "features": 4}
GRID = {"name": "image_cnn", "channels": [4, 4], "features": 4, "pooling": "masked_global"}
SERIES = {"type": "series", "column": "series"}
TABULAR = {"type": "tabular", "columns": ["a", "b"]}
SPEECH: dict[str, Any] = {
    **{"extractor_conv_layer_config": [[8, 10, 5], [8, 3, 2]], "encoder_embed_dim": 8, "encoder_num_layers": 2},
    **{"encoder_pos_conv_kernel": 4, "encoder_pos_conv_groups": 2, "encoder_num_heads": 2},
    "encoder_ff_interm_features": 16,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "image_cnn": IMAGE,
    "image_cnn of grids": {**AUDIO, "encoder": GRID},
    "image_cnn of grids, residual": {**AUDIO, "encoder": {**GRID, "residual": True, "stride": 2}},
    "text_rnn lstm": TITLE,
    "text_rnn gru": {**TITLE, "encoder": {**RNN, "cell": "gru", "pooling": "last"}},
    "text_rnn rnn": {**TITLE, "encoder": {**RNN, "cell": "rnn", "bidirectional": False, "pooling": "last"}},
    "text_bag": {**TITLE, "encoder": "text_bag"},
    "text_cnn": {**TITLE, "encoder": "text_cnn"},
    "transformer": {**TITLE, "encoder": "transformer"},
    "text_rnn series": {**SERIES, "encoder": {**RNN, "pooling": "attention"}},
    "rnn": {**SERIES, "encoder": {"name": "rnn", "hidden_size": 5}},
    "series_cnn": {**SERIES, "encoder": "series_cnn"},
    "patch_transformer": {**SERIES, "encoder": "patch_transformer"},
    "per_step": {**SERIES, "encoder": {"name": "per_step", "encoder": "mlp"}},
    "tabular_mlp": {**TABULAR, "encoder": "tabular_mlp"},
    "ft_transformer": {**TABULAR, "encoder": "ft_transformer"},
    "tabm": {**TABULAR, "encoder": "tabm"},
    "mlp": VECTOR,
    "audio_cnn log_mel": {**AUDIO, "encoder": CNN},
    "audio_cnn mfcc": {**AUDIO, "features": "mfcc", "encoder": CNN},
    "audio_cnn spectrogram": {**AUDIO, "features": "spectrogram", "encoder": CNN},
    "torchvision": {**IMAGE, "size": 32, "encoder": {"name": "torchvision", "model": "resnet18", "weights": "none"}},
}
"""The inputs whose encoders need nothing but their options; a case's first word is the encoder."""


def timm(folder: Path) -> dict[str, Any]:
    pytest.importorskip("timm")
    return {**IMAGE, "size": 32, "encoder": {"name": "timm", "model": "test_vit", "weights": "none"}}


def hf_text(folder: Path) -> dict[str, Any]:
    pytest.importorskip("transformers")
    import tiny_models

    encoder = {"name": "hf_text", "model": str(tiny_models.bert(folder))}
    return {"type": "text", "column": "title", "encoder": encoder}


def hf_image(folder: Path) -> dict[str, Any]:
    pytest.importorskip("transformers")
    import tiny_models

    return {"type": "image", "column": "image", "encoder": {"name": "hf_image", "model": str(tiny_models.clip(folder))}}


def wav2vec2(folder: Path) -> dict[str, Any]:
    encoder = {"name": "wav2vec2", "architecture": SPEECH, "weights": "none"}
    return {"type": "audio", "column": "audio", "encoder": encoder}


def static_embedding(folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "red": 2, "thing": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": torch.arange(12.0).view(4, 3)}, folder / "table.safetensors")
    files = {"weights": str(folder / "table.safetensors"), "tokenizer": str(folder / "tokenizer.json")}
    return {"type": "text", "column": "title", "encoder": {"name": "static_embedding", **files}}


def video(folder: Path) -> dict[str, Any]:
    """Frames, each through a network of pictures."""
    encoder = {"name": "per_step", "encoder": {"name": "image_cnn", "channels": [4], "features": 4}}
    return {"type": "video", "column": "video", "size": 16, "frames": 4, "encoder": encoder}


def hf_audio(folder: Path) -> dict[str, Any]:
    pytest.importorskip("transformers")
    import tiny_models

    encoder = {"name": "hf_audio", "model": str(tiny_models.clap(folder))}
    return {"type": "audio", "column": "audio", "encoder": encoder}


MADE: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    each.__name__: each for each in (timm, hf_text, hf_image, wav2vec2, static_embedding, video)
}
"""The inputs that need files, written into a folder."""
TASKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "classification": ({"column": "label"}, "probabilities", "probability_"),
    "regression": ({"column": "price"}, "values", "value"),
    "multilabel": ({"column": "tags", "separator": ";"}, "probabilities", "probability_"),
    "ordinal": ({"column": "label", "order": ["red", "green", "blue"]}, "probabilities", "probability_"),
    "quantile": ({"column": "price"}, "values", "q"),
    "survival": ({"columns": {"time": "price", "event": "event"}}, "values", "risk"),
}
"""By the task: the target, the output that people read, and what its columns begin with in predictions."""


def write_video(path: Path, colour: int) -> None:
    """A moving square as a GIF."""
    from PIL import Image

    frames = []
    for step in range(4 + colour):
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[4:8, 2 * step : 2 * step + 4, colour] = 250
        frames.append(Image.fromarray(pixels))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
