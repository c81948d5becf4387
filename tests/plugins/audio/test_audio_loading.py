"""What `Audio.load` stores: decoding, channels, resampling, cutting, and the errors for what is no sound."""

import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmreg.contract.spec import Spec
from mmreg.errors import ValueLoadError
from mmreg_audio import reading
from mmreg_audio.modality import Audio


def tone(seconds=0.5, rate=8000, frequency=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def encoded(samples, rate=8000, **options):
    target = io.BytesIO()
    soundfile.write(target, samples, rate, **{"format": "WAV", **options})
    return target.getvalue()


def wav_header(*, rate=8000, channels=1, data_size=200):
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2 & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + data_size & 0xFFFFFFFF)
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", data_size)
    )


def test_sixteen_bit_samples_survive_exactly(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8000)
    stored = Audio(sample_rate=8000).load(path)
    assert stored.dtype == np.float32
    assert stored.shape == (1000, 1)
    np.testing.assert_array_equal((stored[:, 0] * 32768).astype(np.int16), samples)


def test_stored_agrees_with_what_load_gives():
    audio = Audio(sample_rate=8000, channels=2)
    stored = audio.load(np.zeros((7, 2), np.float32))
    assert audio.stored == Spec("TC", (None, 2), str(stored.dtype))
    assert stored.shape == (7, 2)


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"),
    [
        *[("WAV", "PCM_U8", 0.01), ("WAV", "PCM_24", 1e-6), ("WAV", "FLOAT", 0), ("WAV", "ULAW", 0.05)],
        *[("FLAC", "PCM_16", 1e-4), ("AIFF", "PCM_16", 1e-4), ("OGG", "VORBIS", 0.1), ("OGG", "OPUS", 0.1)],
        ("MP3", "MPEG_LAYER_III", None),  # the codec adds a delay
    ],
)
def test_formats_from_bytes_and_from_files(tmp_path, form, subtype, tolerance):
    samples = tone().astype(np.float32)
    content = encoded(samples, format=form, subtype=subtype)
    path = tmp_path / f"sound.{form.lower()}"
    path.write_bytes(content)
    audio = Audio(sample_rate=8000)
    stored = audio.load(content)
    np.testing.assert_array_equal(audio.load(path), stored)
    assert np.abs(stored).max() == pytest.approx(0.5, abs=0.1)
    if tolerance is not None:
        np.testing.assert_allclose(stored[:, 0], samples, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float16, np.float32, np.float64])
def test_arrays_of_every_sample_type_mean_the_same_sound(dtype):
    samples = np.array([0.0, 0.5, -1.0, 0.25])
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        samples = samples * 2.0 ** (info.bits - 1) + (128 if dtype == np.uint8 else 0)
    stored = Audio().load(samples.astype(dtype))
    np.testing.assert_array_equal(stored, np.array([[0.0], [0.5], [-1.0], [0.25]], np.float32))


def test_a_dict_gives_samples_with_their_own_rate_and_a_bare_array_has_the_source_rate():
    samples = tone(rate=16000)
    audio = Audio(sample_rate=8000, source_rate=16000)
    halved = audio.load(samples)
    assert halved.shape == (4000, 1)
    np.testing.assert_array_equal(Audio(sample_rate=8000).load({"array": samples, "sampling_rate": 16000}), halved)
    np.testing.assert_array_equal(audio.load({"array": list(samples), "sampling_rate": None}), halved)
    assert Audio(sample_rate=8000).load(samples).shape == (8000, 1)


def test_a_dict_with_bytes_is_decoded():
    content = encoded(tone())
    audio = Audio(sample_rate=8000)
    np.testing.assert_array_equal(audio.load({"bytes": content, "path": None}), audio.load(content))


def test_stereo_is_mixed_to_its_mean_or_kept():
    samples = np.stack([tone(), 0.2 * tone(frequency=1000.0)], 1).astype(np.float32)
    content = encoded(samples, subtype="FLOAT")
    mixed = Audio(sample_rate=8000).load(content)
    np.testing.assert_allclose(mixed, samples.mean(1, keepdims=True), atol=1e-7)
    np.testing.assert_array_equal(Audio(sample_rate=8000).load(samples), mixed)
    np.testing.assert_array_equal(Audio(sample_rate=8000, channels=2).load(content), samples)
    np.testing.assert_array_equal(Audio(sample_rate=8000, channels=2).load(samples), samples)


