"""What `Audio.transform` computes: against torchaudio, with statistics from training rows, whatever the padding."""

import inspect
import json

import numpy as np
import pytest
import torch
import torchaudio

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError
from mmreg_audio.modality import Audio

FEATURES = ["log_mel", "mfcc", "spectrogram", "waveform"]


def sounds(*lengths, channels=1, seed=0):
    random = np.random.default_rng(seed)
    return [(0.1 * random.standard_normal((n, channels))).astype(np.float32) for n in lengths]


def batch(arrays, padding=0.0, size=None):
    lengths = torch.tensor([len(array) for array in arrays])
    values = torch.full((len(arrays), size or int(lengths.max()), arrays[0].shape[1]), padding)
    for row, array in zip(values, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return Signal(values, lengths, lengths)


def plain(**options):
    return Audio(**{"sample_rate": 8000, "normalize": "none", **options})


def interior(grid, n_fft, hop_length):
    """The frames that no edge of the sound has touched."""
    edge = n_fft // 2 // hop_length + 1
    return grid[..., edge:-edge]


@pytest.mark.parametrize(("n_fft", "hop_length", "n_mels"), [(512, 160, 40), (400, 100, 23), (255, 64, 30)])
def test_log_mel_is_the_logarithm_of_torchaudios_mel_spectrogram(n_fft, hop_length, n_mels):
    arrays = sounds(4000, 4000)
    result = plain(n_fft=n_fft, hop_length=hop_length, n_mels=n_mels).transform(batch(arrays), training=False)
    reference = torchaudio.transforms.MelSpectrogram(8000, n_fft, hop_length=hop_length, n_mels=n_mels)
    expected = torch.log(reference(torch.from_numpy(np.stack(arrays)[:, :, 0])) + 1e-6)[:, None]
    found, expected = (interior(grid, n_fft, hop_length) for grid in (result.values, expected))
    torch.testing.assert_close(found, expected[..., : found.shape[-1]], atol=1e-4, rtol=1e-5)


def test_mfcc_is_torchaudios():
    arrays = sounds(4000)
    result = plain(features="mfcc", n_mfcc=13).transform(batch(arrays), training=False)
    reference = torchaudio.transforms.MFCC(
        8000, 13, log_mels=True, melkwargs={"n_fft": 512, "hop_length": 160, "n_mels": 40}
    )
    expected = reference(torch.from_numpy(arrays[0].T.copy()))[None]
    torch.testing.assert_close(interior(result.values, 512, 160), interior(expected, 512, 160), atol=1e-3, rtol=1e-4)


def test_spectrogram_is_the_log_power_of_a_numpy_fourier_transform_at_the_edges_too():
    (array,) = sounds(1000)
    result = plain(features="spectrogram", n_fft=256, hop_length=100).transform(batch([array]), training=False)
    padded = np.pad(array[:, 0].astype(np.float64), (128, 128))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    frames = np.stack([padded[start : start + 256] * window for start in range(0, 1001, 100)])
    expected = np.log(np.abs(np.fft.rfft(frames)) ** 2 + 1e-6).T
    np.testing.assert_allclose(result.values[0, 0].numpy(), expected, atol=1e-3)
    reference = torchaudio.transforms.Spectrogram(256, hop_length=100, pad_mode="constant")
    torch.testing.assert_close(
        result.values[0], torch.log(reference(torch.from_numpy(array.T.copy())) + 1e-6), atol=1e-3, rtol=1e-4
    )


def test_a_waveform_stays_as_it_is_but_for_its_padding():
    arrays = sounds(5, 3, channels=2)
    result = plain(features="waveform", channels=2).transform(batch(arrays, padding=9.0), training=False)
    torch.testing.assert_close(result.values[0], torch.from_numpy(arrays[0]))
    torch.testing.assert_close(result.values[1, :3], torch.from_numpy(arrays[1]))
    assert not result.values[1, 3:].any()
    assert result.lengths.tolist() == [5, 3]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [1, 2])
def test_spec_agrees_with_what_transform_gives(features, channels):
    audio = Audio(sample_rate=8000, features=features, channels=channels, n_mels=30, n_mfcc=7)
    arrays = sounds(1, 159, 160, 1000, channels=channels)
    audio.fit_arrays(iter(arrays))
    result = audio.transform(batch(arrays), training=False)
    shape = {"log_mel": 30, "mfcc": 7, "spectrogram": 257}
    expected = (
        Spec("TC", (None, channels)) if features == "waveform" else Spec("CHW", (channels, shape[features], None))
    )
    assert audio.spec == expected
    assert str(result.values.dtype) == "torch.float32"
    lengths = [1, 159, 160, 1000] if features == "waveform" else [1, 1, 2, 7]
    assert result.lengths.tolist() == lengths
    assert result.host_lengths.tolist() == lengths
    sizes = list(result.values.shape[1:])
    assert sizes.pop(expected.ragged_axis) == max(lengths)
    assert sizes == [size for size in expected.shape if size is not None]
    assert torch.isfinite(result.values).all()


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("normalize", ["frequency", "global", "none"])
def test_a_row_is_the_same_alone_and_beside_longer_ones_whatever_the_padding_holds(features, normalize):
    audio = Audio(sample_rate=8000, features=features, normalize=normalize)
    arrays = sounds(1, 100, 900, 3000)
    audio.fit_arrays(iter(arrays))
    together = audio.transform(batch(arrays, padding=float("nan"), size=3333), training=False)
    for row, array in enumerate(arrays):
        alone = audio.transform(batch([array]), training=False)
        length = int(alone.lengths)
        assert int(together.lengths[row]) == length
        values = together.values[row].movedim(audio.spec.ragged_axis, 0)
        expected = alone.values[0].movedim(audio.spec.ragged_axis, 0)
        torch.testing.assert_close(values[:length], expected, atol=1e-5, rtol=1e-5)
        assert not values[length:].any()


