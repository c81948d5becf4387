"""Spectral features of waveforms: log-power spectrogram, log-mel spectrogram and MFCC, none of which sees padding.

Axes: B batch, C channels, F frequency (bins, mel bands or coefficients), T time (samples, then frames).
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

Spectral = Literal["log_mel", "mfcc", "spectrogram"]

FLOOR = 1e-6
"""Added to the power before the logarithm, as torchaudio's MFCC does: silence becomes log(1e-6)."""


class DeviceConstants:
    """Constant tensors, copied once to every device and floating type that they are used with."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def like(self, values: Tensor) -> tuple[Tensor, ...]:
        """The constants on the device and with the dtype of `values`."""
        key = (values.device, values.dtype)
        copies = self._copies.get(key)
        if copies is None:
            copies = tuple(tensor.to(*key) for tensor in self._tensors)
            if not torch.compiler.is_compiling():  # a tracer's stand-ins must not outlive the trace
                self._copies[key] = copies
        return copies


class SpectralFeatures:
    """From waveforms to spectral features.

    Frame t is centred on sample t * hop_length, and the sound is taken to be silent before its beginning and after
    its end. A sound of n samples has n // hop_length + 1 frames, and these are the same whatever zeros follow it.
    (Reflecting at the ends, torchaudio's default, would reflect where the padded batch ends.)

    Args:
        kind: the logarithm of the power spectrum, of its sums over triangular mel filters (HTK scale), or the
            orthonormal type II cosine transform of the latter (mel-frequency cepstral coefficients).
        sample_rate: in Hz.
        n_fft: samples in a frame, under a Hann window.
        hop_length: samples from one frame to the next.
        n_mels: mel filters. Those narrower than a frequency bin may catch nothing, and stay at the floor.
        n_mfcc: coefficients kept.
    """

    def __init__(
        self, kind: Spectral, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int, n_mfcc: int
    ) -> None:
        self.kind = kind
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.size = {"spectrogram": n_fft // 2 + 1, "log_mel": n_mels, "mfcc": n_mfcc}[kind]
        constants = [torch.hann_window(n_fft)]
        if kind != "spectrogram":
            with warnings.catch_warnings():
                # torchaudio warns of its own deprecations, and of filters that catch nothing.
                warnings.simplefilter("ignore")
                from torchaudio.functional import create_dct, melscale_fbanks

                filters = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate)
                constants.append(filters.repeat_interleave(2, 0))  # of each bin, the real and the imaginary part
                if kind == "mfcc":
                    constants.append(create_dct(n_mfcc, n_mels, norm="ortho"))
        self._constants = DeviceConstants(*constants)

    def frames(self, samples: Tensor) -> Tensor:
        """How many frames sounds of so many samples have, elementwise."""
        return torch.div(samples, self.hop_length, rounding_mode="floor") + 1

    def __call__(self, waveform: Tensor) -> Tensor:
        """Turn (B, T, C) into (B, C, F, T // hop_length + 1)."""
        window, *matrices = self._constants.like(waveform)
        batch, _, channels = waveform.shape
        before = self.n_fft // 2
        padded = nn.functional.pad(waveform.transpose(1, 2).flatten(0, 1), (before, self.n_fft - before))
        spectrum = torch.stft(padded, self.n_fft, self.hop_length, window=window, center=False, return_complex=True)
        squares = torch.view_as_real(spectrum.transpose(1, 2)).square()  # (B C, T, F, 2), of real and imaginary parts
        # The filters add up the two parts as well: the product costs less than a sum over a last axis of two.
        power = squares.flatten(2) @ matrices[0] if matrices else squares.sum(-1)
        power = power.transpose(1, 2)
        result = torch.log(power + FLOOR)
        if self.kind == "mfcc":
            result = torch.matmul(result.transpose(1, 2), matrices[1]).transpose(1, 2)
        return result.reshape(batch, channels, *result.shape[1:])
