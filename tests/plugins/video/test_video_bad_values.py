"""What is no video, or is damaged or cut short, gets a message that says so: no traceback, nothing half, no hang."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from videos import numbered, write_video

from mmreg.errors import ValueLoadError
from mmreg_video import container
from mmreg_video.modality import Video

av = pytest.importorskip("av", reason="PyAV writes the videos")


@pytest.fixture(autouse=True)
def _by_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_video.reading.video_decoder", lambda: None)


def refused(value, **options) -> str:
    """The message with which it is refused."""
    with pytest.raises(ValueLoadError) as caught:
        Video(**{"size": 8, "frames": 4, **options}).load(value)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mkv", ".avi"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.98])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    data = write_video(tmp_path / f"v{ending}", numbered(20, 32, 32)).read_bytes()
    cut = data[: int(share * len(data))]
    message = refused(cut)
    assert message.startswith(("cut short: ", "not a video in a format that is read"))
    (tmp_path / "cut").write_bytes(cut)
    assert refused(tmp_path / "cut") == message
    assert Video(size=8, frames=4).load(data + b"\0" * 5).shape == (4, 3, 8, 8), "what is appended matters not"


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mkv"])
def test_of_a_file_that_is_cut_short_the_whole_frames_are_kept_where_that_is_asked_for(
    tmp_path: Path, ending: str
) -> None:
    path = write_video(tmp_path / f"v{ending}", numbered(20, 32, 32), options={"bf": "0"})
    options = {"size": 32, "frames": None, "truncated": "keep"}
    whole = Video(**options).load(path)
    data = path.read_bytes()
    kept = Video(**options).load(data[: int(0.7 * len(data))])
    assert 5 < len(kept) < 20
    np.testing.assert_array_equal(kept, whole[: len(kept)])
    evenly = Video(**{**options, "frames": 4}).load(data[: int(0.7 * len(data))])
    np.testing.assert_array_equal(evenly[0], whole[len(kept) // 8])


def test_a_missing_index_is_told_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mov", numbered(20, 32, 32))
    cut = path.read_bytes()[: path.stat().st_size // 2]
    expected = "cut short: its index (moov) is missing, without which nothing can be decoded"
    assert refused(cut) == refused(cut, truncated="keep") == expected


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "s.mkv", numbered(0), sound=np.zeros((800, 1), np.int16))
    assert refused(path) == "a file without a video stream: audio is in it"


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "v.mov", numbered(20, 32, 32)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    assert refused(bytes(data), frames=None).startswith("a damaged video")
    kept = Video(size=32, frames=None, truncated="keep").load(bytes(data))
    np.testing.assert_array_equal(kept.transpose(0, 2, 3, 1), numbered(20, 32, 32)[: len(kept)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty: 0 bytes"),
        (b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n", "not a video in a format that is read"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video in a format that is read"),
        (b"not what you think", "not a video in a format that is read"),
        (b"\x1aE\xdf\xa3" + bytes(100), "not a video in a format|cut short"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "its index (moov) is missing"),
        (b"RIFF" + struct.pack("<L", 10_000) + b"AVI LIST", "its header promises 10,008 bytes, and 16 are there"),
        (b"GIF89a", "a GIF without its end"),
        (b"GIF89a\xff\xff\xff\xff\0\0\0", "frames of 65535 x 65535 pixels are refused"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "a GIF without a single whole frame"),
        (b"GIF89a\x01\0\x01\0\0\0\0\x77;", "neither a frame nor an end"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "it.mp4").write_bytes(content)
    found = refused(tmp_path / "it.mp4")
    assert any(part in found for part in message.split("|"))
    assert refused(content) == found


def test_a_playlist_makes_it_read_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts", numbered(4, 32, 32))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    assert "not a video in a format that is read" in refused(tmp_path / "list.m3u8")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing.mp4") == "no such file"
    assert "cannot be read" in refused(tmp_path / "a\0b.mp4")
    assert "cannot be read" in refused(tmp_path / ("x" * 5000))
    assert refused("a text") == "a video is a path, bytes or an array of frames, found str"
    assert "is no video: pass (T, H, W)" in refused(np.zeros((4, 4), np.uint8))
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.mp4")
        assert refused(tmp_path / "pipe.mp4") == "a FIFO, not a file"


@pytest.mark.parametrize(
    "name", ["%03d.mp4", "http:__a.mp4", "-i.mp4", "pipe:0.mp4", "frame 1 é 影.mp4", "concat:a|b.mp4"]
)
def test_a_name_means_nothing_but_the_file(tmp_path: Path, name: str) -> None:
    assert (
        Video(size=8, frames=4).load(write_video(tmp_path / "v.mp4", numbered(4, 32, 32)).rename(tmp_path / name)).any()
    )


def test_folders_say_what_they_lack(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith("a folder without a picture in it (.avif, .bmp, ")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    assert refused(tmp_path).startswith("a folder without a picture in it")
    Picture.new("RGB", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    assert refused(tmp_path).startswith("its picture 2.png: not a picture but plain text")
    (tmp_path / "2.png").write_bytes(b"")
    assert refused(tmp_path) == "its picture 2.png: empty: 0 bytes"


def test_frames_too_large_are_refused_by_the_header_and_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(4, 32, 48))
    monkeypatch.setattr(container, "MAX_PIXELS", 32 * 47)
    assert refused(path) == "frames of 48 x 32 pixels are refused: at most 1,504 are decoded"
    data = path.read_bytes()
    assert data.count(b"avc1\0") == 1
    entry = data.index(b"avc1\0") + 28  # width and height in the header, which claims less than is there
    lying = data[:entry] + struct.pack(">HH", 8, 8) + data[entry + 4 :]
    assert "refused" in refused(lying) or "damaged" in refused(lying)


def test_more_frames_than_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_video.modality.MOST_BYTES", 10 * 3 * 8 * 8)
    message = "more than 10 frames of 3 x 8 x 8 are refused; set frames, a lower fps or a smaller size"
    assert refused(numbered(11), frames=None) == message
    path = write_video(tmp_path / "v.mkv", numbered(2), ticks=[0, 10**9])  # years of it
    assert refused(path, frames=None, fps=1000) == message
    assert Video(size=8, frames=3).load(path).shape == (3, 3, 8, 8)


def test_without_pyav_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(4, 32, 32))
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'a video file needs PyAV (or torchcodec and FFmpeg): pip install "mmreg[video]"' in refused(path)
    Picture.new("RGB", (4, 4)).save(tmp_path / "1.png")
    assert Video(size=8, frames=2).load(tmp_path).shape == (2, 3, 8, 8), "a folder needs none"
