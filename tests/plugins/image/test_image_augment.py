"""Augmentations: their draws, their range, and each operation against torchvision's."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from mmreg.contract.signals import Signal
from mmreg_image import adjust
from mmreg_image.augment import AUGMENTATIONS, random_color, random_crop, random_flip
from mmreg_image.modality import Image as ImageModality
from mmreg_image.trivial_augment import COLOR, GEOMETRIC, LEVELS, OPERATIONS, apply_operations


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(batch=6, channels=3, height=24, width=32):
    """Smooth pictures of 256 levels, (B, C, H, W)."""
    y, x = np.mgrid[:height, :width]
    waves = [
        [np.sin(x / (4 + b) + c) * np.cos(y / (5 + c) + b) * (0.3 + 0.1 * c) for c in range(channels)]
        for b in range(batch)
    ]
    return torch.from_numpy(np.rint((np.array(waves) + 1) / 2 * 255) / 255).float()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_come_from_the_generator_alone(name, channels):
    augment = AUGMENTATIONS[name]
    batch = pictures(16, channels)
    state = torch.get_rng_state()
    first = augment(batch, generator())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(augment(batch, generator()), first)
    assert not torch.equal(augment(batch, generator(1)), first)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_equal_pictures_of_a_batch_come_out_different(name):
    batch = pictures(1).expand(64, -1, -1, -1)
    assert len(torch.unique(AUGMENTATIONS[name](batch, generator()), dim=0)) >= (2 if name == "flip" else 30)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(40, 3, 16, 16), (40, 1, 7, 20), (1, 3, 8, 8), (3, 1, 1, 1), (3, 3, 2, 5)])
def test_shape_dtype_and_range_are_kept_and_the_input_is_not_written_to(name, shape):
    batch = torch.rand(shape, generator=generator()).round()
    before = batch.clone()
    result = AUGMENTATIONS[name](batch, generator())
    assert result.shape == batch.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(batch, before)


def test_half_of_the_pictures_are_mirrored():
    batch = pictures(1).expand(400, -1, -1, -1)
    mirrored = (random_flip(batch, generator()) == batch.flip(-1)).all((1, 2, 3))
    kept = (random_flip(batch, generator()) == batch).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 160 < mirrored.sum() < 240


def test_crop_shifts_by_up_to_an_eighth_and_repeats_the_border():
    batch = pictures(1, height=24, width=32).expand(500, -1, -1, -1)
    padded = np.pad(batch[0].numpy(), ((0, 0), (3, 3), (4, 4)), "edge")
    shifts = {}
    for row, picture in enumerate(random_crop(batch, generator()).numpy()):
        found = [
            (top, left)
            for top in range(7)
            for left in range(9)
            if np.array_equal(padded[:, top : top + 24, left : left + 32], picture)
        ]
        assert len(found) == 1
        shifts[row] = found[0]
    assert set(shifts.values()) == {(top, left) for top in range(7) for left in range(9)}


def test_color_multiplies_brightness_contrast_and_saturation():
    batch = pictures(3)
    draws = generator()
    factors = [0.6 + 0.8 * torch.rand(3, generator=draws) for _ in range(3)]
    result = random_color(batch, generator())
    for row in range(3):
        expected = functional.adjust_brightness(batch[row], factors[0][row].item())
        expected = functional.adjust_contrast(expected, factors[1][row].item())
        expected = functional.adjust_saturation(expected, factors[2][row].item())
        torch.testing.assert_close(result[row], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "reference", "arguments"),
    [
        ("brightness", functional.adjust_brightness, [0.01, 0.5, 1.0, 1.99, 0.7, 1.3]),
        ("contrast", functional.adjust_contrast, [0.01, 0.5, 1.0, 1.99, 0.7, 1.3]),
        ("saturation", functional.adjust_saturation, [0.01, 0.5, 1.0, 1.99, 0.7, 1.3]),
        ("sharpness", functional.adjust_sharpness, [0.01, 0.5, 1.0, 1.99, 0.7, 1.3]),
        ("posterize", functional.posterize, [8, 7, 5, 4, 3, 2]),
        ("solarize", functional.solarize, [1.0, 0.8, 0.6, 0.3, 0.1, 0.0]),
        ("autocontrast", functional.autocontrast, None),
        ("equalize", functional.equalize, None),
    ],
)
def test_each_colour_operation_is_torchvisions_for_each_picture(name, reference, arguments, channels):
    batch = pictures(channels=channels)
    batch[3] = batch[3, :, :1, :1]  # one value per channel
    ours = getattr(adjust, name)
    result = ours(batch) if arguments is None else ours(batch, torch.tensor(arguments, dtype=torch.float32))
    for row, picture in enumerate(batch):
        # These two are defined on eight bits.
        exact = (picture * 255).round().to(torch.uint8) if name in ("posterize", "equalize") else picture
        expected = reference(exact) if arguments is None else reference(exact, arguments[row])
        expected = expected / 255 if expected.dtype == torch.uint8 else expected
        torch.testing.assert_close(result[row], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize(("level", "sign"), [(6, 1), (6, -1), (30, 1), (30, -1)])
def test_each_geometric_operation_is_torchvisions_away_from_the_border(name, level, sign):
    height, width = 24, 32
    batch = pictures(2)
    index = torch.full((2,), OPERATIONS.index(name))
    result = apply_operations(batch, index, torch.tensor([level, level]), torch.tensor([sign, sign]))
    amount = sign * level / (LEVELS - 1)
    affine = {"angle": 0.0, "translate": [0, 0], "shear": [0.0, 0.0]}
    if name == "rotate":
        affine["angle"] = -135 * amount
    elif name.startswith("shear"):
        degrees = math.degrees(math.atan(0.99 * amount))
        affine["shear"] = [degrees, 0.0] if name == "shear_x" else [0.0, degrees]
    else:
        moved = amount * (width if name == "translate_x" else height) / 3
        affine["translate"] = [moved, 0] if name == "translate_x" else [0, moved]
    # Opposite signs are drawn equally often, so either direction of torchvision's is right: pick one for all samples.
    candidates = []
    for direction in (1, -1):
        turned = {
            "angle": direction * affine["angle"],
            "translate": [direction * step for step in affine["translate"]],
            "shear": [direction * angle for angle in affine["shear"]],
        }
        warped = functional.affine(batch, scale=1.0, interpolation=InterpolationMode.BILINEAR, fill=-1.0, **turned)
        inside = functional.affine(torch.ones(2, 1, height, width), scale=1.0, fill=0.0, **turned) == 1
        inside = torch.nn.functional.avg_pool2d(inside.float(), 3, 1, 1) > 0.99
        assert inside.float().mean() > 0.2
        candidates.append(((warped - result).abs() * inside).max().item())
    assert min(candidates) < 1e-3
    assert max(candidates) > 0.05


def test_a_geometric_operation_repeats_the_border():
    batch = torch.zeros(1, 1, 12, 12)
    batch[..., 0] = 0.25
    batch[..., -1] = 0.75
    index, level = torch.tensor([OPERATIONS.index("translate_x")]), torch.tensor([30])
    right = apply_operations(batch, index, level, torch.tensor([-1]))
    left = apply_operations(batch, index, level, torch.tensor([1]))
    torch.testing.assert_close(right[0, 0, :, :5], torch.full((12, 5), 0.25))
    torch.testing.assert_close(left[0, 0, :, -5:], torch.full((12, 5), 0.75))


def test_each_picture_gets_its_own_operation_and_identity_changes_no_bit():
    batch = pictures(len(OPERATIONS))
    level, sign = torch.full((len(OPERATIONS),), 20), torch.ones(len(OPERATIONS), dtype=torch.int64)
    together = apply_operations(batch, torch.arange(len(OPERATIONS)), level, sign)
    assert torch.equal(together[0], batch[0])
    for row in range(len(OPERATIONS)):
        alone = apply_operations(batch[row : row + 1], torch.tensor([row]), level[:1], sign[:1])
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=0)
    assert len(COLOR) + len(GEOMETRIC) + 1 == len(OPERATIONS) == 14


@pytest.mark.parametrize("augment", ["none", "flip", "crop", "color", "trivial", ["crop", "flip", "color"]])
def test_the_modality_augments_in_training_only(augment):
    modality = ImageModality(size=16, augment=augment, normalize="none")
    signal = Signal((pictures(8, 3, 16, 16) * 255).round().to(torch.uint8))
    plain = modality.transform(signal, training=False).values
    torch.testing.assert_close(plain, signal.values / 255)
    trained = modality.transform(signal, training=True, generator=generator()).values
    assert torch.equal(trained, plain) == (augment == "none")
    assert torch.equal(trained, modality.transform(signal, training=True, generator=generator()).values)


def test_a_list_of_augmentations_is_applied_in_its_order():
    signal = Signal((pictures(8, 3, 16, 16) * 255).round().to(torch.uint8))
    modality = ImageModality(size=16, augment=["flip", "crop"], normalize="none")
    draws = generator()
    expected = random_crop(random_flip(signal.values.float() / 255, draws), draws)
    assert torch.equal(modality.transform(signal, training=True, generator=generator()).values, expected)


def test_augmented_pictures_are_normalised_afterwards():
    signal = Signal((pictures(8, 3, 16, 16) * 255).round().to(torch.uint8))
    plain = ImageModality(size=16, augment="crop", normalize="none")
    scaled = ImageModality(size=16, augment="crop", normalize={"mean": [0.5] * 3, "std": [0.25] * 3})
    expected = (plain.transform(signal, training=True, generator=generator()).values - 0.5) / 0.25
    torch.testing.assert_close(scaled.transform(signal, training=True, generator=generator()).values, expected)
