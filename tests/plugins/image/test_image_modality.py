"""Sizes, channels, arrays, normalisation and state of the image modality."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmreg.contract.signals import Signal
from mmreg.errors import OptionError
from mmreg.registry.options import check_options, find_problems
from mmreg_image.modality import Image as ImageModality

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def by_pillow(array, width, height, resampling=Image.Resampling.BILINEAR):
    """Antialiased resizing, (C, H, W)."""
    return np.asarray(Image.fromarray(array).resize((width, height), resampling)).transpose(2, 0, 1)


def difference(left, right):
    return np.abs(left.astype(int) - right.astype(int)).max()


@pytest.mark.parametrize("size", [16, [10, 25], [80, 90]])
def test_stretch_resizes_as_pillow_does(size):
    height, width = (size, size) if isinstance(size, int) else size
    stored = ImageModality(size=size).load(PICTURE)
    assert stored.shape == (3, height, width)
    assert stored.dtype == np.uint8
    assert difference(stored, by_pillow(PICTURE, width, height)) <= 1


@pytest.mark.parametrize("size", [16, 90])
def test_bicubic_resizes_as_pillow_does(size):
    stored = ImageModality(size=size, interpolation="bicubic").load(PICTURE)
    assert difference(stored, by_pillow(PICTURE, size, size, Image.Resampling.BICUBIC)) <= 1
    assert difference(stored, by_pillow(PICTURE, size, size)) > 1


def test_crop_keeps_proportions_and_cuts_the_middle_out():
    stored = ImageModality(size=20, resize="crop").load(PICTURE)
    assert difference(stored, by_pillow(PICTURE[:, 10:50].copy(), 20, 20)) <= 1
    wide = ImageModality(size=[10, 30], resize="crop").load(PICTURE)
    assert difference(wide, by_pillow(PICTURE[10:30].copy(), 30, 10)) <= 1


def test_pad_keeps_proportions_and_adds_black():
    stored = ImageModality(size=30, resize="pad").load(PICTURE)
    assert difference(stored[:, 5:25], by_pillow(PICTURE, 30, 20)) <= 1
    assert (stored[:, :5] == 0).all()
    assert (stored[:, 25:] == 0).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_picture_of_the_right_size_is_stored_as_it_is(resize):
    stored = ImageModality(size=[40, 60], resize=resize).load(PICTURE)
    assert np.array_equal(stored, PICTURE.transpose(2, 0, 1))
    assert stored.flags.c_contiguous


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_extreme_proportions(resize, shape):
    stored = ImageModality(size=8, resize=resize).load(np.full(shape, 200, np.uint8))
    assert stored.shape == (3, 8, 8)
    assert set(np.unique(stored)) <= ({0, 200} if resize == "pad" else {200})


def test_one_channel_is_pillows_luma_and_grey_is_repeated_for_three():
    grey = ImageModality(size=[40, 60], channels=1).load(PICTURE)
    luma = np.asarray(Image.fromarray(PICTURE).convert("L"))
    assert np.array_equal(grey[0], luma)
    assert np.array_equal(ImageModality(size=[40, 60]).load(luma), np.stack([luma] * 3))
    assert np.array_equal(ImageModality(size=[40, 60], channels=1).load(luma)[0], luma)


def test_arrays_of_every_shape_and_dtype_read_alike():
    modality = ImageModality(size=[40, 60])
    expected = modality.load(PICTURE)
    opaque = np.concatenate([PICTURE, np.full((40, 60, 1), 255, np.uint8)], -1)
    for array in (
        PICTURE.transpose(2, 0, 1),
        opaque,
        opaque.transpose(2, 0, 1),
        PICTURE.astype(np.uint16) * 257,
        PICTURE / 255,
        (PICTURE / 255).astype(np.float32),
        PICTURE.astype(np.int64),
        np.asfortranarray(PICTURE),
    ):
        assert np.array_equal(modality.load(array), expected)
    grey = PICTURE[..., 0]
    for array in (grey[..., None], grey[None]):
        assert np.array_equal(modality.load(array), modality.load(grey))
    assert np.array_equal(modality.load(grey > 127), modality.load((grey > 127) * np.uint8(255)))
    assert np.array_equal(modality.load((grey / 255).astype(np.float16)), modality.load(grey))


def test_an_array_that_fits_both_layouts_has_its_channels_last():
    array = RNG.integers(0, 256, (3, 5, 4), np.uint8)
    array[..., 3] = 255
    assert np.array_equal(ImageModality(size=[3, 5]).load(array), array[..., :3].transpose(2, 0, 1))


def test_alpha_is_laid_over_white():
    array = RNG.integers(0, 256, (6, 7, 4), np.uint8)
    page = Image.new("RGBA", (7, 6), "white")
    page.alpha_composite(Image.fromarray(array))
    stored = ImageModality(size=[6, 7]).load(array)
    assert difference(stored, np.asarray(page.convert("RGB")).transpose(2, 0, 1)) <= 1


def test_load_is_what_stored_promises_and_transform_what_spec_promises():
    for channels in (1, 3):
        modality = ImageModality(size=[9, 7], channels=channels)
        stored = modality.load(PICTURE)
        assert modality.stored.shape == stored.shape == modality.spec.shape == (channels, 9, 7)
        assert modality.stored.dtype == stored.dtype.name
        modality.fit_arrays(iter([stored]))
        values = modality.transform(Signal(torch.from_numpy(stored)[None]), training=False).values
        assert (modality.spec.axes, modality.spec.dtype, values.dtype) == ("CHW", "float32", torch.float32)


def batch_of(count, size=8):
    return RNG.integers(0, 256, (count, 3, size, size), np.uint8)


def test_fitted_normalisation_is_numpys_mean_and_deviation_per_channel():
    arrays = batch_of(10)
    modality = ImageModality(size=8)
    modality.fit_arrays(iter(arrays))
    scaled = arrays / 255
    mean, std = scaled.mean((0, 2, 3), keepdims=True), scaled.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(modality.state()["mean"], mean.ravel(), rtol=1e-12)
    np.testing.assert_allclose(modality.state()["std"], std.ravel(), rtol=1e-12)
    values = modality.transform(Signal(torch.from_numpy(arrays)), training=False).values
    np.testing.assert_allclose(values.numpy(), (scaled - mean) / std, atol=1e-5)


def test_given_and_no_normalisation():
    arrays = batch_of(3)
    signal = Signal(torch.from_numpy(arrays))
    plain = ImageModality(size=8, normalize="none")
    np.testing.assert_allclose(plain.transform(signal, training=False).values.numpy(), arrays / 255, atol=1e-6)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    given = ImageModality(size=8, normalize={"mean": mean, "std": std})
    expected = (arrays / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(given.transform(signal, training=False).values.numpy(), expected, atol=1e-5)
    for modality in (plain, given):
        modality.fit_arrays(iter(arrays))
        assert modality.state() == {}


def test_a_constant_channel_is_centred_and_not_divided_by_zero():
    arrays = batch_of(4)
    arrays[:, 1] = 80
    modality = ImageModality(size=8)
    modality.fit_arrays(iter(arrays))
    values = modality.transform(Signal(torch.from_numpy(arrays)), training=False).values
    assert values.isfinite().all()
    assert values[:, 1].abs().max() < 1e-6


def test_fitting_on_no_rows_at_all_leaves_values_from_zero_to_one():
    modality = ImageModality(size=8)
    modality.fit_arrays(iter([]))
    values = modality.transform(Signal(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)), training=False).values
    assert (values == 1).all()


def test_state_is_json_and_rebuilds_the_modality_bit_for_bit():
    arrays = batch_of(5)
    modality, other = ImageModality(size=8), ImageModality(size=8)
    modality.fit_arrays(iter(arrays))
    other.load_state(json.loads(json.dumps(modality.state(), allow_nan=False)))
    signal = Signal(torch.from_numpy(arrays))
    assert torch.equal(
        other.transform(signal, training=False).values, modality.transform(signal, training=False).values
    )
    assert other.load_state_key() is None


def test_a_row_alone_is_the_row_in_its_batch():
    modality = ImageModality(size=8)
    arrays = batch_of(5)
    modality.fit_arrays(iter(arrays))
    together = modality.transform(Signal(torch.from_numpy(arrays)), training=False).values
    for row, array in enumerate(arrays):
        alone = modality.transform(Signal(torch.from_numpy(array)[None]), training=False).values
        assert torch.equal(alone[0], together[row])


def test_transform_can_be_exported():
    modality = ImageModality(size=8, normalize={"mean": [0.5] * 3, "std": [0.2] * 3})

    class Transform(torch.nn.Module):
        def forward(self, values):
            return modality.transform(Signal(values), training=False).values

    values = torch.from_numpy(batch_of(4))
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(Transform(), (values,), dynamic_shapes=({0: batch},)).module()
    for rows in (values, values[:2]):
        assert torch.equal(exported(rows), Transform()(rows))


def test_transform_before_fitting_says_what_to_do():
    with pytest.raises(OptionError, match="call fit_arrays or load_state"):
        ImageModality(size=8).transform(Signal(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), training=False)


def test_only_normalize_and_augment_leave_the_stored_pixels_alone():
    assert set(ImageModality.transform_options) == {"normalize", "augment"}
    changed = ImageModality(size=16, normalize="none", augment=["flip", "color"]).load(PICTURE)
    assert np.array_equal(changed, ImageModality(size=16).load(PICTURE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"normalize": {"mean": [0.5] * 3}}, "needs the keys mean and std"),
        ({"normalize": {"mean": [0.5] * 3, "std": [1.0]}}, "needs 3 numbers"),
        ({"normalize": {"mean": [0.5] * 3, "std": [1.0, 0.0, 1.0]}}, "above 0"),
        ({"augment": ["none", "flip"]}, "stands alone"),
    ],
)
def test_contradicting_options(options, words):
    with pytest.raises(OptionError, match=words):
        ImageModality(**options)


def test_options_that_the_annotations_allow_and_refuse():
    for good in (
        {"size": [3, 4]},
        {"normalize": {"mean": [0.5], "std": [0.5]}, "channels": 1},
        {"augment": ["flip", "crop"]},
        {"augment": "none", "resize": "pad"},
    ):
        assert not find_problems(ImageModality, good)
        ImageModality(**check_options(ImageModality, good))
    for bad in ({"size": 0}, {"size": [3]}, {"size": [3, 4, 5]}, {"channels": 2}, {"resize": "fit"}, {"augment": []},
                {"augment": ["rotate"]}, {"normalize": "mean"}):  # fmt: skip
        assert find_problems(ImageModality, bad), bad


def test_real_pictures_load_with_the_default_options():
    folder = Path(__file__).parents[4] / "shared" / "data" / "emoji"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with (folder / "manifest.csv").open() as table:
        paths = [folder / row["image"] for row in csv.DictReader(table)][:20]
    modality = ImageModality()
    stored = np.stack([modality.load(path) for path in paths])
    assert stored.shape == (20, 3, 64, 64)
    assert stored.std() > 10
