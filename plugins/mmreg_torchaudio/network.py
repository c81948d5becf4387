"""Runs torchaudio's networks of speech over a padded batch so that each row gets what it would get alone.

Torchaudio's own way with a batch leaks padding: the group norm of the base networks takes its statistics over it, and
WavLM takes no lengths at all.

Axes: B batch, C channels, T samples or frames, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torchaudio.models.wav2vec2.components import Encoder, FeatureExtractor
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from mmreg.layers import at_least_float32, length_mask


def least_samples(extractor: FeatureExtractor) -> int:
    """The samples that one frame sees; a shorter waveform has none."""
    samples = 1
    for layer in reversed(extractor.conv_layers):
        samples = (samples - 1) * layer.conv.stride[0] + layer.kernel_size
    return samples


def normalized(waveform: Tensor, mask: Tensor | None) -> Tensor:
    """Each row (B, T) with mean 0 and variance 1 over its own samples (mask (B, T)), zero beyond them."""
    if mask is None:
        return functional.layer_norm(waveform, waveform.shape[1:])
    scale, shift = _scale_and_shift(waveform[:, None], mask, eps=1e-5)
    return (waveform * scale[:, 0] + shift[:, 0]).masked_fill(~mask, 0)


def extract_frames(
    extractor: FeatureExtractor, waveform: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The frames (B, T', D) of waveforms (B, T), and how many each row has.

    Args:
        extractor: torchaudio's stack of convolutions.
        waveform: finite beyond the lengths too.
        lengths: (B,) the samples of each row, at least `least_samples`; None where no row has padding.
    """
    values = waveform[:, None]
    for layer in extractor.conv_layers:
        values = layer.conv(values)
        if lengths is not None:
            lengths = (lengths - layer.kernel_size) // layer.conv.stride[0] + 1
        norm = layer.layer_norm
        if isinstance(norm, nn.GroupNorm) and lengths is not None:
            values = _group_norm(norm, values, length_mask(lengths, values.shape[-1]))
        elif norm is not None:
            values = norm(values)
        values = functional.gelu(values)
    return values.transpose(1, 2), lengths


def _group_norm(norm: nn.GroupNorm, values: Tensor, mask: Tensor) -> Tensor:
    """A group norm of one channel a group over the valid positions of (B, C, T); what is beyond stays finite."""
    scale, shift = _scale_and_shift(values, mask, norm.eps)
    scale, shift = norm.weight[:, None] * scale, norm.weight[:, None] * shift + norm.bias[:, None]
    return (values * scale + shift).to(values.dtype)


def _scale_and_shift(values: Tensor, mask: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """What to multiply (B, C, T) by and then to add, each (B, C, 1), for mean 0 and variance 1 over the mask (B, T)."""
    wide, beyond = at_least_float32(values), ~mask[:, None]
    count = mask.sum(1)[:, None, None]
    mean = wide.masked_fill(beyond, 0).sum(2, keepdim=True) / count
    variance = (wide - mean).masked_fill(beyond, 0).square().sum(2, keepdim=True) / count
    scale = (variance + eps).rsqrt()
    return scale, -mean * scale


def transformer_layers(
    encoder: Encoder, frames: Tensor, mask: Tensor | None, *, checkpointed: bool = False
) -> Iterator[Tensor]:
    """What each layer of the transformer gives for frames (B, T, D), one after the other: (B, T, D').

    No layer is left out by chance (LayerDrop): the networks were trained so, but processes that train one together
    would have to agree on the layers.

    Args:
        encoder: torchaudio's projection and transformer.
        frames: as `extract_frames` gives them.
        mask: (B, T) bool, True where a frame is valid; None where all are.
        checkpointed: whether to compute a layer again for its gradients instead of keeping what they need.
    """
    hidden = encoder.feature_projection(frames)
    attention_mask = padding = bias = None
    if mask is not None:
        hidden = hidden.masked_fill(~mask[:, :, None], 0)  # the convolution of positions reads zeros beyond a row alone
        attention = encoder.transformer.layers[0].attention
        if isinstance(
            attention, WavLMSelfAttention
        ):  # it adds this to its bias, and warns where the two differ in type
            kind = attention.rel_attn_embed.weight.dtype
            padding = torch.zeros_like(mask, dtype=kind).masked_fill(~mask, -torch.inf)
        else:
            attention_mask = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    hidden = encoder.transformer._preprocess(hidden)
    for layer in encoder.transformer.layers:
        if checkpointed and torch.is_grad_enabled():
            hidden, bias = checkpoint(layer, hidden, attention_mask, bias, padding, use_reentrant=False)
        else:
            hidden, bias = layer(hidden, attention_mask, bias, padding)
        yield hidden
