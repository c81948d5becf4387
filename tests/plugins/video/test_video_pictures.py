"""Videos without FFmpeg: GIFs and folders of pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from videos import numbered

from mmreg.errors import ValueLoadError
from mmreg_video.gif import gif_frames
from mmreg_video.modality import Video
from mmreg_video.reading import natural_order

SHADES = [0, 85, 170, 255]


def gif(delays: list[int] | int = 100, *, comment: bytes = b"") -> bytes:
    """Four frames of one shade each, shown for so many milliseconds."""
    pictures = [Picture.new("L", (8, 6), shade) for shade in SHADES]
    target = io.BytesIO()
    pictures[0].save(target, "GIF", save_all=True, append_images=pictures[1:], duration=delays, comment=comment)
    return target.getvalue()


def shades(value, **options) -> list[int]:
    return Video(size=[6, 8], **{"frames": None, **options}).load(value)[:, 0, 0, 0].tolist()


def test_frames_of_a_gif_are_shown_as_long_as_it_says(tmp_path: Path) -> None:
    data = gif([100, 300, 100, 500])
    (tmp_path / "a.gif").write_bytes(data)
    assert shades(tmp_path / "a.gif") == shades(data) == SHADES
    assert shades(data, fps=10) == [0, 85, 85, 85, 170, *[255] * 5]
    assert shades(data, frames=2) == [85, 255]
    assert shades(data, frames=3, fps=5, sampling="first") == [0, 85, 170]
    assert shades(gif(0), fps=10) == SHADES, "without delays as browsers show it"


def test_frames_of_a_gif_are_laid_over_those_before_and_over_white() -> None:
    first = Picture.new("RGBA", (4, 4), (0, 0, 0, 0))
    first.paste((255, 0, 0, 255), (0, 0, 2, 4))
    second = first.copy()
    second.paste((0, 0, 255, 255), (0, 0, 1, 1))
    target = io.BytesIO()
    first.save(target, "GIF", save_all=True, append_images=[second], duration=100, disposal=1)
    found = Video(size=4, frames=None).load(target.getvalue())
    assert found[0, :, 0, 0].tolist() == [255, 0, 0]
    assert found[0, :, 0, 3].tolist() == [255, 255, 255]
    assert found[1, :, 0, 0].tolist() == [0, 0, 255]
    assert found[1, :, 3, 0].tolist() == [255, 0, 0]


def test_a_gif_of_one_frame_is_a_video() -> None:
    target = io.BytesIO()
    Picture.new("L", (8, 6), 7).save(target, "GIF")
    assert shades(target.getvalue(), frames=2) == [7, 7]


def test_a_gif_that_is_cut_short_is_refused_or_kept_up_to_there() -> None:
    data = gif()
    for end in range(15, len(data) - 1, 7):
        with pytest.raises(ValueLoadError, match=r"cut short: a GIF without its end|a damaged GIF"):
            shades(data[:end])
    assert shades(data[: int(0.8 * len(data))], truncated="keep") == [0, 85, 170]


def test_comments_are_left_out() -> None:
    data = gif(comment=b"a" * 20_000)
    assert data.count(b"a" * 200) > 1
    assert shades(data) == SHADES
    assert b"a" * 200 not in gif_frames(data)._get._image.fp.getvalue()


def test_a_folder_of_pictures_is_taken_in_the_natural_order_of_names(tmp_path: Path) -> None:
    frames = numbered(12)
    for number, frame in enumerate(frames):
        Picture.fromarray(frame).save(tmp_path / f"frame{number}.PNG", "PNG")
    (tmp_path / "frame3.txt").write_text("no picture")
    (tmp_path / "inside").mkdir()
    modality = Video(size=[12, 16], frames=None)
    np.testing.assert_array_equal(modality.load(tmp_path), frames.transpose(0, 3, 1, 2))
    at_rate = Video(size=[12, 16], frames=None, fps=2, source_fps=4).load(tmp_path)
    np.testing.assert_array_equal(at_rate, frames[::2].transpose(0, 3, 1, 2))


def test_pictures_of_a_folder_may_differ_in_size_and_colour(tmp_path: Path) -> None:
    Picture.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "1.png")
    Picture.new("L", (5, 7), 9).save(tmp_path / "2.bmp")
    found = Video(size=8, frames=None).load(tmp_path)
    assert found.shape == (2, 3, 8, 8)
    assert (found == 9).all()


def test_names_are_ordered_by_their_numbers() -> None:
    names = ["a10", "a9", "a1b2", "a1b10", "b", "10", "9", "a01", "a1", "", "²", "٣"]
    expected = ["", "9", "10", "a01", "a1", "a1b2", "a1b10", "a9", "a10", "b", "²", "٣"]
    assert sorted(names, key=natural_order) == expected
