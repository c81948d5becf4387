"""Frames are those of the file, at the times that the options say, whatever the container, codec and frame rate."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from videos import LOSSLESS, LOSSY, decoded, numbered, write_video

from mmreg_video import container
from mmreg_video.modality import Video

av = pytest.importorskip("av", reason="PyAV writes the videos")


@pytest.fixture(autouse=True)
def _by_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_video.reading.video_decoder", lambda: None)


def loaded(value, *, size=(12, 16), **options) -> np.ndarray:
    """What is stored of a video, as (T, H, W, C)."""
    return Video(size=list(size), **options).load(value).transpose(0, 2, 3, 1)


def numbers_of(value, originals: np.ndarray, **options) -> list[int]:
    """Which of these frames, all different, are stored of a lossless video of them."""
    names = {frame.tobytes(): number for number, frame in enumerate(originals)}
    return [names[frame.tobytes()] for frame in loaded(value, size=originals.shape[1:3], **options)]


@pytest.mark.parametrize("ending", LOSSLESS)
@pytest.mark.parametrize("shape", [(12, 16), (7, 5), (1, 1)])
def test_frames_without_loss_come_back_as_they_were(tmp_path: Path, ending: str, shape: tuple[int, int]) -> None:
    frames = numbered(6, *shape)
    path = write_video(tmp_path / f"v{ending}", frames)
    np.testing.assert_array_equal(loaded(path, size=shape, frames=None), frames)
    np.testing.assert_array_equal(loaded(path.read_bytes(), size=shape, frames=None), frames)


@pytest.mark.parametrize("ending", LOSSY)
def test_frames_are_those_that_pyav_gives_one_by_one(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"v{ending}", numbered(20, 32, 48), options={"g": "6"})
    reference = decoded(path)
    assert len(reference) == 20
    np.testing.assert_array_equal(loaded(path, size=(32, 48), frames=None), reference)
    np.testing.assert_array_equal(loaded(path, size=(32, 48), frames=10), reference[1::2])
    np.testing.assert_array_equal(loaded(path, size=(32, 48), frames=4, sampling="first", fps=5), reference[:8:2])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"frames": 5}, [1, 3, 5, 7, 9]),  # the middles of fifths are borders of frames: the later one is shown
        ({"frames": 3}, [1, 5, 8]),
        ({"frames": 1}, [5]),
        ({"frames": 20}, sorted([*range(10), *range(10)])),
        ({"frames": 4, "sampling": "first"}, [0, 1, 2, 3]),
        ({"frames": 99, "sampling": "first"}, list(range(10))),
        ({"frames": None}, list(range(10))),
        ({"frames": None, "fps": 5}, [0, 2, 4, 6, 8]),
        ({"frames": None, "fps": 4}, [0, 2, 5, 7]),
        ({"frames": None, "fps": 15}, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9]),
        ({"frames": 3, "fps": 5, "sampling": "first"}, [0, 2, 4]),
        ({"frames": None, "fps": 0.1}, [0]),
    ],
)
@pytest.mark.parametrize("ending", [".mov", ".mkv"])
def test_frames_are_taken_at_the_times_that_options_say(
    tmp_path: Path, ending: str, options: dict, expected: list[int]
) -> None:
    frames = numbered(10)
    path = write_video(tmp_path / f"v{ending}", frames)
    assert numbers_of(path, frames, **options) == expected
    assert numbers_of(frames, frames, source_fps=10, **options) == expected, "of an array as well"


def test_of_variable_frame_rates_the_times_count(tmp_path: Path) -> None:
    frames = numbered(5)
    ticks = [1000, 1100, 1200, 2000, 2900]  # milliseconds; the last is shown for as long as the one before
    path = write_video(tmp_path / "v.mkv", frames, ticks=ticks, base=Fraction(1, 1000))
    assert numbers_of(path, frames, frames=None) == [0, 1, 2, 3, 4]
    assert numbers_of(path, frames, frames=None, fps=10)[:19] == [0, 1, *[2] * 8, *[3] * 9]
    assert numbers_of(path, frames, frames=2) == [2, 3]
    assert numbers_of(path, frames, frames=3, fps=2.5, sampling="first") == [0, 2, 2]


def test_times_that_are_rounded_lose_no_frame(tmp_path: Path) -> None:
    frames = numbered(31)
    path = write_video(tmp_path / "v.mkv", frames, rate=30)  # 33, 67, 100, ... milliseconds
    assert numbers_of(path, frames, frames=None, fps=30) == list(range(31))
    assert numbers_of(path, frames, frames=31) == list(range(31))


def test_a_first_frame_whose_time_is_not_zero_is_where_time_begins(tmp_path: Path) -> None:
    frames = numbered(10)
    ticks = [5000 + 100 * number for number in range(10)]
    path = write_video(tmp_path / "v.mkv", frames, ticks=ticks, base=Fraction(1, 1000))
    with av.open(str(path)) as opened:
        assert next(opened.decode(video=0)).pts > 0
    assert numbers_of(path, frames, frames=None, fps=5) == [0, 2, 4, 6, 8]
    assert numbers_of(path, frames, frames=5) == [1, 3, 5, 7, 9]


def test_a_single_frame_is_a_video(tmp_path: Path) -> None:
    frames = numbered(1)
    path = write_video(tmp_path / "v.mov", frames)
    assert numbers_of(path, frames, frames=3) == [0, 0, 0]
    assert numbers_of(path, frames, frames=None, fps=5) == [0]


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mkv"])
def test_what_lies_between_is_not_decoded_and_the_frames_are_the_same(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = numbered(120, 16, 16) // 4
    codec = None if ending != ".mkv" else ("mpeg4", "yuv420p")
    path = write_video(tmp_path / f"v{ending}", frames, codec=codec, options={"g": "10", "keyint_min": "10"})
    count = [0]
    plain = container._decoded

    def counted(*arguments):
        for frame in plain(*arguments):
            count[0] += 1
            yield frame

    monkeypatch.setattr(container, "_decoded", counted)
    found = loaded(path, size=(16, 16), frames=4)
    assert count[0] < 60
    np.testing.assert_array_equal(found, decoded(path)[[15, 45, 75, 105]])
    count[0] = 0
    monkeypatch.setattr(container, "SEEKABLE", ())
    np.testing.assert_array_equal(loaded(path, size=(16, 16), frames=4), found)
    assert count[0] > 100


def test_seeking_that_leads_elsewhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = numbered(30)
    path = write_video(tmp_path / "v.mkv", frames)
    plain = container._Cursor._skips_to

    def too_far(self, time):
        return plain(self, time + 1) if self._keys else False

    monkeypatch.setattr(container._Cursor, "_skips_to", too_far)
    assert numbers_of(path, frames, frames=3) == [5, 15, 25]


def test_the_first_frames_of_a_long_file_are_all_that_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", numbered(300, 64, 64))
    read = [0]

    class Counted:
        def __init__(self, file) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            read[0] += size
            return self.file.read(size)

        def seek(self, *arguments) -> int:
            return self.file.seek(*arguments)

        def tell(self) -> int:
            return self.file.tell()

    with path.open("rb") as file:
        video = container.ContainerFrames(Counted(file))
        video.span(Fraction(1))
        assert read[0] < path.stat().st_size / 2


def test_a_long_video_takes_no_more_memory_than_its_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", np.zeros((120, 96, 128, 3), np.uint8), rate=12)
    modality = Video(frames=None, fps=2, size=16)
    modality.load(path)
    tracemalloc.start()
    try:
        assert modality.load(path).shape == (20, 3, 16, 16)
        assert tracemalloc.get_traced_memory()[1] < 10 * 96 * 128 * 3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    frames = numbered(2, 4, 6)
    path = write_video(tmp_path / "v.mov", frames, rotation=degrees)
    expected = np.rot90(frames, degrees // 90, (1, 2))
    np.testing.assert_array_equal(loaded(path, size=expected.shape[1:3], frames=None), expected)


@pytest.mark.parametrize(
    ("matrix", "axes"), [((-1, 0, 0, 1), (2,)), ((1, 0, 0, -1), (1,)), ((0, 1, 1, 0), ()), ((0, -1, -1, 0), (1, 2))]
)
def test_frames_are_mirrored_as_the_file_says(
    tmp_path: Path, matrix: tuple[int, int, int, int], axes: tuple[int, ...]
) -> None:
    frames = numbered(2, 4, 6)
    a, b, c, d = (number << 16 for number in matrix)
    path = write_video(tmp_path / "v.mov", frames, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    expected = np.flip(frames if a else frames.transpose(0, 2, 1, 3), axes)
    np.testing.assert_array_equal(loaded(path, size=expected.shape[1:3], frames=None), expected)


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    frames = np.zeros((2, 4, 4, 4), np.uint8)
    frames[:, :2, :, 3] = 255  # black above, nothing below
    path = write_video(tmp_path / "v.mov", frames, codec=("png", "rgba"))
    found = loaded(path, size=(4, 4), frames=None)
    assert (found[:, :2] == 0).all()
    assert (found[:, 2:] == 255).all()


def test_a_video_beside_sound_is_found(tmp_path: Path) -> None:
    frames = numbered(4)
    path = write_video(tmp_path / "v.mov", frames, sound=np.zeros((4000, 1), np.int16))
    assert numbers_of(path, frames, frames=None) == [0, 1, 2, 3]


def test_nothing_is_written_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(20, 32, 32))
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data), 50):
        data[place] ^= 0xFF
    for value in (path, path.read_bytes(), bytes(data), bytes(data[: len(data) // 2])):
        try:
            Video(size=8, frames=4, truncated="keep").load(value)
        except ValueError:
            continue
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
