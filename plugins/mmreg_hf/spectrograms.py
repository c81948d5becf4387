"""Spectrograms as a model's own feature extractor makes them: of AST, CLAP's sounds and Whisper's encoder.

Axes: B batch, T time (samples or tokens).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmreg.errors import OptionError
from mmreg.layers import length_mask
from mmreg.messages import one_line
from mmreg_hf.models import quiet

EXTRACTORS: Mapping[str, str] = {
    "audio-spectrogram-transformer": "ASTFeatureExtractor",
    "clap_audio_model": "ClapFeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
}
"""By the type of a model: transformers' own class that makes its inputs."""

SETTINGS = frozenset(
    {
        *("feature_size", "sampling_rate", "padding_value", "do_normalize", "num_mel_bins", "max_length", "mean"),
        *("std", "hop_length", "max_length_s", "fft_window_size", "frequency_min", "frequency_max", "top_db"),
        *("truncation", "padding", "chunk_length", "n_fft"),
    }
)
"""What a folder may say of how spectrograms are made: numbers and names, nothing that is run or drawn at random."""


class SpectrogramExtractor:
    """The inputs of a model, which have one size whatever the sound: padded with silence, or repeated, or cut.

    They are computed in CPU memory, a sound at a time. A longer sound loses its end; CLAP's own extractor draws a part
    of it, so that nothing could be told of it twice.

    Args:
        kind: the model's type.
        settings: what its folder says of them.

    Raises:
        OptionError: transformers refuses the settings.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any]) -> None:
        import transformers

        given = {key: value for key, value in settings.items() if key in SETTINGS}
        try:
            with quiet():
                self.extractor = getattr(transformers, EXTRACTORS[kind])(**given)
            self.rate = int(self.extractor.sampling_rate)
            self.fewest, self.most = self._sizes(kind)
        except Exception as error:  # transformers raises whatever its computations raise
            raise OptionError(f"model: how its feature extractor makes inputs is wrong: {one_line(error)}") from error
        self.kind = kind

    def _sizes(self, kind: str) -> tuple[int, int]:
        """The samples of the shortest sound that it takes, and of the longest one."""
        if kind == "audio-spectrogram-transformer":
            window, hop = int(self.rate * 0.025), int(self.rate * 0.01)  # Kaldi's, in seconds
            return window, window + hop * (int(self.extractor.max_length) - 1)
        return 1, int(self.extractor.nb_max_samples if kind == "clap_audio_model" else self.extractor.n_samples)

    def __call__(self, waveform: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What the model's forward takes.

        Args:
            waveform: (B, T), zero beyond a row's length.
            lengths: (B,) in CPU memory.
        """
        values = waveform.detach().float().cpu()
        dtype = waveform.dtype if waveform.dtype == torch.float64 else torch.float32
        sounds = []
        for row, length in zip(values, lengths.tolist(), strict=True):
            sound = row[: min(length, self.most)]
            if len(sound) < self.fewest:
                sound = torch.nn.functional.pad(sound, (0, self.fewest - len(sound)))
            sounds.append(sound.numpy())
        with torch.autocast("cpu", enabled=False):
            made = self.extractor(sounds, sampling_rate=self.rate, return_tensors="pt")
        key = "input_values" if "input_values" in made else "input_features"
        inputs = {key: made[key].to(waveform.device, dtype)}
        if self.kind == "clap_audio_model":
            # No sound is longer, as all were cut; transformers' own would call one longer at random.
            inputs["is_longer"] = torch.zeros(len(values), 1, dtype=torch.bool, device=waveform.device)
        return inputs

    def mask(self, lengths: Tensor, tokens: int) -> Tensor | None:
        """(B, T) the tokens that are of a sound (B,) and not of the silence behind it; None where that is not known."""
        if self.kind != "whisper":
            return None
        hop = 2 * int(self.extractor.hop_length)  # two frames become a token
        return length_mask(((lengths + hop - 1) // hop).clamp(1, tokens), tokens)
