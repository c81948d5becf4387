"""What the video modality promises: it conforms, gives what its options say, and augments all frames alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from videos import numbered

from mmreg import Signal, Spec, registry
from mmreg.errors import OptionError
from mmreg.testing import parametrize_checks
from mmreg_video.augment import random_crop, random_flip
from mmreg_video.modality import Video


def arrays(count: int = 6) -> list[np.ndarray]:
    return [numbered(3 + number, 10, 9 + number) for number in range(count)]


@parametrize_checks(Video, values=arrays(), options={"size": 8, "frames": 4, "augment": ["crop", "flip"]})
def test_evenly_spread_frames_conform(check) -> None:
    check()


@parametrize_checks(Video, values=arrays(), options={"size": [6, 8], "frames": None, "channels": 1, "fps": 20.0})
def test_all_frames_conform(check) -> None:
    check()


@parametrize_checks(Video, values=arrays(), options={"size": 8, "sampling": "first", "frames": 4, "normalize": "none"})
def test_first_frames_conform(check) -> None:
    check()


def test_the_number_of_frames_is_fixed_only_where_they_are_spread() -> None:
    assert Video(size=[4, 6], frames=5).spec == Spec("TCHW", (5, 3, 4, 6), "float32")
    assert Video(size=4, frames=5, sampling="first", channels=1).stored == Spec("TCHW", (None, 1, 4, 4), "uint8")
    assert Video(size=4, frames=None).stored == Spec("TCHW", (None, 3, 4, 4), "uint8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 5.0}, "fps: frames that are spread evenly have no rate"),
        ({"frames": None, "sampling": "first"}, "sampling: first chooses some frames; frames: null takes all"),
        ({"augment": ["none", "flip"]}, "'none' stands alone"),
        ({"normalize": {"mean": [0.5]}}, "normalize: needs the keys mean and std"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Video(**options)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_frame_is_resized_as_the_image_modality_does(resize: str) -> None:
    frames = numbered(3, 20, 31)
    options = {"size": [8, 10], "resize": resize, "interpolation": "bicubic", "channels": 1}
    image = registry.build("modality", "image", **options)
    expected = np.stack([image.load(frame) for frame in frames])
    np.testing.assert_array_equal(Video(frames=None, **options).load(frames), expected)


def test_frames_are_normalised_over_all_frames_of_all_videos() -> None:
    modality = Video(frames=None, size=[12, 16], augment="none")
    loaded = [modality.load(numbered(4)), modality.load(numbered(2) // 2)]
    modality.fit_arrays(iter(loaded))
    pixels = np.concatenate(loaded) / 255
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    np.testing.assert_allclose(modality.state()["mean"], mean)
    found = modality.transform(Signal(torch.tensor(loaded[0])[None]), training=False).values[0].numpy()
    expected = (loaded[0] / 255 - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("change", "axes"), [(random_flip, (-1,)), (random_crop, (-2, -1))])
def test_all_frames_of_a_video_change_alike_and_videos_do_not(change, axes: tuple[int, ...]) -> None:
    height = torch.arange(16.0)[:, None].expand(16, 16)
    positions = torch.stack([height, height.T])[None, None].expand(64, 3, 2, 16, 16)  # (B, T, C, H, W)
    changed = change(positions, torch.Generator().manual_seed(0))
    assert changed.shape == positions.shape
    assert (changed == changed[:, :1]).all(), "the same in every frame"
    assert len({video.numpy().tobytes() for video in changed}) > 1, "another in other videos"
    if change is random_flip:
        mirrored = (changed == positions.flip(-1)).flatten(1).all(1)
        assert ((changed == positions).flatten(1).all(1) ^ mirrored).all()
    else:
        steps = changed.diff(dim=-2)[:, :, 0]
        assert set(steps.unique().tolist()) == {0.0, 1.0}, "shifted by whole pixels, the border repeated"
        assert changed[:, 0, 0, 8, 8].unique().tolist() == [6.0, 7.0, 8.0, 9.0, 10.0]


def test_what_frames_depend_on_is_in_the_key_of_the_cache() -> None:
    assert Video().load_state_key()["image"] == registry.get("modality", "image").version


def test_it_takes_nothing_that_it_does_not_tell(tmp_path: Path) -> None:
    assert Video.paths
    assert Video.takes_bytes
    assert Video.unaugmented == {"augment": "none"}
