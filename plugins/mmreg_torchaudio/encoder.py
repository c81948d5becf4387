"""Pretrained networks of speech as an encoder of waveforms.

Axes: B batch, C channels, T samples or frames, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmreg import SEQUENCE, Encoder, EncoderSuggestion, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import OptionError, SpecError
from mmreg.layers import length_mask, masked_mean
from mmreg.messages import byte_size, plural
from mmreg.pretrained import find_weights, load_weights, read_weights, weights_at_hand
from mmreg_torchaudio.bundles import find_bundle, make_network, own_names, weights_url
from mmreg_torchaudio.network import extract_frames, least_samples, normalized, transformer_layers

SAMPLE_RATE = 16000
"""Hz, of every bundle."""
SUGGESTED = ("WAVLM_BASE_PLUS", "WAVLM_BASE", "HUBERT_BASE", "WAV2VEC2_BASE")
"""The bundles that `mmreg init` proposes, the best first (by SUPERB, Yang et al. 2021); the large ones take long."""


class Wav2Vec2(Encoder):
    """A network of speech that learned from unlabelled recordings: wav2vec 2.0, HuBERT or WavLM, as torchaudio has it.

    Convolutions make a frame of every 20 ms of a waveform, a transformer relates them. It takes a row of any length,
    and gives it what torchaudio gives for that row alone, whatever rows are beside it. In training it does not leave
    out layers by chance (LayerDrop), as the networks' own training did.

    Args:
        model: the name of a bundle in torchaudio.pipelines, such as WAV2VEC2_BASE, HUBERT_BASE, WAVLM_BASE_PLUS or
            WAV2VEC2_ASR_BASE_960H: its architecture, and whether it wants each waveform with mean 0 and deviation 1.
        architecture: parameters of torchaudio's wav2vec2_model (or wavlm_model) that differ from the bundle's, such as
            {encoder_num_layers: 2}, for a file of such a network.
        weights: default are the bundle's, which are downloaded where they are not at hand; none is a random start;
            anything else is a file with the weights of torchaudio's network, or of transformers'.
        layer: whose result to give: 1 is the transformer's first, -1 its last, and those after it are left out; or
            weighted, a learned weighted mean of all (frozen as a whole: their plain mean). The norm behind the last
            layer of the large networks is not part of it, as in torchaudio's extract_features.
        checkpoint_gradients: while training, compute the transformer's layers once more instead of keeping what their
            gradients need: less memory for a third more time.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        model: str = "WAV2VEC2_BASE",
        architecture: dict[str, Any] | None = None,
        weights: WeightsAsset = "default",
        layer: int | Literal["weighted"] = "weighted",
        checkpoint_gradients: bool = False,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"wav2vec2 does not take {spec}: {reason}")
        bundle = find_bundle(model)
        self.network = make_network(bundle, architecture or {})
        transformer = self.network.encoder.transformer
        kept = _kept_layers(layer, len(transformer.layers))
        if not restored and weights != "none":
            path = find_weights(weights_url(bundle), self._size()) if weights == "default" else weights
            load_weights(self.network, own_names(read_weights(path)), path)
        transformer.layers = transformer.layers[:kept]
        if not transformer.layer_norm_first:
            transformer.layer_norm = nn.Identity()  # it would come after the last layer
        self.layer_weights = nn.Parameter(torch.zeros(kept)) if layer == "weighted" else None
        self.checkpoint_gradients = checkpoint_gradients
        self.normalize_waveform = bundle._normalize_waveform
        self.pooled = outputs == "pooled"
        self.least_samples = least_samples(self.network.feature_extractor)
        self.out_features = self.network.encoder.feature_projection.projection.out_features

    def _size(self) -> str:
        return byte_size(sum(parameter.numel() * parameter.itemsize for parameter in self.parameters()))

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes waveforms of one channel, of any or of one length."""
        if spec.axes == SEQUENCE and spec.shape[1] == 1 and "float" in spec.dtype:
            return None
        return (
            f"it takes waveforms (axes {SEQUENCE}, 1 channel, floating point), as audio gives with features: waveform"
        )

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Waveforms as the weights were trained with; for the large networks the encoder itself normalises them."""
        return {"sample_rate": SAMPLE_RATE, "channels": 1, "features": "waveform", "normalize": "none"}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """The best of the smaller bundles whose weights are at hand, frozen."""
        if modality.rpartition(":")[2] != "audio":
            return None
        for name in SUGGESTED:
            path = weights_at_hand(weights_url(find_bundle(name)))
            if path is not None:
                size = byte_size(path.stat().st_size)
                reason = (
                    f"its weights are at hand ({size}), frozen; trained on speech: for other sounds try audio_cnn too"
                )
                return EncoderSuggestion({"model": name, "freeze": True}, reason)
        return None

    @classmethod
    def conformance_material(cls) -> Mapping[str, Any]:
        """A network that is small enough to be checked, makes several frames of few samples, and loads no weights."""
        tiny = {
            "extractor_conv_layer_config": [[8, 2, 1], [8, 2, 1]],
            "encoder_embed_dim": 8,
            "encoder_pos_conv_kernel": 3,
            "encoder_pos_conv_groups": 2,
            "encoder_num_layers": 2,
            "encoder_num_heads": 2,
            "encoder_ff_interm_features": 16,
        }
        return {"options": {"architecture": tiny, "weights": "none"}, "specs": [Spec(SEQUENCE, (None, 1))]}

    def stages(self) -> Sequence[nn.Module]:
        """The convolutions, then each layer of the transformer, the first one with what comes before it."""
        encoder = self.network.encoder
        before = [encoder.feature_projection, encoder.transformer.pos_conv_embed, encoder.transformer.layer_norm]
        first, *others = encoder.transformer.layers
        return [self.network.feature_extractor, nn.ModuleList([*before, first]), *others]

    def forward(self, signal: Signal) -> Features:
        """Encode (B, T, 1) to pooled (B, D), the mean over a row's frames, or to tokens (B, T', D)."""
        waveform, lengths = self._waveform(signal)
        frames, lengths = extract_frames(self.network.feature_extractor, waveform, lengths)
        mask = None if lengths is None else length_mask(lengths, frames.shape[1])
        checkpointed = self.checkpoint_gradients and self.training
        layers = transformer_layers(self.network.encoder, frames, mask, checkpointed=checkpointed)
        tokens = self._chosen(layers)
        return Features(pooled=masked_mean(tokens, mask)) if self.pooled else Features(tokens=tokens, mask=mask)

    def _waveform(self, signal: Signal) -> tuple[Tensor, Tensor | None]:
        """(B, T) without what padding holds, long enough for a frame, and the rows' lengths, if any has padding."""
        waveform, lengths = signal.values.squeeze(-1), _lengths(signal)
        mask = None if lengths is None else length_mask(lengths, waveform.shape[1])
        if mask is not None:
            waveform = waveform.masked_fill(~mask, 0)
        if self.normalize_waveform:
            waveform = normalized(waveform, mask)
        missing = max(0, self.least_samples - waveform.shape[1])
        waveform = nn.functional.pad(waveform, (0, missing))
        return waveform, None if lengths is None else lengths.clamp(min=self.least_samples)

    def _chosen(self, layers: Iterator[Tensor]) -> Tensor:
        tokens = next(layers)
        if self.layer_weights is None:
            for tokens in layers:  # noqa: B007 (the last one)
                pass
            return tokens
        weights = self.layer_weights.softmax(0)
        tokens = weights[0] * tokens
        for weight, hidden in zip(weights[1:], layers, strict=True):
            tokens = tokens + weight * hidden
        return tokens


def _kept_layers(layer: int | Literal["weighted"], count: int) -> int:
    """How many of the transformer's layers are needed."""
    if layer == "weighted":
        return count
    number = layer + count + 1 if layer < 0 else layer
    if not 1 <= number <= count:
        last = f"1 to {count} (or -{count} to -1) or weighted"
        raise OptionError(f"layer: {layer}, where the network has {plural(count, 'layer')}: it can be {last}")
    return number


def _lengths(signal: Signal) -> Tensor | None:
    """The rows' lengths; None where the host knows that no row has padding, so that nothing needs to be masked."""
    host = signal.host_lengths
    if host is None or torch.compiler.is_compiling():  # a trace holds for other lengths too
        return signal.lengths
    return None if bool((host == signal.values.shape[1]).all()) else signal.lengths
