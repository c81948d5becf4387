"""Pretrained models of waveforms: wav2vec 2.0, HuBERT, WavLM and their kin.

Axes: B batch, C channels, T time (samples or frames), D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from mmreg import SEQUENCE, Features, Signal, Spec
from mmreg.errors import OptionError
from mmreg.layers import length_mask
from mmreg_hf.encoder import HuggingFaceEncoder
from mmreg_hf.folders import PROCESSORS, read_processor
from mmreg_hf.waveforms import MaskedGroupNorm, fewest_samples, long_enough, mask_group_norms, num_frames, scaled

WAVEFORM_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
"""The types of models that take waveforms as they are, and give each row what it would get alone."""


class HuggingFaceAudio(HuggingFaceEncoder):
    """A model of waveforms of Hugging Face's transformers: wav2vec 2.0, HuBERT, WavLM, UniSpeech.

    The modality gives waveforms at the model's own rate. Each sound is brought to mean 0 and deviation 1 where the
    model's feature extractor does so, over its true length; its result does not depend on the others' lengths, not
    even with models whose first norm runs over time (transformers' own does). Features are not hidden, nor layers
    skipped, as they were when these models were trained. Weights are read from safetensors files alone, and nothing
    that comes with a model is run. What a run needs of the model is in the run.

    Args:
        spec: waveforms "TC" of one channel.
        model: the model's name on the hub, such as facebook/wav2vec2-base-960h, or a folder with its config.json,
            preprocessor_config.json and model.safetensors.
        pooling: what becomes of a sound's frames: their `mean`, or the first one (`cls`). Not used when tokens are
            asked for.
        outputs: "pooled", or "tokens" for one vector a frame (mostly 20 ms).

    Raises:
        OptionError: the model cannot be had, or takes no waveforms.
        SpecError: from a spec that `accepts` refuses.
    """

    kind = "audio"
    tower = "audio"
    wanted = (PROCESSORS,)

    def __init__(
        self,
        spec: Spec,
        *,
        pooling: Literal["mean", "cls"] = "mean",
        **options: Any,
    ) -> None:
        self.norms: list[MaskedGroupNorm] = []
        super().__init__(spec, pooling=pooling, **options)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes waveforms of one channel."""
        if spec.axes == SEQUENCE and spec.size("C") == 1 and "float" in spec.dtype:
            return None
        return f'it takes waveforms "{SEQUENCE}" of one channel, as audio with features: waveform gives them'

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Waveforms at the model's rate, as they are."""
        needed = cls.needed_config(options)
        if needed is None:
            return {}
        rate = cls._facts(*needed)["sampling_rate"]
        return {"features": "waveform", "sample_rate": rate, "channels": 1, "normalize": "none"}

    @staticmethod
    def _facts(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        if config.get("model_type") not in WAVEFORM_TYPES:
            raise OptionError(
                f"model: a {config.get('model_type')!r} takes no waveforms, or none that can be made in batches as its "
                f"own feature extractor makes them; these do: {', '.join(WAVEFORM_TYPES)}"
            )
        if config.get("conv_pos_batch_norm"):
            raise OptionError("model: it has a norm over batches and padding (conv_pos_batch_norm), which is not taken")
        processor = read_processor(folder, "feature_extractor")
        rate = processor.get("sampling_rate", 16000)
        if not isinstance(rate, int) or rate < 1:
            raise OptionError(f"model: sampling_rate of its feature extractor is {rate!r}, where Hz are needed")
        return {"sampling_rate": rate, "scaled": bool(processor.get("do_normalize", True))}

    def read(self, folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rate, and whether each sound is brought to mean 0 and deviation 1."""
        return self._facts(folder, config)

    def adapt(self, config: Any) -> None:
        """No hidden features or skipped layers, whose draws no recipe's seed reaches; nor convolutions at the end."""
        config.apply_spec_augment = False
        config.layerdrop = 0.0
        config.add_adapter = False

    def usual_pooling(self) -> str:
        """The mean."""
        return "mean"

    def prepare(self) -> None:
        """Norms over time heed the true lengths."""
        self.norms = mask_group_norms(self.network, self.config)

    def smallest(self) -> Signal:
        """Silence of a single frame."""
        lengths = torch.tensor([1])
        return Signal(torch.zeros(1, self.spec.shape[0] or 1, 1), lengths, lengths)

    def forward(self, signal: Signal) -> Features:
        """Encode waveforms (B, T, 1) to pooled (B, D), or to tokens (B, T', D) with their mask."""
        size = signal.values.shape[1]
        lengths = signal.lengths
        if lengths is None:
            lengths = torch.full((len(signal),), size, device=signal.device)
        waveform = scaled(signal.values[..., 0], lengths, self.facts["scaled"])
        frames = num_frames(self.config, lengths)
        waveform, lengths = long_enough(waveform, lengths, fewest_samples(self.config))
        for norm in self.norms:
            norm.lengths = lengths
        valid = length_mask(lengths, waveform.shape[1])
        with warnings.catch_warnings():
            # Of masks of two types, which transformers' WavLM hands to torch.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
            tokens = self.network(waveform, attention_mask=valid.long()).last_hidden_state
        return self.features({}, tokens, length_mask(frames, tokens.shape[1]))
