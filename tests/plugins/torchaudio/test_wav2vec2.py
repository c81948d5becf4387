"""The encoder of speech networks: what it computes beside torchaudio's own, and that no padding ever shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchaudio.models import wav2vec2_model, wavlm_model

from mmreg import Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg.testing import make_subject, parametrize_checks
from mmreg_torchaudio.bundles import bundle_names, find_bundle, make_network
from mmreg_torchaudio.encoder import Wav2Vec2

SPEC = Spec("TC", (None, 1))
TINY: dict[str, Any] = {
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 2, 2)],  # a frame sees 90 samples
    "encoder_embed_dim": 24,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 32,
}
STILL = {f"encoder_{name}dropout": 0.0 for name in ("", "projection_", "attention_", "ff_interm_")}
KINDS = ["WAV2VEC2_BASE", "WAV2VEC2_LARGE_LV60K", "HUBERT_BASE", "WAVLM_BASE", "WAVLM_LARGE", "WAV2VEC2_ASR_BASE_960H"]
LENGTHS = [1600, 1, 89, 90, 431, 1599]


def build(model: str = "WAV2VEC2_BASE", **options: Any) -> Wav2Vec2:
    architecture = {**TINY, **options.pop("architecture", {})}
    torch.manual_seed(0)
    encoder = Wav2Vec2(SPEC, **{"model": model, "architecture": architecture, "weights": "none", **options})
    with torch.no_grad():  # no norm or bias at its start, and attention that is not nearly even
        for parameter in encoder.network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def batch(*lengths: int, padding: float = 0.0, known: bool = True) -> Signal:
    sizes = torch.tensor(lengths)
    values = 0.3 + torch.randn(len(lengths), max(lengths), 1, generator=torch.Generator().manual_seed(1))
    for row, length in zip(values, lengths, strict=True):
        row[length:] = padding
    return Signal(values, sizes, sizes if known else None)


def row_of(signal: Signal, row: int) -> Signal:
    assert signal.lengths is not None
    length = signal.lengths[row : row + 1]
    return Signal(signal.values[row : row + 1, : int(length)], length, length)


def theirs(encoder: Wav2Vec2, model: str) -> Callable[[Tensor], list[Tensor]]:
    """Torchaudio's own network with an encoder's weights, as `get_model` of the bundle makes it."""
    bundle = find_bundle(model)
    factory = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}[bundle._model_type]
    network = factory(**{**bundle._params, **TINY, "aux_num_out": None}).eval()
    missing = network.load_state_dict(encoder.network.state_dict(), strict=False).missing_keys
    assert all(name.startswith("encoder.transformer.layer_norm.") for name in missing)

    def extract(waveform: Tensor) -> list[Tensor]:
        if bundle._normalize_waveform:
            waveform = nn.functional.layer_norm(waveform, waveform.shape)
        return list(network.extract_features(waveform)[0])

    return extract


@pytest.mark.parametrize("model", KINDS)
def test_a_row_gets_what_torchaudio_gives_for_it(model: str) -> None:
    encoders = {layer: build(model, layer=layer, outputs="tokens") for layer in (1, 2, 3, -1, -3)}
    extract = theirs(encoders[3], model)
    signal = batch(*LENGTHS)
    with torch.no_grad():
        for row, length in [(0, 1600), (3, 90), (4, 431), (5, 1599)]:
            expected = extract(signal.values[row, :length, 0][None])
            for layer, encoder in encoders.items():
                features = encoder(signal)
                tokens = features.tokens[row][features.mask[row]]
                index = layer - 1 if layer > 0 else layer
                torch.testing.assert_close(tokens[None], expected[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("model", KINDS)
def test_a_row_is_the_same_alone_and_beside_longer_ones_whatever_the_padding_holds(model: str, known: bool) -> None:
    signal = batch(*LENGTHS, padding=float("nan"), known=known)
    for outputs in ("pooled", "tokens"):
        encoder = build(model, outputs=outputs)
        with torch.no_grad():
            together = encoder(signal)
            for row in range(len(LENGTHS)):
                alone = encoder(row_of(signal, row))
                if outputs == "pooled":
                    torch.testing.assert_close(together.pooled[row], alone.pooled[0], atol=1e-5, rtol=1e-5)
                else:
                    valid = together.tokens[row][together.mask[row]]
                    torch.testing.assert_close(valid, alone.tokens[0], atol=1e-5, rtol=1e-5)


def test_torchaudio_alone_would_leak_padding_so_that_the_test_above_says_something() -> None:
    encoder = build("WAV2VEC2_BASE")
    signal = batch(1600, 431)
    with torch.no_grad():
        (_, _, last), _ = encoder.network.extract_features(signal.values[..., 0], signal.lengths)
        (_, _, alone), _ = encoder.network.extract_features(signal.values[1:, :431, 0])
    assert (last[1, : alone.shape[1]] - alone[0]).abs().max() > 1e-3


def test_every_bundle_is_known_and_made_in_its_own_size() -> None:
    names = bundle_names()
    assert len(names) == 29
    assert {"WAV2VEC2_BASE", "WAV2VEC2_XLSR_2B", "HUBERT_ASR_LARGE", "WAVLM_BASE_PLUS"} <= set(names)
    with torch.device("meta"):
        network = make_network(find_bundle("WAV2VEC2_BASE"), {})
    assert sum(parameter.numel() for parameter in network.parameters()) == 94_370_944  # as published, less a mask's 768


def test_weighted_is_a_mean_of_the_layers_by_softmax() -> None:
    single = [build(layer=layer) for layer in (1, 2, 3)]
    encoder = build()
    signal = batch(700, 300)
    with torch.no_grad():
        each = torch.stack([other(signal).pooled for other in single])
        torch.testing.assert_close(encoder(signal).pooled, each.mean(0), atol=1e-5, rtol=1e-5)
        assert encoder.layer_weights is not None
        encoder.layer_weights.copy_(torch.tensor([0.0, 2.0, -1.0]))
        weights = torch.tensor([0.0, 2.0, -1.0]).softmax(0)
        expected = torch.einsum("l,lbd->bd", weights, each)
        torch.testing.assert_close(encoder(signal).pooled, expected, atol=1e-5, rtol=1e-5)


def test_layers_behind_the_chosen_one_are_left_out() -> None:
    encoder = build("WAV2VEC2_LARGE_LV60K", layer=-2)
    assert len(encoder.network.encoder.transformer.layers) == 2
    assert not [name for name in encoder.state_dict() if "former.layers.2." in name or "former.layer_norm" in name]
    assert encoder.layer_weights is None


def test_a_batch_without_padding_is_computed_without_masks() -> None:
    encoder = build(outputs="tokens")
    features = encoder(batch(500, 500))
    assert features.mask is None
    masked = encoder(batch(500, 500, known=False))
    assert masked.mask.all()
    torch.testing.assert_close(features.tokens, masked.tokens, atol=1e-5, rtol=1e-5)


def test_training_leaves_out_no_layer_and_repeats() -> None:
    encoder = build(architecture={**STILL, "encoder_layer_drop": 0.9})
    signal = batch(500, 300)
    expected = encoder(signal).pooled
    torch.testing.assert_close(encoder.train()(signal).pooled, expected, atol=1e-6, rtol=1e-6)


def test_checkpointed_gradients_are_the_same() -> None:
    found = []
    for checkpointed in (False, True):
        encoder = build("WAVLM_BASE", checkpoint_gradients=checkpointed).train()
        torch.manual_seed(3)
        encoder(batch(500, 300)).pooled.square().sum().backward()
        found.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, gradient in found[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, found[1][name], atol=1e-6, rtol=1e-5)


def test_stages_are_the_convolutions_and_the_layers_and_hold_all_but_the_layers_weights() -> None:
    encoder = build()
    stages = encoder.stages()
    assert len(stages) == 4
    assert stages[0] is encoder.network.feature_extractor
    assert stages[2] is encoder.network.encoder.transformer.layers[1]
    inside = {id(parameter) for stage in stages for parameter in stage.parameters()}
    outside = [name for name, parameter in encoder.named_parameters() if id(parameter) not in inside]
    assert outside == ["layer_weights"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "WAV2VEC_BASE"}, r"model: there is no bundle 'WAV2VEC_BASE'; did you mean 'WAV2VEC2_BASE'"),
        ({"layer": 0}, r"layer: 0, where the network has 3 layers: it can be 1 to 3 \(or -3 to -1\) or weighted"),
        ({"layer": -4}, r"layer: -4, where"),
        (
            {"architecture": {"encoder_layers": 2}},
            r"architecture: there is no 'encoder_layers'; did you mean 'encoder_num",
        ),
        ({"architecture": {"aux_num_out": 2}}, r"architecture: there is no 'aux_num_out'"),
        ({"architecture": {"encoder_num_heads": 5}}, r"architecture: torchaudio makes no network of it: "),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        build(**options)


@pytest.mark.parametrize("spec", [Spec("TC", (None, 2)), Spec("CHW", (1, 40, None)), Spec("TC", (None, 1), "int64")])
def test_it_takes_waveforms_of_one_channel_alone(spec: Spec) -> None:
    with pytest.raises(SpecError, match="it takes waveforms"):
        Wav2Vec2(spec, weights="none", architecture=TINY)


def _subject(model: str, **options: Any) -> Any:
    material = Wav2Vec2.conformance_material()
    given = {**material["options"], "model": model, **options}
    return make_subject(Wav2Vec2, name=f"wav2vec2-{model}", specs=material["specs"], options=given)


@parametrize_checks(_subject("WAV2VEC2_LARGE_LV60K", layer=-1), _subject("WAVLM_LARGE", checkpoint_gradients=True))
def test_the_other_kinds_conform(check: Callable[[], None]) -> None:
    check()
