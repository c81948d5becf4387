"""Settings of a model's folder that are wrong, whatever their types, are told by name and end in no other error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from mmreg import Recipe, Spec
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.resolve import resolve
from mmreg_hf.audio import HuggingFaceAudio
from mmreg_hf.image import HuggingFaceImage
from mmreg_hf.text import HuggingFaceText

MAKERS: dict[str, Any] = {
    "bert": tiny_models.bert,
    "clip": tiny_models.clip,
    "vit": tiny_models.vit,
    "ast": tiny_models.ast,
    "whisper": tiny_models.whisper,
}
ENCODERS: dict[str, tuple[Any, Spec]] = {
    "bert": (HuggingFaceText, Spec("T", (None,), "int64", 90)),
    "clip": (HuggingFaceImage, Spec("CHW", (3, 16, 16))),
    "vit": (HuggingFaceImage, Spec("CHW", (3, 16, 16))),
    "ast": (HuggingFaceAudio, Spec("TC", (None, 1))),
    "whisper": (HuggingFaceAudio, Spec("TC", (None, 1))),
}
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def made(place: Path, name: str, file: str = CONFIG, **changes: Any) -> Path:
    """A model's folder in which a file of settings was changed."""
    folder = Path(MAKERS[name](place / name))
    path = folder / file
    if not path.is_file():  # what later releases of transformers write
        path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def read(name: str, folder: Path) -> None:
    """All that is read of a folder before a model is made."""
    encoder, spec = ENCODERS[name]
    options = {"model": str(folder)}
    encoder.modality_options(options)
    encoder.modality_defaults(options)
    encoder.accepts(spec, options)


def built(name: str, folder: Path, **options: Any) -> Any:
    encoder, spec = ENCODERS[name]
    torch.manual_seed(0)
    return encoder(spec, model=str(folder), **options)


@pytest.mark.parametrize("name", MAKERS)
def test_settings_as_transformers_writes_them_are_taken(tmp_path: Path, name: str) -> None:
    folder = made(tmp_path, name)
    read(name, folder)
    built(name, folder)


