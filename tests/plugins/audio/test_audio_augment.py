"""What training adds: SpecAugment, time shift and noise, drawn per row from the given generator alone."""

import numpy as np
import pytest
import torch

from mmreg.contract.signals import Signal
from mmreg_audio.augment import add_noise, spec_augment_mask, time_shift
from mmreg_audio.modality import Audio


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def runs(flags):
    """Lengths of the runs of True in a sequence."""
    return [len(run) for run in "".join("x" if flag else " " for flag in flags).split()]


def batch(*lengths, seed=0):
    sizes = torch.tensor(lengths)
    values = torch.randn(len(lengths), max(lengths), 1, generator=generator(seed))
    for row, length in zip(values, lengths, strict=True):
        row[length:] = 0
    return Signal(values, sizes, sizes)


def fitted(**options):
    audio = Audio(sample_rate=8000, **options)
    audio.fit_arrays(iter([np.random.default_rng(0).standard_normal((4000, 1)).astype(np.float32)]))
    return audio


def test_bands_are_no_wider_than_their_fraction_and_lie_within_the_length():
    lengths = torch.tensor([100, 50, 10, 4, 1] * 1000)
    mask = spec_augment_mask(
        lengths, (40, 100), frequency_width=0.25, time_width=0.2, num_masks=1, generator=generator()
    )
    assert mask.shape == (5000, 40, 100)
    bands, times = mask.all(2), mask.all(1)
    assert torch.equal(mask, bands[:, :, None] | times[:, None, :])
    widths = [runs(row) for row in bands.tolist()]
    assert max(map(len, widths)) == 1
    # Uniform from 0 to 10 bins, so that each width comes about 455 times.
    counts = np.bincount([sum(row) for row in widths], minlength=11)
    assert len(counts) == 11
    assert counts.min() > 350
    assert bands.any(0).all()
    for row, length in zip(times.tolist(), lengths.tolist(), strict=True):
        assert sum(row) <= 0.2 * length
        assert len(runs(row)) <= 1
        assert not any(row[length:])
    long = times[lengths == 100]
    assert long.any(0).all()
    assert max(sum(row) for row in long.tolist()) == 20
    assert not times[lengths <= 4].any()


def test_several_bands_are_hidden_along_each_axis():
    lengths = torch.full((200,), 100)
    options = {"frequency_width": 0.1, "time_width": 0.1, "generator": generator()}
    mask = spec_augment_mask(lengths, (40, 100), num_masks=3, **options)
    assert max(len(runs(row)) for row in mask.all(2).tolist()) == 3
    assert max(len(runs(row)) for row in mask.all(1).tolist()) == 3


def test_draws_differ_between_rows_and_repeat_with_the_generator():
    options = {"frequency_width": 0.3, "time_width": 0.3, "num_masks": 2}
    lengths = torch.full((20,), 50)
    mask = spec_augment_mask(lengths, (40, 50), generator=generator(3), **options)
    assert torch.equal(mask, spec_augment_mask(lengths, (40, 50), generator=generator(3), **options))
    assert not torch.equal(mask, spec_augment_mask(lengths, (40, 50), generator=generator(4), **options))
    assert len({row.numpy().tobytes() for row in mask}) > 15


def test_a_fraction_of_one_may_hide_everything_and_never_more():
    mask = spec_augment_mask(
        torch.tensor([3] * 500), (5, 6), frequency_width=1.0, time_width=1.0, num_masks=1, generator=generator()
    )
    assert mask.all(1)[:, :3].all(1).any()
    assert not mask.all(1)[~mask.all(2).all(1)][:, 3:].any()


def test_training_hides_bands_behind_the_rows_mean_and_leaves_the_rest():
    audio = fitted()
    signal = batch(8000, 3000, 1)
    clean = audio.transform(signal, training=False)
    hidden = audio.transform(signal, training=True, generator=generator())
    assert torch.equal(hidden.lengths, clean.lengths)
    for row in range(3):
        length = int(clean.lengths[row])
        before, after = clean.values[row, 0], hidden.values[row, 0]
        changed = before != after
        assert not changed[:, length:].any()
        mean = before[:, :length].mean()
        torch.testing.assert_close(after[changed], mean.expand(int(changed.sum())), atol=1e-5, rtol=1e-5)
        assert changed.all(0)[:length].sum() <= 2 * 0.2 * length
    assert (clean.values[0] != hidden.values[0]).any()


@pytest.mark.parametrize("features", ["log_mel", "mfcc", "spectrogram", "waveform"])
def test_all_draws_come_from_the_generator_and_never_reach_the_padding(features):
    audio = fitted(features=features, time_shift=0.3, noise=0.5)
    signal = batch(8000, 3000, 1)
    before = torch.get_rng_state()
    first = audio.transform(signal, training=True, generator=generator(1))
    again = audio.transform(signal, training=True, generator=generator(1))
    other = audio.transform(signal, training=True, generator=generator(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    assert torch.isfinite(first.values).all()
    for row in range(3):
        values = first.values[row].movedim(audio.spec.ragged_axis, 0)
        assert not values[int(first.lengths[row]) :].any()


def test_without_augmentation_training_changes_nothing():
    audio = fitted(spec_augment=False)
    signal = batch(8000, 3000)
    training = audio.transform(signal, training=True, generator=generator())
    assert torch.equal(training.values, audio.transform(signal, training=False).values)


def test_evaluation_draws_nothing():
    audio = fitted(time_shift=0.3, noise=0.5)
    source = generator()
    state = source.get_state()
    audio.transform(batch(8000, 3000), training=False, generator=source)
    assert torch.equal(source.get_state(), state)


def test_a_shift_moves_each_sound_within_its_length_and_fills_up_with_silence():
    lengths = torch.tensor([50] * 300 + [20] * 300)
    # Samples count up from 1, so that the first one left tells the shift.
    values = (torch.arange(1.0, 51) * (torch.arange(50) < lengths[:, None])).unsqueeze(-1)
    shifted = time_shift(values, lengths, 0.3, generator())
    found = {50: set(), 20: set()}
    for row, length in zip(shifted[..., 0].numpy(), lengths.tolist(), strict=True):
        first = int(np.flatnonzero(row)[0])
        shift = first - int(row[first]) + 1
        expected = [t - shift + 1 if 0 <= t - shift < length and t < length else 0 for t in range(50)]
        np.testing.assert_array_equal(row, expected)
        found[length].add(shift)
    assert (min(found[50]), max(found[50])) == (-15, 15)
    assert (min(found[20]), max(found[20])) == (-6, 6)


def test_noise_has_at_most_the_level_asked_for_relative_to_each_sound():
    lengths = torch.full((300,), 2000)
    values = torch.randn(300, 2000, 1, generator=generator()) * torch.tensor([0.01, 10.0] * 150)[:, None, None]
    noise = add_noise(values, lengths, 0.5, generator(1)) - values
    level = noise.square().mean((1, 2)).sqrt() / values.square().mean((1, 2)).sqrt()
    assert level.max() < 0.55
    assert level.min() < 0.05
    assert level.mean() == pytest.approx(0.25, abs=0.03)
    correlation = (noise * values).mean((1, 2)) / (noise.std((1, 2)) * values.std((1, 2)))
    assert correlation.abs().mean() < 0.03


def test_silence_stays_silent_under_noise():
    values = torch.zeros(2, 10, 1)
    assert not add_noise(values, torch.tensor([10, 1]), 0.5, generator()).any()
