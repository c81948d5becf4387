"""How torchcodec is used, tested with a stand-in of its documented interface, and with itself where it loads.

The stand-in plays known frames; the real one needs FFmpeg's libraries, and has to show the frames that PyAV does.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from videos import numbered, write_video

from mmreg.errors import ValueLoadError
from mmreg_video.container import ContainerFrames
from mmreg_video.modality import Video
from mmreg_video.torchcodec import TorchcodecFrames, video_decoder

FRAMES = numbered(10)
START, RATE = 2.0, 10


class StandIn:
    """`torchcodec.decoders.VideoDecoder` as its documentation describes it, of ten frames that begin at 2 seconds.

    Args:
        source: a path, or bytes; kept.
        options: checked against those that it has.
    """

    opened: list[object] = []  # noqa: RUF012
    fails = False

    def __init__(self, source: Path | bytes, **options: object) -> None:
        assert isinstance(source, Path | bytes)
        assert options == {"dimension_order": "NHWC", "num_ffmpeg_threads": 1, "seek_mode": "exact"}
        if StandIn.fails:
            raise RuntimeError("Could not open input file: \n Invalid data found")
        self.opened.append(source)
        self.metadata = SimpleNamespace(
            begin_stream_seconds=START, end_stream_seconds=START + 1, height=12, width=16, rotation=None
        )

    def __len__(self) -> int:
        return len(FRAMES)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        assert all(0 <= index < len(FRAMES) for index in indices)
        pts = torch.tensor([START + index / RATE for index in indices], dtype=torch.float64)
        return SimpleNamespace(data=torch.tensor(FRAMES[indices]), pts_seconds=pts)

    def get_frames_played_at(self, seconds: list[float]) -> SimpleNamespace:
        if not all(START <= second < START + 1 for second in seconds):
            raise RuntimeError("frame pts is out of bounds")
        starts = START + np.arange(len(FRAMES)) / RATE
        return self.get_frames_at([int(np.searchsorted(starts, second, side="right")) - 1 for second in seconds])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = StandIn
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    monkeypatch.setattr(StandIn, "opened", [])
    monkeypatch.setattr(StandIn, "fails", False)
    video_decoder.cache_clear()
    yield StandIn
    video_decoder.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An MP4 by its first bytes and its index, whose content the stand-in does not look at."""
    boxes = [b"\0\0\0\x14ftypmp42\0\0\0\0mp42", b"\0\0\0\x08moov", b"\0\0\0\x0cmdat\0\0\0\0"]
    (tmp_path / "v.mp4").write_bytes(b"".join(boxes))
    return tmp_path / "v.mp4"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"frames": 5}, [1, 3, 5, 7, 9]),
        ({"frames": 20}, sorted([*range(10), *range(10)])),
        ({"frames": None}, list(range(10))),
        ({"frames": 4, "sampling": "first"}, [0, 1, 2, 3]),
        ({"frames": None, "fps": 5}, [0, 2, 4, 6, 8]),
        ({"frames": None, "fps": 10}, list(range(10))),
    ],
)
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_frames_are_those_of_pyav(
    stand_in: type[StandIn], path: Path, options: dict, expected: list[int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmreg_video.torchcodec.BATCH_BYTES", batch * FRAMES[0].nbytes)
    found = Video(size=[12, 16], **options).load(path).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found, FRAMES[expected])
    assert stand_in.opened == [path]
    Video(size=8).load(path.read_bytes())
    assert stand_in.opened[-1] == path.read_bytes()


def test_the_decoder_is_part_of_the_key_of_the_cache(stand_in: type[StandIn]) -> None:
    assert Video().load_state_key()["decoder"] == "torchcodec"


def test_what_it_cannot_decode_is_told(stand_in: type[StandIn], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "fails", True)
    with pytest.raises(
        ValueLoadError, match=r"^a video that torchcodec cannot decode \(RuntimeError: Could not open input file:"
    ):
        Video().load(path)
    monkeypatch.setattr(stand_in, "fails", False)
    monkeypatch.setattr(stand_in, "get_frames_played_at", lambda self, seconds: self.missing())
    monkeypatch.setattr(stand_in, "missing", lambda self: int("x"), raising=False)
    with pytest.raises(ValueLoadError, match=r"^a damaged video: torchcodec cannot decode it"):
        Video().load(path)


def test_one_that_does_not_load_or_does_not_turn_frames_is_passed_over(
    stand_in: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="PyAV takes its place")
    frames = numbered(4)
    path = write_video(tmp_path / "v.mov", frames, codec=("png", "rgb24"))
    modality = Video(size=[12, 16], frames=None)
    plain = stand_in.__init__

    def older(self, *arguments, **options) -> None:
        plain(self, *arguments, **options)
        del self.metadata.rotation

    monkeypatch.setattr(stand_in, "__init__", older)
    np.testing.assert_array_equal(modality.load(path).transpose(0, 2, 3, 1), frames)

    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("Could not load libtorchcodec")

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", Broken("torchcodec.decoders"))
    video_decoder.cache_clear()
    assert video_decoder() is None
    np.testing.assert_array_equal(modality.load(path).transpose(0, 2, 3, 1), frames)


def test_formats_that_may_refer_to_other_files_are_kept_from_it(stand_in: type[StandIn], tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"#EXTM3U\n/etc/passwd\n")
    with pytest.raises(ValueLoadError):
        Video().load(tmp_path / "v.mp4")
    assert stand_in.opened == []


@pytest.mark.parametrize(("ending", "rotation"), [(".mp4", None), (".mp4", 90), (".mov", None), (".webm", None)])
def test_the_real_one_shows_what_pyav_shows(tmp_path: Path, ending: str, rotation: int | None) -> None:
    if video_decoder() is None:
        pytest.skip("torchcodec is not installed, or FFmpeg's libraries are not found")
    frames = np.kron(numbered(12, 4, 6), np.ones((1, 8, 8, 1), np.uint8))
    path = write_video(tmp_path / f"v{ending}", frames, rotation=rotation)
    ours = TorchcodecFrames(path)
    assert ours.turns, "torchcodec of 0.11 or later"
    with path.open("rb") as file:
        other = ContainerFrames(file)
        assert ours.span() == pytest.approx(other.span(), abs=1e-3)
        times = [ours.span()[0] + Fraction(number, 13) for number in range(16)]
        found, expected = (np.stack(list(each.at(times))) for each in (ours, other))
        assert found.shape == expected.shape
        # The two bring colours from YUV to RGB by other roundings.
        assert np.abs(found.astype(int) - expected).mean() < 2
        assert len(list(ours.each())) == len(list(other.each())) == 12