@pytest.mark.parametrize(
    ("name", "file", "changes", "told"),
    [
        ("bert", CONFIG, {"text_config": {}}, r"config\.json has a text_config, but a bert has no such part"),
        ("bert", CONFIG, {"text_config": [1]}, r"config\.json has \[1\] as text_config, where a mapping is needed"),
        ("clip", CONFIG, {"vision_config": "x"}, r"config\.json has 'x' as vision_config, where a mapping is needed"),
        ("bert", CONFIG, {"model_type": ["a"]}, r"config\.json has \['a'\] as model_type"),
        ("vit", CONFIG, {"num_channels": "3"}, r"config\.json has '3' as num_channels, where an integer from 1"),
        ("vit", CONFIG, {"image_size": "big"}, r"config\.json has 'big' as image_size"),
        ("vit", PROCESSOR, {"size": "16"}, r"config\.json has '16' as size"),
        ("vit", PROCESSOR, {"size": {"height": "16", "width": 16}}, r"config\.json has '16' as size\.height"),
        ("vit", PROCESSOR, {"size": {"height": 16}}, r"nothing can be made of the settings in .*vit.*'width'"),
        ("vit", PROCESSOR, {"rescale_factor": 0}, "has 0 as rescale_factor"),
        ("vit", PROCESSOR, {"do_normalize": "false"}, "has 'false' as do_normalize, where true or false is needed"),
        ("vit", PROCESSOR, {"resample": [2]}, "nothing can be made of the settings in .*vit"),
        ("ast", PROCESSOR, {"sampling_rate": True}, "has True as sampling_rate"),
        ("ast", PROCESSOR, {"sampling_rate": "8000"}, "has '8000' as sampling_rate"),
    ],
)
def test_values_of_a_wrong_type_are_told(
    tmp_path: Path, name: str, file: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        read(name, made(tmp_path, name, file, **changes))


def test_a_recipe_with_such_a_folder_is_the_users_to_mend(tmp_path: Path) -> None:
    folder = made(tmp_path, "bert", text_config={})
    recipe = {
        "table": [{"text": "a b", "label": "x"}],
        "target": {"column": "label"},
        "modalities": {"text": {"column": "text", "encoder": {"name": "hf_text", "model": str(folder)}}},
    }
    with pytest.raises(RecipeError, match=r"config\.json") as caught:
        resolve(Recipe(recipe))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "file", "changes", "told"),
    [
        ("bert", CONFIG, {"layer_norm_eps": float("nan")}, r"config\.json has nan as layer_norm_eps, where a finite"),
        ("clip", CONFIG, {"vision_config": {"a": [1, float("inf")]}}, r"has inf as vision_config\.a\[1\]"),
        ("vit", PROCESSOR, {"unknown": {"mean": [float("-inf")]}}, r"has -inf as .*unknown\.mean\[0\]"),
        ("bert", "tokenizer_config.json", {"model_max_length": float("nan")}, "has nan as model_max_length"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(
    tmp_path: Path, name: str, file: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        read(name, made(tmp_path, name, file, **changes))


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path, "bert")
    text = json.dumps({**json.loads((folder / CONFIG).read_text()), "initializer_range": "?"})
    (folder / CONFIG).write_text(text.replace('"?"', "1e999"))
    with pytest.raises(OptionError, match="has inf as initializer_range"):
        read("bert", folder)


@pytest.mark.parametrize("padding", [-1, 90, "1", True])
def test_a_padding_token_that_the_model_does_not_have_is_refused(tmp_path: Path, padding: Any) -> None:
    with pytest.raises(OptionError, match=rf"config\.json has {padding!r} as pad_token_id, .* from 0 to 89"):
        read("bert", made(tmp_path, "bert", pad_token_id=padding))


def test_settings_that_lead_to_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"not finite; the likely cause is .*processor_config\.json, config\.json"):
        built("vit", made(tmp_path, "vit", layer_norm_eps=-100.0))


@pytest.mark.parametrize(
    ("name", "file", "changes"),
    [
        ("bert", CONFIG, {"num_hidden_layers": 10**9}),
        ("bert", CONFIG, {"num_hidden_layers": -1}),
        ("bert", CONFIG, {"num_hidden_layers": 0}),
        ("bert", CONFIG, {"hidden_size": 10**12}),
        ("bert", CONFIG, {"num_attention_heads": 0}),
        ("bert", CONFIG, {"vocab_size": 10**15}),
        ("vit", CONFIG, {"image_size": [10**9, 16]}),
        ("vit", CONFIG, {"patch_size": 0}),
        ("vit", CONFIG, {"num_channels": 10**9}),
        ("vit", PROCESSOR, {"size": 10**9}),
        ("vit", PROCESSOR, {"image_std": [0.5, 0.0, 0.5]}),
        ("ast", PROCESSOR, {"std": 0}),
        ("ast", PROCESSOR, {"sampling_rate": 10**12}),
        ("ast", PROCESSOR, {"num_mel_bins": 10**9}),
        ("ast", PROCESSOR, {"max_length": 10**9}),
        ("whisper", PROCESSOR, {"n_fft": 10**12}),
        ("whisper", PROCESSOR, {"hop_length": 0}),
        ("whisper", PROCESSOR, {"chunk_length": 10**9}),
        ("whisper", PROCESSOR, {"feature_size": 10**9}),
    ],
)
def test_sizes_that_nothing_could_be_computed_by_are_refused_before_any_work(
    tmp_path: Path, name: str, file: str, changes: dict[str, Any]
) -> None:
    key = next(iter(changes))
    with pytest.raises(OptionError, match=rf"config\.json has .* as (\w+\.)?{key}, where an? \w+ from .* is needed"):
        read(name, made(tmp_path, name, file, **changes))


@pytest.mark.parametrize(
    ("name", "key", "told"),
    [
        ("bert", "num_hidden_layers", r"16 tensors of layers .*: encoder\.layer\.1\."),
        ("vit", "num_hidden_layers", r"16 tensors of layers .*: layers\.1\."),
        ("whisper", "encoder_layers", r"15 tensors of layers .*: layers\.1\."),
    ],
)
def test_weights_of_layers_that_the_model_does_not_have_are_refused(
    tmp_path: Path, name: str, key: str, told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        built(name, made(tmp_path, name, **{key: 1}))


@pytest.mark.parametrize("pooling", [None, "projection"])
def test_a_tower_has_as_many_layers_as_its_weights(tmp_path: Path, pooling: str | None) -> None:
    folder = made(tmp_path, "clip")
    parts = json.loads((folder / CONFIG).read_text())
    parts["vision_config"]["num_hidden_layers"] = 1
    (folder / CONFIG).write_text(json.dumps(parts))
    with pytest.raises(OptionError, match=r"16 tensors of layers .*encoder\.layers\.1\."):
        built("clip", folder, pooling=pooling)


def test_layers_are_told_under_the_name_of_a_whole_model_with_a_head_too(tmp_path: Path) -> None:
    folder = made(tmp_path, "bert")
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights["cls.layer.7.weight"] = torch.zeros(2)  # of a head, which is left out
    save_file(weights, folder / "model.safetensors")
    built("bert", folder)
    (folder / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), "num_hidden_layers": 1}))
    with pytest.raises(OptionError, match=r"16 tensors of layers .*: (bert\.)?encoder\.layer\.1\."):
        built("bert", folder)


@pytest.mark.parametrize("weights", ["default", "none"])
@pytest.mark.parametrize("changes", [{"hidden_act": "nothing"}, {"pad_token_id": 0, "num_attention_heads": 3}])
def test_a_configuration_that_makes_no_model_is_not_blamed_on_the_weights(
    tmp_path: Path, changes: dict[str, Any], weights: str
) -> None:
    with pytest.raises(OptionError, match=r"the configuration of a bert (is wrong|makes no model)"):
        built("bert", made(tmp_path, "bert", **changes), weights=weights)
