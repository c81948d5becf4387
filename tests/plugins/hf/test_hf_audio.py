"""Models of waveforms give for each sound what transformers gives for it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModel

from mmreg import Signal, Spec
from mmreg.errors import OptionError
from mmreg.testing import run_checks
from mmreg_hf.audio import HuggingFaceAudio
from mmreg_hf.models import quiet

SPEC = Spec("TC", (None, 1))
LENGTHS = [40, 25, 33, 12]
CONFIGS: dict[str, Any] = {
    "group": transformers.Wav2Vec2Config(**tiny_models.WAVES),
    "layer": transformers.Wav2Vec2Config(
        **{**tiny_models.WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    ),
    "hubert": transformers.HubertConfig(**tiny_models.WAVES),
    "wavlm": transformers.WavLMConfig(**tiny_models.WAVES),
    "unispeech": transformers.UniSpeechConfig(**tiny_models.WAVES),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("sounds")
    return {name: tiny_models.sounds(place / name, config, name != "layer") for name, config in CONFIGS.items()}


def sounds() -> list[Any]:
    generator = np.random.default_rng(0)
    return [(generator.normal(0.3, 0.2, length)).astype(np.float32) for length in LENGTHS]


def signal(garbage: float = float("nan")) -> Signal:
    values = torch.full((len(LENGTHS), max(LENGTHS) + 3, 1), garbage)
    for row, sound in enumerate(sounds()):
        values[row, : len(sound), 0] = torch.from_numpy(sound)
    return Signal(values, torch.tensor(LENGTHS), torch.tensor(LENGTHS))


def built(folder: Path, **options: Any) -> HuggingFaceAudio:
    torch.manual_seed(0)
    return HuggingFaceAudio(SPEC, model=str(folder), **options).eval()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_each_sound_gets_what_the_model_of_transformers_gives_it_alone(folders: dict[str, Path], name: str) -> None:
    with quiet():
        model = AutoModel.from_pretrained(folders[name]).eval()
        extractor = AutoFeatureExtractor.from_pretrained(folders[name])
    tokens, pooled = built(folders[name], outputs="tokens")(signal()), built(folders[name])(signal()).pooled
    assert tokens.mask is not None
    for row, sound in enumerate(sounds()):
        values = extractor(sound, sampling_rate=8000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            expected = model(values).last_hidden_state[0]
        torch.testing.assert_close(tokens.tokens[row][tokens.mask[row]], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[row], expected.mean(0), atol=1e-5, rtol=1e-5)


def test_the_modality_gives_waveforms_at_the_models_rate(folders: dict[str, Path]) -> None:
    assert HuggingFaceAudio.modality_options({"model": str(folders["group"])}) == {
        "features": "waveform",
        "sample_rate": 8000,
        "channels": 1,
        "normalize": "none",
    }


def test_a_sound_too_short_for_a_frame_is_one_of_silence_behind_it(folders: dict[str, Path]) -> None:
    encoder = built(folders["group"], outputs="tokens")
    alone = encoder(Signal(torch.ones(1, 1, 1), torch.tensor([1])))
    beside = encoder(Signal(torch.ones(2, 30, 1), torch.tensor([1, 30])))
    assert alone.mask.tolist() == [[True]]
    assert beside.mask.sum(1).tolist()[0] == 1
    torch.testing.assert_close(alone.tokens[0, 0], beside.tokens[0, 0], atol=1e-6, rtol=1e-5)


def test_nothing_is_drawn_in_training_but_dropout(folders: dict[str, Path]) -> None:
    encoder = built(folders["group"]).train()
    for part in encoder.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    encoder.config.attention_dropout = 0.0
    for layer in encoder.stages()[1:]:
        layer.attention.dropout = 0.0  # type: ignore[union-attr]
    torch.testing.assert_close(encoder(signal()).pooled, encoder(signal()).pooled, atol=0, rtol=0)
    assert encoder.config.apply_spec_augment is False
    assert encoder.config.layerdrop == 0.0


@pytest.mark.parametrize("name", ["group", "wavlm"])
def test_what_has_no_part_in_the_features_is_not_trained(folders: dict[str, Path], name: str) -> None:
    encoder = built(folders[name]).train()
    encoder(signal()).pooled.square().sum().backward()
    left = {name for name, parameter in encoder.network.named_parameters() if parameter.grad is None}
    assert left == set(encoder.unused) == {"masked_spec_embed"}


def test_other_models_of_sounds_are_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_models.whisper(tmp_path)
    (folder / "config.json").write_text('{"model_type": "encodec"}')
    with pytest.raises(OptionError, match=r"a 'encodec' takes no sounds.*these do: wav2vec2, hubert, .*, whisper"):
        HuggingFaceAudio.modality_options({"model": str(folder)})


def test_it_conforms(folders: dict[str, Path]) -> None:
    report = run_checks("encoder/hf_audio", options={"model": str(folders["group"])}, specs=[SPEC])
    assert report.ok, str(report)
    assert {result.check for result in report.of("skipped")} <= {"devices"}