def test_a_batch_without_lengths_is_taken_to_be_whole():
    audio = plain()
    signal = batch(sounds(800, 800))
    result = audio.transform(Signal(signal.values), training=False)
    assert result.lengths is None
    torch.testing.assert_close(result.values, audio.transform(signal, training=False).values)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [1, 2])
def test_normalised_training_rows_have_mean_zero_and_deviation_one(features, channels):
    arrays = [3 * array + 0.01 for array in sounds(700, 1300, 80, channels=channels)]
    for normalize in ("frequency", "global"):
        audio = Audio(sample_rate=8000, features=features, channels=channels, normalize=normalize)
        audio.fit_arrays(iter(arrays))
        result = audio.transform(batch(arrays), training=False)
        axis = audio.spec.ragged_axis
        rows = zip(result.values.movedim(1 + axis, 1), result.lengths.tolist(), strict=True)
        valid = torch.cat([row[:length] for row, length in rows]).double()
        axes = 0 if normalize == "frequency" else tuple(range(valid.dim()))
        deviation, mean = torch.std_mean(valid, axes, correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-4, rtol=0)


def test_statistics_do_not_cancel_far_from_zero():
    arrays = [array + 1000 for array in sounds(500, 900)]
    audio = Audio(features="waveform")
    audio.fit_arrays(iter(arrays))
    samples = np.concatenate(arrays).astype(np.float64)
    np.testing.assert_allclose(audio.state()["mean"], samples.mean(0), rtol=1e-9)
    np.testing.assert_allclose(audio.state()["deviation"], samples.std(0), rtol=1e-9)


def test_silence_in_all_training_rows_divides_by_nothing():
    audio = Audio(sample_rate=8000)
    audio.fit_arrays(iter([np.zeros((500, 1), np.float32)]))
    result = audio.transform(batch(sounds(500)), training=False)
    assert torch.isfinite(result.values).all()


def test_read_only_arrays_can_be_fitted():
    (array,) = sounds(500)
    array.flags.writeable = False
    Audio(sample_rate=8000).fit_arrays(iter([array]))


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("normalize", ["frequency", "global", "none"])
def test_the_state_survives_json(features, normalize):
    options = {"sample_rate": 8000, "features": features, "normalize": normalize}
    audio = Audio(**options)
    arrays = sounds(300, 800)
    audio.fit_arrays(iter(arrays))
    restored = Audio(**options)
    restored.load_state(json.loads(json.dumps(audio.state())))
    assert restored.state() == audio.state()
    signal = batch(arrays)
    found, expected = restored.transform(signal, training=False), audio.transform(signal, training=False)
    assert torch.equal(found.values, expected.values)
    assert audio.load_state_key() is None


def test_double_precision_gives_the_same_features():
    audio = Audio(sample_rate=8000)
    arrays = sounds(300, 800)
    audio.fit_arrays(iter(arrays))
    signal = batch(arrays)
    wide = audio.transform(signal.replace(signal.values.double()), training=False)
    assert wide.values.dtype == torch.float64
    torch.testing.assert_close(wide.values.float(), audio.transform(signal, training=False).values, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "hop_length"), [(8000, 512, 160), (16000, 1024, 320), (44100, 2048, 882), (50, 2, 1)]
)
def test_frames_are_20_ms_apart_and_at_least_40_ms_long_at_every_rate(sample_rate, n_fft, hop_length):
    audio = Audio(sample_rate=sample_rate, features="spectrogram")
    assert audio.spec.size("H") == n_fft // 2 + 1
    assert audio.transform(batch(sounds(10 * hop_length)), training=False).lengths.tolist() == [11]


def test_more_mel_bands_than_frequency_bins_warn_of_nothing_and_stay_finite():
    audio = Audio(sample_rate=8000, n_mels=100, n_fft=128, hop_length=64)
    audio.fit_arrays(iter(sounds(500)))
    assert torch.isfinite(audio.transform(batch(sounds(500)), training=False).values).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hop_length": 600, "n_fft": 512}, "hop_length: 600"),
        ({"features": "mfcc", "n_mfcc": 41, "n_mels": 40}, "n_mfcc: 41"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, reason):
    with pytest.raises(OptionError, match=reason):
        Audio(sample_rate=8000, **options)


def test_every_option_is_read_by_load_or_is_a_transform_option():
    parameters = inspect.signature(Audio.__init__).parameters
    names = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert names - Audio.transform_options == {"sample_rate", "channels", "source_rate", "max_seconds", "truncated"}
    assert names > Audio.transform_options


@pytest.mark.parametrize("features", ["mfcc", "waveform"])
def test_the_transform_can_be_exported(features):
    audio = Audio(sample_rate=8000, features=features)
    audio.fit_arrays(iter(sounds(500)))

    class Transform(torch.nn.Module):
        def forward(self, values, lengths):
            result = audio.transform(Signal(values, lengths), training=False)
            return result.values, result.lengths

    signal = batch(sounds(500, 1000, 1))
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(Transform(), (signal.values, signal.lengths), dynamic_shapes=({0: rows}, {0: rows}))
    other = batch(sounds(1000, 7, seed=1))
    expected = audio.transform(other, training=False)
    values, lengths = exported.module()(other.values, other.lengths)
    torch.testing.assert_close(values, expected.values)
    assert torch.equal(lengths, expected.lengths)
