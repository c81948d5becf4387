"""Where the speech networks' weights come from: files of torchaudio and transformers, a folder of weights, nowhere."""

from __future__ import annotations

import urllib.error
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio.pipelines
from safetensors.torch import save_file
from torch import Tensor
from torchaudio.models import wav2vec2_model

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import OptionError, RecipeError
from mmreg_torchaudio.bundles import find_bundle
from mmreg_torchaudio.encoder import Wav2Vec2

SPEC = Spec("TC", (None, 1))
TINY: dict[str, Any] = {
    "extractor_conv_layer_config": [[8, 10, 5], [8, 3, 2]],
    "encoder_embed_dim": 8,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 16,
}
"""What transformers calls the same, but for the convolutions."""
TINY_CONFIG = {
    **{"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "hidden_size": 8, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "intermediate_size": 16, "num_conv_pos_embeddings": 4},
    **{"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2},
}
NAME = "wav2vec2_fairseq_base_ls960.pth"


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights at hand, and no network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("MMREG_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def tiny_weights(**changes: Any) -> dict[str, Tensor]:
    torch.manual_seed(5)
    bundle = torchaudio.pipelines.WAV2VEC2_BASE
    network = wav2vec2_model(**{**bundle._params, **TINY, **changes})
    return dict(network.state_dict())


def older_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchaudio's own files have them."""
    for number, letter in enumerate("gv"):
        name = f"parametrizations.weight.original{number}"
        weights = {key.replace(name, f"weight_{letter}"): value for key, value in weights.items()}
    return weights


def build(**options: Any) -> Wav2Vec2:
    return Wav2Vec2(SPEC, **{"architecture": TINY, **options}).eval()


def equal(encoder: Wav2Vec2, weights: dict[str, Tensor]) -> bool:
    own = encoder.network.state_dict()
    assert len(own) > 30
    return all(torch.equal(own[name], weights[name]) for name in own)


def test_a_file_of_torchaudio_is_read_with_or_without_a_last_layer_and_by_old_names(tmp_path: Path) -> None:
    weights = tiny_weights()
    save_file(weights, tmp_path / "plain.safetensors")
    assert equal(build(weights=str(tmp_path / "plain.safetensors")), weights)
    lettered = tiny_weights(aux_num_out=5)
    torch.save(older_names(lettered), tmp_path / "old.pth")
    assert "encoder.transformer.pos_conv_embed.conv.weight_g" in torch.load(tmp_path / "old.pth", weights_only=True)
    assert equal(build(weights=str(tmp_path / "old.pth")), lettered)
    normalizing = {f"model.{name}": tensor for name, tensor in weights.items()}
    save_file(normalizing, tmp_path / "wrapped.safetensors")
    assert equal(build(weights=str(tmp_path / "wrapped.safetensors")), weights)


@pytest.mark.parametrize(
    "kind", ["Wav2Vec2Model", "Wav2Vec2ForCTC", "HubertModel", "WavLMModel", "WavLMForCTC", "large"]
)
def test_a_file_of_transformers_gives_what_transformers_gives(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    large = kind == "large"
    cls = getattr(transformers, "Wav2Vec2ForPreTraining" if large else kind)
    style = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True} if large else {}
    torch.manual_seed(2)
    theirs = cls(cls.config_class(**TINY_CONFIG, **style, num_codevectors_per_group=4, codevector_dim=8)).eval()
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, path)
    bundle = "WAVLM_BASE" if "WavLM" in kind else "WAV2VEC2_LARGE_LV60K" if large else "HUBERT_BASE"
    encoder = build(model=bundle, weights=str(path), layer=1, outputs="tokens")
    waveform = torch.randn(1, 300, 1)
    heard = waveform[..., 0]
    if large:
        heard = (heard - heard.mean()) / (heard.var(correction=0) + 1e-5).sqrt()
    inner = theirs.base_model
    with torch.no_grad():
        expected = inner(heard, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(encoder(Signal(waveform)).tokens, expected, atol=1e-5, rtol=1e-5)


def test_the_bundles_own_weights_are_taken_from_the_folder_of_weights(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    weights = tiny_weights()
    torch.save(older_names(weights), tmp_path / "weights" / NAME)
    assert equal(build(), weights)


def test_offline_the_message_names_the_file_its_size_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        build(architecture={})
    told = str(raised.value)
    assert f"the weights {NAME} (377.5 MB) are not at hand" in told
    assert f"put it into {tmp_path / 'weights'}" in told


def test_a_file_of_another_network_is_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    save_file(tiny_weights(encoder_num_layers=1), tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match=r"a\.safetensors is not of this network: it lacks encoder\.transformer\.lay"):
        build(weights=str(tmp_path / "a.safetensors"))
    save_file({"linear.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(OptionError, match=r"b\.safetensors is not of this network: it lacks feature_extractor"):
        build(weights=str(tmp_path / "b.safetensors"))
    with pytest.raises(OptionError, match="there is no file"):
        build(weights=str(tmp_path / "c.safetensors"))


def test_half_of_a_wavlm_of_transformers_is_refused(tmp_path: Path) -> None:
    layer = {"layers.0.attention.gru_rel_pos_const": torch.zeros(1), "layers.0.attention.q_proj.bias": torch.zeros(8)}
    save_file({f"encoder.{name}": tensor for name, tensor in layer.items()}, tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match=r"the file lacks encoder\.layers\.0\.attention\.k_proj\.bias"):
        build(model="WAVLM_BASE", weights=str(tmp_path / "a.safetensors"))


def test_restored_it_reads_nothing(tmp_path: Path) -> None:
    build(restored=True)
    build(restored=True, weights=str(tmp_path / "gone.safetensors"))


def test_it_is_proposed_for_sounds_where_weights_are_at_hand(tmp_path: Path) -> None:
    assert Wav2Vec2.suggest("audio", [], 100) is None
    (tmp_path / "weights").mkdir()
    torch.save(tiny_weights(), tmp_path / "weights" / NAME)
    suggestion = Wav2Vec2.suggest("audio", [], 100)
    assert suggestion is not None
    assert suggestion.options == {"model": "WAV2VEC2_BASE", "freeze": True}
    assert "its weights are at hand (" in suggestion.reason
    assert Wav2Vec2.suggest("image", [], 100) is None
    better = Path(find_bundle("WAVLM_BASE_PLUS")._path)
    torch.save(tiny_weights(), tmp_path / "weights" / better)
    suggestion = Wav2Vec2.suggest("audio", [], 100)
    assert suggestion is not None
    assert suggestion.options["model"] == "WAVLM_BASE_PLUS"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of noises and tones of any length at 8 kHz, a recipe, and a file of weights."""
    random = np.random.default_rng(0)
    lines = ["sound,label"]
    for number in range(32):
        samples = random.normal(0, 0.3, random.integers(100, 900)) if number % 2 else np.sin(np.arange(400) * 0.3)
        with (tmp_path / f"{number}.wav").open("wb") as file, wave.open(file) as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes((samples.clip(-1, 1) * 32000).astype("<i2").tobytes())
        lines.append(f"{number}.wav,{['tone', 'noise'][number % 2]}")
    (tmp_path / "sounds.csv").write_text("\n".join(lines) + "\n")
    save_file(tiny_weights(), tmp_path / "speech.safetensors")
    return tmp_path


def recipe(folder: Path, **encoder: Any) -> dict[str, Any]:
    chosen = {"name": "wav2vec2", "architecture": TINY, "weights": str(folder / "speech.safetensors"), **encoder}
    return {
        "table": str(folder / "sounds.csv"),
        "target": {"column": "label"},
        "modalities": {"audio": {"column": "sound", "encoder": chosen}},
        "training": {"epochs": 1, "batch_size": 8},
    }


def test_a_frozen_run_keeps_the_weights_and_is_enough_by_itself(folder: Path) -> None:
    weights = tiny_weights()
    run = mmreg.train(recipe(folder, freeze=True), folder / "run", device="cpu")
    options = run.recipe["modalities"]["audio"]
    assert [options[key] for key in ("sample_rate", "channels", "features", "normalize")] == [
        16000,
        1,
        "waveform",
        "none",
    ]
    encoder: Any = run.model.encoder_of("audio")
    assert equal(encoder, weights)
    expected = run.predict(folder / "sounds.csv")
    (folder / "speech.safetensors").unlink()
    assert mmreg.load(run.folder, "cpu").predict(folder / "sounds.csv") == expected


def test_its_first_stages_can_be_frozen(folder: Path) -> None:
    weights = tiny_weights()
    for stages, (still, moved) in {
        1: ("feature_extractor.", "encoder."),
        2: ("former.layers.0.", "former.layers.1."),
    }.items():
        run = mmreg.train(recipe(folder, freeze=stages, layer_decay=0.8), folder / f"run{stages}", device="cpu")
        encoder: Any = run.model.encoder_of("audio")
        own = encoder.network.state_dict()
        assert all(torch.equal(own[name], weights[name]) for name in own if still in name)
        unmoved = [name for name in own if moved in name and "weight" in name and torch.equal(own[name], weights[name])]
        assert not unmoved


def test_a_recipe_of_another_rate_is_refused(folder: Path) -> None:
    given = recipe(folder)
    given["modalities"]["audio"]["sample_rate"] = 8000
    with pytest.raises(RecipeError, match="must be 16000, as encoder 'wav2vec2' needs it, found 8000"):
        mmreg.train(given, folder / "run", device="cpu")