@pytest.mark.parametrize("found", [1, 3])
def test_another_number_of_channels_than_asked_for_is_an_error(found):
    audio = Audio(sample_rate=8000, channels=2)
    for value in (np.zeros((10, found), np.float32), encoded(np.zeros((10, found)))):
        with pytest.raises(ValueLoadError, match=f"{found} channels, where channels: 2"):
            audio.load(value)


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (44100, 8000), (22050, 16000), (11127, 8000)])
def test_resampling_keeps_a_tone_at_its_frequency(source, target):
    stored = Audio(sample_rate=target).load(encoded(tone(rate=source), rate=source, subtype="FLOAT"))[:, 0]
    expected = tone(rate=target)
    assert abs(len(stored) - len(expected)) <= 1
    inside = slice(target // 20, 9 * target // 20)
    np.testing.assert_allclose(stored[inside], expected[inside], atol=5e-3)


def test_resampling_is_torchaudios_on_each_channel():
    from torchaudio.functional import resample

    samples = np.random.default_rng(0).standard_normal((2205, 2)).astype(np.float32)
    stored = Audio(sample_rate=8000, channels=2).load({"array": samples, "sampling_rate": 22050})
    expected = resample(torch.from_numpy(samples.T.copy()), 22050, 8000).numpy().T
    np.testing.assert_array_equal(stored, expected)


def test_a_resampling_kernel_is_computed_once(monkeypatch):
    from torchaudio import transforms

    made = []

    class Counted(transforms.Resample):
        def __init__(self, *rates, **options):
            made.append(rates)
            super().__init__(*rates, **options)

    monkeypatch.setattr(transforms, "Resample", Counted)
    reading._resampler.cache_clear()
    for _ in range(3):
        Audio(sample_rate=8000).load(encoded(tone(rate=22050), rate=22050))
    reading._resampler.cache_clear()
    assert made == [(441, 160)]


def test_large_resampling_kernels_of_odd_rates_are_not_kept():
    reading._resampler.cache_clear()
    reading.resample(np.zeros((100, 1), np.float32), 800, 801)
    assert reading._resampler.cache_info().currsize == 0


def test_resampling_filters_what_the_lower_rate_cannot_hold():
    stored = Audio(sample_rate=8000).load({"array": tone(rate=48000, frequency=7000.0), "sampling_rate": 48000})
    assert np.abs(stored[400:-400]).max() < 0.01


def test_what_is_beyond_max_seconds_is_cut_at_every_rate():
    samples = np.arange(1, 8001) / 8000
    audio = Audio(sample_rate=8000, max_seconds=0.25)
    np.testing.assert_allclose(audio.load(samples)[:, 0], samples[:2000], atol=1e-7)
    np.testing.assert_allclose(audio.load(encoded(samples, subtype="FLOAT"))[:, 0], samples[:2000], atol=1e-7)
    assert audio.load({"array": samples, "sampling_rate": 11025}).shape == (2000, 1)
    assert audio.load(encoded(samples, rate=44100)).shape == (int(np.ceil(8000 * 8 / 44.1)), 1)


def test_a_single_sample_is_a_sound():
    for value in (np.array([0.5]), {"array": np.array([0.5]), "sampling_rate": 48000}, encoded(np.array([0.5]))):
        assert Audio(sample_rate=8000).load(value).shape == (1, 1)


def test_long_files_are_decoded_no_further_than_needed(tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(20_000_000, np.int16), 8000)  # 80 MB once decoded
    audio = Audio(sample_rate=8000, max_seconds=1.0)
    audio.load(path)
    tracemalloc.start()
    try:
        assert audio.load(path).shape == (8000, 1)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data_size", [0x7FFFFF00, 0xFFFFFF00])
def test_a_header_that_promises_gigabytes_costs_only_what_is_there(data_size):
    content = wav_header(data_size=data_size) + b"\1\0" * 100
    audio = Audio(sample_rate=8000, max_seconds=1e6)
    tracemalloc.start()
    try:
        assert audio.load(content).shape == (100, 1)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_an_impossible_sampling_rate_is_refused():
    with pytest.raises(ValueLoadError, match="sampling rate of 2147483647 Hz"):
        Audio().load(wav_header(rate=2**31 - 1) + b"\1\0" * 100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no bytes"),
        (b"not a sound " * 50, "cannot be read as a sound"),
        (encoded(tone())[:20], "cannot be read as a sound"),
        (encoded(np.zeros(0)), "without a single sample"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "cannot be read as a sound"),
    ],
)
def test_bytes_that_are_no_sound(tmp_path, content, reason):
    with pytest.raises(ValueLoadError, match=reason):
        Audio().load(content)
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueLoadError, match="empty file" if not content else reason):
        Audio().load(path)


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(ValueLoadError, match="a folder"):
        Audio().load(tmp_path)
    with pytest.raises(ValueLoadError, match="no such file"):
        Audio().load(tmp_path / "missing.wav")


