"""The audio encoder: what it computes, for which specs, and that no padding ever shows."""

import numpy as np
import pytest
import torch
from torch import nn

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError, SpecError
from mmreg_audio.cnn import AudioCNN
from mmreg_audio.modality import Audio

SPEC = Spec("CHW", (1, 12, None))


def batch(*lengths, spec=SPEC, padding=0.0, seed=0, dtype=torch.float32):
    channels, frequencies, _ = spec.shape
    sizes = torch.tensor(lengths)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(lengths), channels, frequencies, max(lengths), generator=generator, dtype=torch.float64)
    for row, length in zip(values, lengths, strict=True):
        row[..., length:] = padding
    return Signal(values.to(dtype), sizes, sizes)


def row_of(signal, row):
    length = signal.lengths[row : row + 1]
    return Signal(signal.values[row : row + 1, ..., : int(length)], length, length)


def trained_statistics(net):
    """Batch norms whose statistics and parameters are none of the defaults, so that a bias fills the padding."""
    generator = torch.Generator().manual_seed(7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            nn.init.normal_(module.bias, generator=generator)
    return net


def build(spec=SPEC, **options):
    torch.manual_seed(0)
    return AudioCNN(spec, **{"channels": (4, 6), "features": 5, **options})


def test_it_computes_what_plain_layers_do_on_one_sound():
    net = trained_statistics(build(Spec("CHW", (2, 13, None)), pooling="mean")).double().eval()
    signal = batch(9, spec=Spec("CHW", (2, 13, None)), dtype=torch.float64)
    values = signal.values
    for block in net.blocks:
        norm = block.norm
        values = nn.functional.conv2d(values, block.conv.weight, padding=1)
        values = nn.functional.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        values = nn.functional.max_pool2d(values.relu(), 2, ceil_mode=True)
    assert values.shape == (1, 6, 4, 3)
    flat = values.detach().numpy().reshape(24, 3).mean(-1)
    expected = net.linear.weight.detach().numpy() @ flat + net.linear.bias.detach().numpy()
    np.testing.assert_allclose(net(signal).pooled.detach().numpy()[0], expected, atol=1e-12)


def test_the_frequency_axis_is_kept():
    net = build(channels=(4, 6, 8), features=5)
    assert net.linear.in_features == 8 * 2  # 12 frequencies, halved and rounded up three times
    signal = batch(10)
    flipped = signal.replace(signal.values.flip(2))
    net.eval()
    assert not torch.allclose(net(signal).pooled, net(flipped).pooled, atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_a_row_is_the_same_alone_and_beside_longer_ones_whatever_the_padding_holds(pooling, dtype, tolerance):
    net = trained_statistics(build(channels=(4, 6, 8), pooling=pooling)).to(dtype).eval()
    signal = batch(*range(1, 20), padding=float("nan"), dtype=dtype)
    together = net(signal).pooled
    for row in range(19):
        alone = net(row_of(signal, row)).pooled
        torch.testing.assert_close(together[row : row + 1], alone, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_tokens_are_the_same_alone_and_beside_longer_ones(dtype, tolerance):
    net = trained_statistics(build(outputs="tokens")).to(dtype).eval()
    signal = batch(1, 2, 3, 4, 5, 8, 9, 16, padding=1e6, dtype=dtype)
    together = net(signal)
    assert together.pooled is None
    assert together.mask.sum(1).tolist() == [1, 1, 1, 1, 2, 2, 3, 4]
    assert together.tokens.shape == (8, 4, 5)
    for row in range(8):
        alone = net(row_of(signal, row))
        length = alone.tokens.shape[1]
        assert alone.mask is None
        assert int(together.mask[row].sum()) == length
        assert together.mask[row, :length].all()
        torch.testing.assert_close(together.tokens[row, :length], alone.tokens[0], atol=tolerance, rtol=tolerance)


def test_training_does_not_depend_on_how_far_a_batch_is_padded():
    results = []
    for extra in (0, 7):
        net = build(dropout=0.0).double().train()
        signal = batch(3, 6, 11, dtype=torch.float64)
        values = nn.functional.pad(signal.values, (0, extra), value=5.0)
        pooled = net(Signal(values, signal.lengths)).pooled
        pooled.square().sum().backward()
        results.append([pooled, *(parameter.grad for parameter in net.parameters()), *net.buffers()])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_a_fixed_time_axis_gives_what_full_lengths_give():
    signal = batch(10, 10)
    ragged, fixed = build().eval(), build(Spec("CHW", (1, 12, 10)), outputs="pooled").eval()
    torch.testing.assert_close(fixed(Signal(signal.values)).pooled, ragged(signal).pooled)
    tokens = build(Spec("CHW", (1, 12, 10)), outputs="tokens")(Signal(signal.values))
    assert tokens.mask is None
    assert tokens.tokens.shape == (2, 3, 5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
@pytest.mark.parametrize("training", [True, False])
def test_sounds_of_one_length_need_no_mask_and_come_out_as_with_one(pooling, training):
    signal = batch(10, 10, 10, dtype=torch.float64)
    results = []
    for given in (signal, Signal(signal.values, signal.lengths)):  # without lengths on the host it cannot be known
        net = trained_statistics(build(pooling=pooling, dropout=0.0)).double().train(training)
        pooled = net(given).pooled
        pooled.square().sum().backward()
        results.append([pooled, *(parameter.grad for parameter in net.parameters()), *net.buffers()])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_every_parameter_gets_a_gradient(outputs, pooling):
    net = build(outputs=outputs, pooling=pooling).train()
    result = net(batch(1, 5, 9))
    values = result.pooled if outputs == "pooled" else result.tokens[result.mask]
    values.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("frequencies", [1, 2, 5])
def test_a_batch_of_one_row_trains_at_any_size(length, frequencies):
    spec = Spec("CHW", (1, frequencies, None))
    net = build(spec, channels=(4, 6, 8, 8)).train()
    pooled = net(batch(length, spec=spec)).pooled
    assert pooled.shape == (1, 5)
    assert torch.isfinite(pooled).all()
    pooled.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_and_autocast_stay_near_full_precision(dtype):
    net = trained_statistics(build()).eval()
    signal = batch(5, 9)
    expected = net(signal).pooled
    with torch.autocast("cpu", dtype=dtype):
        automatic = net(signal).pooled
    torch.testing.assert_close(automatic.float(), expected, atol=0.05, rtol=0.05)
    half = net.to(dtype)(signal.replace(signal.values.to(dtype))).pooled
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)


def test_dropout_works_on_the_pooled_features_in_training_only():
    net = build(dropout=1.0)
    signal = batch(5, 9)
    assert torch.equal(net.train()(signal).pooled, net.linear.bias.expand(2, -1))
    assert not torch.equal(net.eval()(signal).pooled, net.linear.bias.expand(2, -1))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec("TC", (None, 1)), "axes CHW"),
        (Spec("T", (None,), "int64", 100), "axes CHW"),
        (Spec("CHW", (1, None, 40)), "only the last axis"),
        (Spec("CHW", (None, 40, 40)), "only the last axis"),
        (Spec("CHW", (1, 28, 28), "uint8"), "floating point"),
    ],
)
def test_specs_that_do_not_fit_are_refused_with_a_reason(spec, reason):
    assert reason in AudioCNN.accepts(spec, {})
    with pytest.raises(SpecError, match=reason):
        AudioCNN(spec)


def test_grids_with_varying_or_fixed_time_are_accepted():
    assert AudioCNN.accepts(SPEC, {}) is None
    assert AudioCNN.accepts(Spec("CHW", (3, 28, 28)), {}) is None
    assert AudioCNN.accepts(Audio(channels=2).spec, {}) is None


def test_at_least_one_block_is_needed():
    with pytest.raises(OptionError, match="channels"):
        AudioCNN(SPEC, channels=())


def test_what_was_not_asked_for_owns_no_parameters():
    pooled, tokens = build(pooling="attention"), build(pooling="attention", outputs="tokens")
    assert {name for name, _ in pooled.named_parameters()} - {name for name, _ in tokens.named_parameters()} == {
        "pool.attention.project.weight",
        "pool.attention.project.bias",
        "pool.attention.score.weight",
    }


def test_it_can_be_exported():
    net = trained_statistics(build()).eval()

    class Encode(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, values, lengths):
            return self.net(Signal(values, lengths)).pooled

    signal = batch(9, 4, 1)
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(Encode(), (signal.values, signal.lengths), dynamic_shapes=({0: rows}, {0: rows}))
    other = batch(9, 2, seed=1)
    torch.testing.assert_close(exported.module()(other.values, other.lengths), net(other).pooled)
