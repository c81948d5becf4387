"""The sound of a video is an audio input like another; what lacks one, or is cut short, says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from videos import numbered, write_video

from mmreg.errors import ValueLoadError
from mmreg_audio.modality import Audio

pytest.importorskip("av", reason="PyAV writes the videos")

EXACT = {".mkv": "flac", ".mov": "pcm_s16le", ".avi": "pcm_s16le"}


def samples(count: int = 4000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(-32768, 32768, (count, channels)).astype(np.int16)


def tone(count: int, rate: int) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)
    return (wave * 32767).astype(np.int16)[:, None]


@pytest.mark.parametrize("ending", EXACT)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_without_loss_come_back_as_they_were(tmp_path: Path, ending: str, channels: int) -> None:
    sound = samples(channels=channels)
    path = write_video(tmp_path / f"v{ending}", numbered(5), sound=sound, sound_codec=EXACT[ending])
    audio = Audio(sample_rate=8000, channels=channels)
    np.testing.assert_array_equal(audio.load(path) * 32768, sound)
    np.testing.assert_array_equal(audio.load(path.read_bytes()), audio.load(path))
    np.testing.assert_array_equal(
        Audio(sample_rate=8000, channels=channels, max_seconds=0.1).load(path) * 32768, sound[:800]
    )


@pytest.mark.parametrize(("ending", "codec", "rate"), [(".mp4", "aac", 16000), (".webm", "libopus", 48000)])
def test_lossy_sound_is_about_what_was_written(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    sound = tone(rate, rate)
    path = write_video(tmp_path / f"v{ending}", numbered(5, 32, 32), sound=sound, sound_codec=codec, sound_rate=rate)
    found = Audio(sample_rate=rate).load(path)[:, 0]
    middle = slice(rate // 4, rate // 2)  # away from the borders
    np.testing.assert_allclose(found[middle], sound[middle, 0] / 32768, atol=0.05)


def test_it_is_resampled_and_mixed_as_other_sounds_are(tmp_path: Path) -> None:
    sound = samples(8000, 2)
    path = write_video(tmp_path / "v.mov", numbered(5), sound=sound)
    audio = Audio(sample_rate=4000)
    given = audio.load({"array": sound, "sampling_rate": 8000})
    np.testing.assert_allclose(audio.load(path), given, atol=1e-6)


def test_a_video_without_sound_is_a_bad_cell_that_can_be_absent(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(5, 32, 32))
    with pytest.raises(ValueLoadError, match=r"a video without a sound track; on_bad: absent counts it as absent"):
        Audio().load(path)


@pytest.mark.parametrize("ending", [".mkv", ".avi", ".mov", ".mp4"])
def test_a_file_that_is_cut_short_is_refused_or_kept(tmp_path: Path, ending: str) -> None:
    codec = {**EXACT, ".mp4": "aac"}[ending]
    sound = samples(16000)
    path = write_video(tmp_path / f"v{ending}", numbered(20, 32, 32), sound=sound, sound_codec=codec)
    data = path.read_bytes()
    cut = data[: int(0.5 * len(data))]
    with pytest.raises(ValueLoadError, match=r"cut short|damaged|cannot be decoded"):
        Audio(sample_rate=8000).load(cut)
    if ending in (".mkv", ".mp4"):
        kept = Audio(sample_rate=8000, truncated="keep").load(cut)
        assert 0 < len(kept) < 16000


def test_without_pyav_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mov", numbered(5), sound=samples())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueLoadError, match=r'the sound of a video file needs PyAV: pip install "mmreg\[video\]"'):
        Audio().load(path)


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"FLV\x01"])
def test_what_only_begins_as_a_video_is_refused(tmp_path: Path, start: bytes) -> None:
    for content in (start, start + bytes(100), start + np.random.default_rng(0).bytes(500)):
        (tmp_path / "it").write_bytes(content)
        with pytest.raises(ValueLoadError, match=r"a damaged video or sound file|without a sound track"):
            Audio().load(tmp_path / "it")


def test_other_sounds_need_no_pyav(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None; from mmreg_audio.modality import Audio; import numpy as np, soundfile;"
    )
    code += f"soundfile.write({str(tmp_path / 'a.wav')!r}, np.zeros(100), 8000);"
    code += f"from pathlib import Path; print(Audio().load(Path({str(tmp_path / 'a.wav')!r})).shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(200, 1)\n"


def test_it_is_proposed_beside_videos_that_have_sound(tmp_path: Path) -> None:
    with_sound = [write_video(tmp_path / f"{number}.mov", numbered(5), sound=samples(8000)) for number in range(3)]
    without = [write_video(tmp_path / f"silent{number}.mov", numbered(5)) for number in range(3)]
    assert Audio.suggest(with_sound) is None
    options, told = Audio.suggest_beside("video", with_sound)
    assert {name: value for name, (value, _) in options.items()} == {"sample_rate": 8000, "max_seconds": 2.0}
    assert told == ""
    assert Audio.suggest_beside("video", [*with_sound, without[0]])[1] == "1 of the 4 videos looked at has no sound"
    assert Audio.suggest_beside("video", without) is None
    assert Audio.suggest_beside("image", with_sound) is None