def test_a_file_without_a_header_is_refused(tmp_path):
    path = tmp_path / "bare.raw"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ValueLoadError, match="cannot be read as a sound"):
        Audio().load(path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(number):
    samples = tone()
    samples[17] = number
    for value in (samples, encoded(samples, subtype="FLOAT"), {"array": samples, "sampling_rate": 44100}):
        with pytest.raises(ValueLoadError, match="not finite"):
            Audio().load(value)


def test_samples_too_large_for_a_power_spectrum_are_refused():
    with pytest.raises(ValueLoadError, match="not finite"):
        Audio().load(np.array([1e300]))
    with pytest.raises(ValueLoadError, match=r"as large as 1e\+20"):
        Audio().load(np.array([1e20]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros(0), "no samples"),
        (np.zeros((2, 8000)), "transpose"),
        (np.array([1, 2]), "int64"),
        (np.array(["a"]), "<U1"),
        ("sound.wav", "str, where a pathlib.Path"),
        (None, "NoneType"),
        ({"path": "sound.wav"}, "'path'"),
        ({"array": [0.1], "sampling_rate": "fast"}, "sampling rate of 'fast'"),
        ({"array": [0.1], "sampling_rate": -1}, "sampling rate of -1"),
        ({"array": [0.1], "sampling_rate": 0.5}, "sampling rate of 0.5"),
    ],
)
def test_values_of_another_kind_are_refused(value, reason):
    with pytest.raises(ValueLoadError, match=reason):
        Audio().load(value)


def test_wav_files_are_recognised_by_their_ending():
    assert {".wav", ".flac", ".ogg", ".mp3"} <= Audio.extensions
    assert Audio.paths
    assert all(Path("x" + ending).suffix == ending for ending in Audio.extensions)


@pytest.mark.parametrize(
    ("seconds", "rate", "hop_length"),
    [(1.0, 8000, None), (2.5, 16000, None), (3.2, 8000, 200), (5.0, 44100, 512), (30.0, 11025, 256), (9.0, 20, None)],
)
def test_frames_further_apart_are_suggested_for_long_sounds(tmp_path, seconds, rate, hop_length):
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path, length in zip(paths, (0.5, seconds, seconds), strict=True):
        soundfile.write(path, np.zeros(int(length * rate)), rate)
    options = {name: value for name, (value, _) in Audio.suggest(paths).items()}
    assert options.get("hop_length") == hop_length
    Audio(**options)


def test_sounds_that_fill_max_seconds_are_counted():
    audio = Audio(sample_rate=8000, max_seconds=0.25)
    sounds = [tone(seconds) for seconds in (0.1, 0.25, 0.5, 3)]
    lengths = np.array([len(audio.load(sound)) for sound in sounds])
    assert audio.notes(lengths) == ["3 of 4 sounds reach max_seconds: 0.25, where longer ones are cut"]
    assert audio.notes(lengths[2:3]) == ["1 of 1 sound reaches max_seconds: 0.25, where longer ones are cut"]
    assert audio.notes(lengths[:1]) == []


def test_suggestions_leave_out_what_is_no_sound(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "bare.raw").write_bytes(bytes(100))
    values = [tmp_path / name for name in ("empty.wav", "pipe.wav", "text.wav", "gone.wav", "sound.wav")]
    soundfile.write(values[-1], tone(), 8000)
    assert Audio.suggest([*values, tmp_path / "bare.raw"])["max_seconds"][0] == 1.0
    assert Audio.suggest(values[:1])["max_seconds"][0] == 1.0
    assert Audio.suggest(values[1:2]) is None
