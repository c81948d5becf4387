"""What the components compute, against plain formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from mmreg import Signal, Spec, registry
from mmreg.errors import OptionError


def test_motion_normalises_each_channel_by_all_training_readings() -> None:
    motion = registry.build("modality", "motion", channels=2, jitter=0.0, scaling=0.0)
    recordings = [np.random.default_rng(size).normal([1, -5], [2, 9], (size, 2)) for size in (30, 70)]
    loaded = [motion.load(recording) for recording in recordings]
    motion.fit_arrays(iter(loaded))
    together = np.concatenate(loaded)
    found = motion.transform(Signal(torch.from_numpy(together)[None]), training=False).values[0].numpy()
    np.testing.assert_allclose(found, (together - together.mean(0)) / together.std(0), atol=1e-5)


def test_motion_scales_each_row_while_training_and_leaves_padding_alone() -> None:
    motion = registry.build("modality", "motion", channels=1, jitter=0.0, scaling=0.5)
    motion.load_state({"mean": [0.0], "deviation": [1.0]})
    signal = Signal(torch.ones(4, 5, 1), torch.tensor([5, 3, 5, 5]))
    values = motion.transform(signal, training=True, generator=torch.Generator().manual_seed(0)).values[..., 0]
    torch.testing.assert_close(values[0], values[0, :1].expand(5))
    assert len(set(values[:, 0].tolist())) == 4
    assert values[1, 3:].tolist() == [0, 0]


def test_motion_suggests_the_channels_of_the_first_recording(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6)))
    suggested = registry.get("modality", "motion").suggest([tmp_path / "a.npy"] * 3)
    assert suggested["channels"][0] == 6


def test_motion_tcn_equals_plain_convolutions_where_nothing_is_padded() -> None:
    encoder = registry.build("encoder", "motion_tcn", Spec("TC", (None, 3)), blocks=2, channels=4, features=5).eval()
    for block in encoder.blocks:
        nn.init.normal_(block.norm.running_mean)
    values = torch.randn(2, 11, 3)
    expected = nn.functional.conv1d(values.mT, encoder.first.weight, encoder.first.bias)
    for block, dilation in zip(encoder.blocks, (1, 2), strict=True):
        convolved = nn.functional.conv1d(expected, block.conv.weight, padding=2 * dilation, dilation=dilation)
        norm = block.norm
        normed = nn.functional.batch_norm(convolved, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        expected = expected + normed.relu()
    torch.testing.assert_close(encoder(Signal(values)).pooled, encoder.linear(expected.mean(-1)))


def test_geometric_is_the_weighted_geometric_mean_of_what_is_there() -> None:
    inputs = {"a": 0, "b": 0, "c": 0}
    passed_in = {"num_outputs": 2, "space": "log_probabilities"}
    fusion = registry.build("fusion", "geometric", inputs, weights={"a": 3.0}, **passed_in)
    probabilities = {"a": [0.9, 0.1], "b": [0.2, 0.8], "c": [torch.nan, torch.nan]}
    scores = {name: torch.tensor([row]).log() for name, row in probabilities.items()}
    found = fusion(scores, torch.tensor([[True, True, False]])).scores.exp()
    unnormalised = np.array([0.9**0.75 * 0.2**0.25, 0.1**0.75 * 0.8**0.25])
    np.testing.assert_allclose(found[0], unnormalised / unnormalised.sum(), rtol=1e-6)


def test_geometric_refuses_a_weight_for_a_part_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="there is no part d"):
        registry.build("fusion", "geometric", {"a": 0}, num_outputs=2, space="log_odds", weights={"d": 1.0})
