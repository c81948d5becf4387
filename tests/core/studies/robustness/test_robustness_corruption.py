"""Each corruption against a reference, on signals of every kind that it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sequences import generators
from torch import Tensor

from mmreg import Signal, Spec
from mmreg.data.batches import Batches
from mmreg.data.prepared import Prepared
from mmreg.errors import OptionError
from mmreg.studies.robustness.corruption import CORRUPTIONS, check_corruption, corrupting

PIXELS = Spec("CHW", (3, 9, 12), "uint8")
SOUND = Spec("TC", (None, 2))
WORDS = Spec("T", (None,), "int32", 50)
NUMBERS = Spec("C", (4,))


def apply(name: str, signal: Signal, spec: Spec, strength: float, seed: int = 0) -> Signal:
    return CORRUPTIONS[name].apply(signal, spec, strength, generators(len(signal), seed))


def ragged(lengths: list[int], *rest: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Signal:
    """Random values of 1 to 10, padded with zeros."""
    random = torch.Generator().manual_seed(seed)
    values = torch.zeros(len(lengths), max(lengths), *rest, dtype=dtype)
    for row, length in zip(values, lengths, strict=True):
        row[:length] = (1 + 9 * torch.rand((length, *rest), generator=random)).to(dtype)
    return Signal(values, torch.tensor(lengths), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("spec", "fitting"),
    [
        (PIXELS, ["noise", "blur"]),
        (Spec("CHW", (1, 4, 5), "float32"), ["noise", "blur"]),
        (Spec("TCHW", (None, 3, 4, 5), "uint8"), ["noise", "blur", "drop", "silence"]),
        (Spec("HWC", (None, 5, 3), "uint8"), ["noise"]),
        (SOUND, ["noise", "drop", "silence"]),
        (Spec("TC", (20, 2), "int16"), ["noise", "silence"]),
        (Spec("CT", (2, 20)), ["noise", "silence"]),
        (WORDS, ["drop"]),
        (NUMBERS, ["noise"]),
        (Spec("C", (4,), "bool"), []),
    ],
)
def test_what_fits_is_told_by_the_spec(spec: Spec, fitting: list[str]) -> None:
    for name, corruption in CORRUPTIONS.items():
        if name in fitting:
            assert check_corruption(name, "m", spec, [0.5]) is corruption
        else:
            with pytest.raises(OptionError, match=f"those that fit are: {', '.join(fitting) or 'none'}"):
                check_corruption(name, "m", spec, [0.5])


@pytest.mark.parametrize(
    ("name", "strengths", "message"),
    [
        ("nosie", [0.5], "no corruption 'nosie'.* fit m are: noise, drop, silence; did you mean 'noise'"),
        ("drop", [0.5, 1.5], "from 0 to 1, found 1.5"),
        ("noise", [-1.0], "at least 0, found -1"),
        ("noise", [0.0], "a strength above 0"),
    ],
)
def test_names_and_strengths_are_checked(name: str, strengths: list[float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_corruption(name, "m", SOUND, strengths)


@pytest.mark.parametrize(("dtype", "highest"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_noise_on_pixels_is_in_units_of_their_range(dtype: torch.dtype, highest: int) -> None:
    spec = Spec("CHW", (3, 90, 120), str(dtype).removeprefix("torch."))
    signal = Signal(torch.full((2, 3, 90, 120), highest // 2).to(dtype))
    found = apply("noise", signal, spec, 0.1).values
    assert found.dtype == dtype
    difference = (found.double() - highest // 2) / highest
    assert difference.mean().item() == pytest.approx(0, abs=0.001)
    assert difference.std().item() == pytest.approx(0.1, rel=0.02)


def test_noise_on_pixels_is_clipped_and_not_wrapped_around() -> None:
    values = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 50, 50)
    found = apply("noise", Signal(values.contiguous()), PIXELS, 0.05).values.int()
    assert (found[0] < 100).all()
    assert (found[1] > 155).all()
    assert (found[0] == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16, torch.float16])
def test_noise_on_other_numbers_is_in_units_of_each_rows_root_mean_square(dtype: torch.dtype) -> None:
    lengths = [4000, 2500]
    signal = ragged(lengths, 2, dtype=dtype)
    signal = signal.replace(signal.values * torch.tensor([1, 100], dtype=dtype)[:, None, None])
    found = apply("noise", signal, SOUND, 0.5)
    assert found.values.dtype == dtype
    assert found.lengths is signal.lengths
    for row, length in enumerate(lengths):
        original, noisy = signal.values[row].double().numpy(), found.values[row].double().numpy()
        scale = np.sqrt((original[:length] ** 2).mean())
        assert (noisy - original)[:length].std() == pytest.approx(0.5 * scale, rel=0.04)
        assert not noisy[length:].any()


def test_noise_leaves_silence_silent_and_stays_in_range() -> None:
    values = torch.stack([torch.zeros(100, 2), torch.full((100, 2), 30_000.0)]).to(torch.int16)
    found = apply("noise", Signal(values), Spec("TC", (100, 2), "int16"), 0.1).values
    assert not found[0].any()
    assert (found[1] > 0).all()
    assert (found[1] == 32767).any()


def test_stronger_noise_is_the_same_noise_but_stronger() -> None:
    signal = Signal(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    weak, strong = (apply("noise", signal, NUMBERS, strength).values for strength in (0.1, 0.3))
    torch.testing.assert_close(strong - signal.values, 3 * (weak - signal.values))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_blur_is_scipys(sigma: float, dtype: torch.dtype) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (4, 3, 9, 12)).astype(np.float64)
    expected = ndimage.gaussian_filter(values, (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    found = apply("blur", Signal(torch.from_numpy(values).to(dtype)), PIXELS, sigma).values
    assert found.dtype == dtype
    tolerance = 0.5 + 1e-6 if dtype == torch.uint8 else 1e-9
    np.testing.assert_allclose(found.numpy().astype(float), expected, atol=tolerance)


def test_blur_finds_height_and_width_wherever_they_are() -> None:
    values = torch.rand(2, 5, 9, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 2])
    found = apply("blur", Signal(values, lengths, lengths), Spec("THWC", (None, 9, 12, 3), "float64"), 1.0)
    frame = apply("blur", Signal(values[0].movedim(-1, 1)), PIXELS, 1.0).values
    torch.testing.assert_close(found.values[0].movedim(-1, 1), frame)
    assert found.lengths is lengths


def test_drop_shortens_rows_and_keeps_the_order() -> None:
    lengths = [10, 1, 7, 20]
    values = torch.zeros(4, 20, dtype=torch.int32)
    for row, length in zip(values, lengths, strict=True):
        row[:length] = torch.arange(1, length + 1)
    signal = Signal(values, torch.tensor(lengths), torch.tensor(lengths))
    before: list[set[int]] = [set(range(1, length + 1)) for length in lengths]
    for strength in (0.1, 0.3, 0.5, 0.9, 1.0):
        found = apply("drop", signal, WORDS, strength)
        assert found.values.dtype == torch.int32
        assert found.lengths is not None
        assert found.host_lengths is not None
        left = [max(1, length - round(strength * length)) for length in lengths]
        assert found.lengths.tolist() == found.host_lengths.tolist() == left
        assert found.values.shape == (4, max(left))
        for index, (row, length) in enumerate(zip(found.values.tolist(), left, strict=True)):
            assert row[:length] == sorted(set(row[:length]) & before[index])
            assert not any(row[length:])
            before[index] = set(row[:length])


def test_drop_takes_any_place_equally_often() -> None:
    values = torch.arange(1, 6, dtype=torch.int32).expand(4000, 5)
    lengths = torch.full((4000,), 5)
    found = apply("drop", Signal(values, lengths, lengths), WORDS, 0.4).values
    shares = [(found == token).any(1).double().mean().item() for token in range(1, 6)]
    assert shares == pytest.approx([0.6] * 5, abs=0.03)


def silent_runs(row: Tensor) -> list[int]:
    """Lengths of the pieces in which all channels are zero, (T, C)."""
    text = "".join("0" if not step.any() else "1" for step in row)
    return [len(piece) for piece in text.split("1") if piece]


@pytest.mark.parametrize("strength", [0.1, 0.25, 0.5, 1.0])
def test_silence_is_one_piece_within_the_true_length(strength: float) -> None:
    lengths = [40, 25, 1, 8]
    signal = ragged(lengths, 2)
    found = apply("silence", signal, SOUND, strength)
    assert found.lengths is signal.lengths
    for row, original, length in zip(found.values, signal.values, lengths, strict=True):
        span = round(strength * length)
        assert silent_runs(row[:length]) == [span] * (span > 0)
        heard = row[:length].any(1)
        assert torch.equal(row[:length][heard], original[:length][heard])


def test_silence_takes_any_place() -> None:
    signal = Signal(torch.ones(4000, 5, 1))
    silent = apply("silence", signal, Spec("TC", (5, 1)), 0.4).values.squeeze(-1) == 0
    starts = torch.bincount(silent.int().argmax(1), minlength=5) / 4000
    assert starts.tolist() == pytest.approx([0.25] * 4 + [0], abs=0.03)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.float64])
def test_silence_runs_along_a_later_time_axis_of_any_dtype(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    found = apply("silence", Signal(torch.full((3, 2, 20), 7).to(dtype)), Spec("CT", (2, 20), name), 0.5).values
    assert found.dtype == dtype
    for row in found:
        assert silent_runs(row.double().T) == [10]


def prepared(spec: Spec, count: int, absent: list[int]) -> Prepared:
    random = np.random.default_rng(0)
    index = np.arange(count)
    index[absent] = -1
    lengths = random.integers(3, 20, count)
    values = random.random((lengths.sum(), 2)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Prepared(name="m", stored=spec, values=values, offsets=offsets, index=index)


def corrupted_rows(part: Prepared, rows: Any, size: int, name: str, seed: int = 0) -> dict[int, Tensor]:
    """Each row's corrupted values by its number, and a check that presence stays as it is."""
    change = corrupting(name, "m", SOUND, 0.5, rows, seed)
    found = {}
    for batch in Batches({"m": part}, rows, batch_size=size):
        changed = change(batch)
        assert changed.present is batch.present
        assert changed.rows is batch.rows
        where = np.flatnonzero(batch.present[:, 0].numpy())
        if len(where):
            signal = changed.signals["m"]
            assert signal.lengths is not None
            for number, row, length in zip(rows[batch.index[where]], signal.values, signal.lengths, strict=True):
                found[int(number)] = row[: int(length)]
    return found


@pytest.mark.parametrize("name", ["noise", "drop", "silence"])
def test_a_rows_corruption_depends_on_its_number_and_the_seed_alone(name: str) -> None:
    part = prepared(SOUND, 30, absent=[3, 4, 11])
    rows = np.arange(30)
    one, other = (corrupted_rows(part, rows, size, name) for size in (30, 2))
    some = corrupted_rows(part, rows[20:], 7, name)
    assert set(one) == set(other) == set(range(30)) - {3, 4, 11}
    for number, row in one.items():
        torch.testing.assert_close(other[number], row)
        if number >= 20:
            torch.testing.assert_close(some[number], row)
    again = corrupted_rows(part, rows, 30, name, seed=1)
    assert any(row.shape != again[number].shape or not torch.equal(row, again[number]) for number, row in one.items())


def test_no_strength_changes_nothing() -> None:
    part = prepared(SOUND, 5, absent=[])
    batch = next(iter(Batches({"m": part}, np.arange(5))))
    assert corrupting("noise", "m", SOUND, 0.0, np.arange(5), 0)(batch) is batch
