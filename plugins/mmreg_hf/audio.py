"""Pretrained models of sounds: of waveforms (wav2vec 2.0, HuBERT, WavLM) and of spectrograms (AST, CLAP, Whisper).

Axes: B batch, C channels, T time (samples or frames), D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmreg import SEQUENCE, Features, Signal, Spec
from mmreg.errors import OptionError
from mmreg.layers import length_mask
from mmreg_hf.encoder import HuggingFaceEncoder
from mmreg_hf.folders import PROCESSORS, read_processor
from mmreg_hf.reading import reads_folder
from mmreg_hf.spectrograms import EXTRACTORS, SETTINGS, SpectrogramExtractor
from mmreg_hf.waveforms import MaskedGroupNorm, fewest_samples, long_enough, mask_group_norms, num_frames, scaled

WAVEFORM_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
"""The types of models that take waveforms as they are, and give each row what it would get alone."""


class HuggingFaceAudio(HuggingFaceEncoder):
    """A model of sounds of Hugging Face's transformers: wav2vec 2.0, HuBERT, WavLM, UniSpeech, AST, CLAP, Whisper.

    The modality gives waveforms at the model's own rate. Each sound is brought to mean 0 and deviation 1 where the
    model's feature extractor does so, over its true length; its result does not depend on the others' lengths, not
    even with models whose first norm runs over time (transformers' own does). AST, the tower of CLAP and the encoder
    of Whisper take spectrograms, which their own feature extractors make, of the beginning of a sound that is longer
    than these take (10 or 30 seconds), in CPU memory: freeze such a model, so that it is done once. Features are not
    hidden, nor layers skipped, as they were when these models were trained. Weights are read from safetensors files
    alone, and nothing that comes with a model is run. What a run needs of the model is in the run.

    Args:
        spec: waveforms "TC" of one channel.
        model: the model's name on the hub, such as facebook/wav2vec2-base-960h, or a folder with its config.json,
            preprocessor_config.json and model.safetensors.
        pooling: what becomes of a sound's frames: their `mean`, the first one (`cls`), what the `model` makes of them
            itself (AST, CLAP), or that after the `projection` into the space that CLAP's towers share. If it is not
            given: `model` of AST and CLAP, `mean` of the others. Not used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a frame (mostly 20 ms), or a patch of the spectrogram.

    Raises:
        OptionError: the model cannot be had, or is none of these.
        SpecError: from a spec that `accepts` refuses.
    """

    kind = "audio"
    tower = "audio"
    wanted = (PROCESSORS,)

    def __init__(
        self,
        spec: Spec,
        *,
        pooling: Literal["mean", "cls", "model", "projection"] | None = None,
        **options: Any,
    ) -> None:
        self.norms: list[MaskedGroupNorm] = []
        self.extractor: SpectrogramExtractor | None = None
        super().__init__(spec, pooling=pooling, **options)

    @classmethod
    @reads_folder
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes waveforms of one channel."""
        if spec.axes == SEQUENCE and spec.size("C") == 1 and "float" in spec.dtype:
            return None
        return f'it takes waveforms "{SEQUENCE}" of one channel, as audio with features: waveform gives them'

    @classmethod
    @reads_folder
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Waveforms at the model's rate, as they are."""
        needed = cls.needed_config(options)
        if needed is None:
            return {}
        rate = cls._facts(*needed)["sampling_rate"]
        return {"features": "waveform", "sample_rate": rate, "channels": 1, "normalize": "none"}

    @staticmethod
    def _facts(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(config.get("model_type"))
        if kind not in WAVEFORM_TYPES and kind not in EXTRACTORS:
            raise OptionError(
                f"model: a {kind!r} takes no sounds, or none that can be made in batches as its own feature extractor "
                f"makes them; these do: {', '.join((*WAVEFORM_TYPES, *EXTRACTORS))}"
            )
        if config.get("conv_pos_batch_norm"):
            raise OptionError("model: it has a norm over batches and padding (conv_pos_batch_norm), which is not taken")
        processor = read_processor(folder, "feature_extractor")
        if kind in EXTRACTORS:
            settings = {key: value for key, value in processor.items() if key in SETTINGS}
            return {"sampling_rate": SpectrogramExtractor(kind, settings).rate, "extractor": settings}
        rate = processor.get("sampling_rate", 16000)
        if not isinstance(rate, int) or rate < 1:
            raise OptionError(f"model: sampling_rate of its feature extractor is {rate!r}, where Hz are needed")
        return {"sampling_rate": rate, "scaled": bool(processor.get("do_normalize", True))}

    @reads_folder
    def read(self, folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rate, and whether each sound is brought to mean 0 and deviation 1, or how spectrograms are made."""
        return self._facts(folder, config)

    def adapt(self, config: Any) -> None:
        """No hidden features or skipped layers, whose draws no recipe's seed reaches; nor convolutions at the end."""
        config.apply_spec_augment = False
        config.layerdrop = config.encoder_layerdrop = 0.0
        config.add_adapter = False
        if config.model_type == "whisper":  # its encoder alone
            config.is_encoder_decoder = False

    def usual_pooling(self) -> str:
        """What models of spectrograms make themselves, as far as they do; else the mean."""
        return "model" if self.extractor is not None and self.config.model_type != "whisper" else "mean"

    def prepare(self) -> None:
        """Norms over time heed the true lengths; spectrograms are made as the model's own."""
        if "extractor" in self.facts:
            self.extractor = SpectrogramExtractor(self.config.model_type, self.facts["extractor"])
        else:
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
        if self.extractor is not None:
            return self._of_spectrograms(self.extractor, signal, lengths)
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

    def _of_spectrograms(self, extractor: SpectrogramExtractor, signal: Signal, lengths: Tensor) -> Features:
        """Encode waveforms (B, T, 1) of these lengths (B,) by way of spectrograms."""
        on_host = signal.lengths_on_host()
        inputs = extractor(scaled(signal.values[..., 0], lengths, False), lengths.cpu() if on_host is None else on_host)
        output = self.network(**inputs)
        tokens = output.last_hidden_state
        if tokens.dim() == 4:  # a map (B, D, F', T')
            tokens = tokens.flatten(2).transpose(1, 2)
        # The tokens of the class and of distillation are of no place in the spectrogram.
        whole = 2 if self.config.model_type == "audio-spectrogram-transformer" else 0
        return self.features(output, tokens, extractor.mask(lengths, tokens.shape[1]), whole)
