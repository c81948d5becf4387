"""The image network against plain torch modules, and its independence of padding."""

import math

import pytest
import torch
from torch import nn

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError, SpecError
from mmreg.registry.options import check_options, find_problems
from mmreg_image.block import ImageBlock, MaskedGroupNorm
from mmreg_image.cnn import ImageCNN

PLAIN = {"normalization": "none", "dropout": 0.0}


def grid(*shape):
    return Spec("CHW", shape)


def build(spec, seed=0, dtype=torch.float32, **options):
    torch.manual_seed(seed)
    return ImageCNN(spec, **options).to(dtype)


def copy_parameters(source, target):
    ours, theirs = list(source.parameters()), list(target.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 28, 28), (3, 33, 18)])
def test_plain_options_spell_conv_relu_pool_flatten_linear(channels, height, width):
    encoder = build(grid(channels, height, width), features=100, channels=(32, 64), kernel=3, **PLAIN)
    reference = nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 100),
    )
    copy_parameters(encoder, reference)
    values = torch.randn(4, channels, height, width)
    torch.testing.assert_close(encoder(Signal(values)).pooled, reference(values))
    # Its parameters are drawn as torch's own layers draw them, in the same order.
    torch.manual_seed(0)
    again = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1))
    torch.testing.assert_close(encoder.blocks[1].conv.weight, again[1].weight)


class TorchResidual(nn.Module):
    """A residual block by torch's own layers."""

    def __init__(self, before, after, kernel=3, stride=1):
        super().__init__()
        self.first = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, values):
        result = self.second_norm(self.second(self.first_norm(self.first(values)).relu()))
        return nn.functional.max_pool2d((result + self.shortcut(values)).relu(), 2)


@pytest.mark.parametrize(("channels", "kernel", "stride"), [(3, 3, 1), (3, 3, 2), (3, 7, 4), (8, 5, 3)])
def test_residual_blocks_with_batch_norm(channels, kernel, stride):
    block = ImageBlock(channels, 8, 3, "batch", residual=True, stride=stride)
    reference = TorchResidual(channels, 8, kernel, stride)
    copy_parameters(block, reference)
    for _ in range(3):
        values = torch.randn(5, channels, 12, 10)
        torch.testing.assert_close(block(values, None), reference(values))
    block.eval(), reference.eval()
    torch.testing.assert_close(block(values, None), reference(values))


def test_a_residual_block_that_keeps_its_channels_adds_the_input_itself():
    block = ImageBlock(4, 4, 3, "none", residual=True)
    nn.init.zeros_(block.second_conv.weight)
    nn.init.zeros_(block.second_conv.bias)
    values = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(values, None), nn.functional.max_pool2d(values.relu(), 2))


def test_group_norm_is_torchs_without_a_mask():
    ours, reference = MaskedGroupNorm(4, 8), nn.GroupNorm(4, 8)
    nn.init.normal_(ours.weight), nn.init.normal_(ours.bias)
    reference.load_state_dict(ours.state_dict())
    values = torch.randn(3, 8, 5, 6) * 3 + 2
    torch.testing.assert_close(ours(values), reference(values))
    mask = torch.ones(3, 1, 1, 6, dtype=torch.bool)
    torch.testing.assert_close(ours(values, mask), reference(values))
    mask[..., 4:] = False
    torch.testing.assert_close(ours(values, mask)[..., :4], reference(values[..., :4]))
    assert (ours(values, mask)[..., 4:] == 0).all()


def test_global_pooling_is_the_mean_over_positions():
    encoder = build(grid(2, 13, 9), channels=(8, 16), pooling="global", features=7, dropout=0.0).eval()
    values = torch.randn(3, 2, 13, 9)
    maps = values
    for block in encoder.blocks:
        maps = block(maps, None)
    assert maps.shape == (3, 16, 3, 2)
    expected = encoder.linear(maps.mean((2, 3)))
    torch.testing.assert_close(encoder(Signal(values)).pooled, expected)
    masked = build(grid(2, 13, 9), channels=(8, 16), pooling="masked_global", features=7, dropout=0.0).eval()
    masked.load_state_dict(encoder.state_dict())
    assert torch.equal(masked(Signal(values)).pooled, encoder(Signal(values)).pooled)


def test_tokens_are_the_positions_of_the_last_map_row_by_row():
    encoder = build(grid(3, 12, 8), channels=(8, 16), features=5, outputs="tokens", dropout=0.0).eval()
    values = torch.randn(2, 3, 12, 8)
    maps = values
    for block in encoder.blocks:
        maps = block(maps, None)
    features = encoder(Signal(values))
    assert features.pooled is None
    assert features.mask is None
    assert features.tokens.shape == (2, 3 * 2, 5)
    assert encoder.out_features == 5
    for place in range(6):
        torch.testing.assert_close(features.tokens[:, place], encoder.linear(maps[:, :, place // 2, place % 2]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (2, 3), (3, 3), (5, 4), (7, 1)])
@pytest.mark.parametrize("pooling", ["flatten", "global"])
@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
def test_any_size_is_taken_and_an_axis_of_one_position_stays(height, width, pooling, outputs):
    encoder = build(grid(4, height, width), channels=(8, 8, 8), pooling=pooling, features=6, outputs=outputs)
    features = encoder(Signal(torch.randn(2, 4, height, width)))
    if outputs == "pooled":
        assert features.pooled.shape == (2, 6)
    else:
        assert features.tokens.shape == (2, max(1, height // 8) * max(1, width // 8), 6)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 128), (224, 224), (65, 65), (40, 600)])
def test_the_first_convolution_of_large_pictures_leaves_at_most_64_by_64_positions(height, width):
    encoder = build(grid(3, height, width), channels=(4, 4), features=5)
    stride = encoder.stride
    assert math.sqrt(height * width) / stride <= 64 < math.sqrt(height * width) / (stride - 1)
    kernel = 2 * stride - 1
    assert encoder.blocks[0].conv.kernel_size == (kernel, kernel)
    assert encoder.blocks[1].conv.kernel_size == (3, 3)
    assert encoder(Signal(torch.randn(2, 3, height, width))).pooled.shape == (2, 5)


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (32, 128), (64, None), (None, 40)])
def test_every_pixel_of_small_pictures_is_a_position(shape):
    assert build(grid(1, *shape), pooling="masked_global").stride == 1


def test_a_stride_that_is_given_is_taken():
    encoder = build(grid(2, 21, 12), stride=3, channels=(4,), features=5, **PLAIN)
    values = torch.randn(2, 2, 21, 12)
    conv = encoder.blocks[0].conv
    maps = nn.functional.conv2d(values, conv.weight, conv.bias, stride=3, padding=2)
    assert maps.shape == (2, 4, 7, 4)
    pooled = nn.functional.max_pool2d(maps.relu(), 2)
    torch.testing.assert_close(encoder(Signal(values)).pooled, encoder.linear(pooled.flatten(1)))
    assert build(grid(3, 128, 128), stride=1, channels=(4,)).stride == 1


def test_what_an_earlier_version_saved_is_restored_without_a_stride():
    encoder = build(grid(3, 128, 128), channels=(4, 4), features=5)
    encoder.load_state(ImageCNN.migrate({}, 1))
    former = build(grid(3, 128, 128), channels=(4, 4), features=5, stride=1)
    encoder.load_state_dict(former.state_dict())
    values = torch.randn(2, 3, 128, 128)
    assert torch.equal(encoder.eval()(Signal(values)).pooled, former.eval()(Signal(values)).pooled)
    assert encoder.state() == former.state() == {"stride": 1}


RAGGED = [
    {"pooling": "masked_global", "channels": (8, 16)} | extra | {"outputs": outputs}
    for outputs in ("pooled", "tokens")
    for extra in (
        {"normalization": "none"},
        {"normalization": "batch"},
        {"normalization": "group"},
        {"normalization": "batch", "residual": True},
        {"normalization": "group", "residual": True, "kernel": 5},
        {"normalization": "none", "residual": True},
        {"normalization": "none", "channels": (4, 4, 4, 4)},
        {"normalization": "batch", "residual": True, "stride": 2},
        {"normalization": "none", "stride": 3},
    )
]


def ragged_batch(axis, lengths, dtype, longest):
    shape = [len(lengths), 2, 6, 6]
    shape[axis + 1] = longest
    return Signal(torch.randn(shape, dtype=dtype) * 2 + 1, torch.tensor(lengths))


def row(signal, index, axis, longest=None):
    """One row alone, cut or padded to a length."""
    length = int(signal.lengths[index])
    values = signal.values[index : index + 1].narrow(axis + 1, 0, length)
    if longest is not None:
        shape = list(values.shape)
        shape[axis + 1] = longest - length
        values = torch.cat([values, torch.full(shape, math.nan, dtype=values.dtype)], axis + 1)
    return Signal(values, signal.lengths[index : index + 1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("options", RAGGED, ids=str)
def test_a_row_does_not_depend_on_padding(options, axis, dtype, tolerance):
    spec = grid(2, *(None if place == axis else 6 for place in (1, 2)))
    encoder = build(spec, dtype=dtype, features=5, **options)
    lengths = [1, 2, 3, 7, 8, 13, 16, 17]
    for _ in range(3):  # running statistics that are not the initial ones
        encoder(ragged_batch(axis, lengths, dtype, 17))
    encoder.eval()
    signal = ragged_batch(axis, lengths, dtype, 17)
    together = encoder(signal)
    for index, length in enumerate(lengths):
        for longest in (None, 17, 40):
            alone = encoder(row(signal, index, axis, longest))
            if options["outputs"] == "pooled":
                difference = alone.pooled[0] - together.pooled[index]
            else:
                valid, expected = alone.tokens[0][alone.mask[0]], together.tokens[index][together.mask[index]]
                pooled, stride = len(options["channels"]), options.get("stride", 1)
                sizes = [max(1, -(-size // stride) >> pooled) for size in (6, length)]
                assert len(valid) == math.prod(sizes)
                difference = valid - expected
            assert difference.abs().max() <= tolerance


@pytest.mark.parametrize("options", RAGGED, ids=str)
def test_training_does_not_depend_on_padding_either(options):
    """Batch statistics, running statistics and gradients are the same however far the batch is padded."""
    spec = grid(2, 6, None)
    lengths = [3, 9, 5]
    signal = ragged_batch(2, lengths, torch.float64, 9)
    filler = torch.full((3, 2, 6, 7), 50.0, dtype=torch.float64)
    longer = Signal(torch.cat([signal.values.clone(), filler], 3), signal.lengths)
    longer.values[0, :, :, 3:] = -7
    results = []
    for batch in (signal, longer):
        encoder = build(spec, dtype=torch.float64, features=5, dropout=0.0, **options)
        features = encoder(batch)
        out = features.pooled if features.pooled is not None else features.tokens[features.mask]
        out.square().sum().backward()
        results.append([out, *(p.grad for p in encoder.parameters()), *encoder.buffers()])
    for short, long in zip(*results, strict=True):
        torch.testing.assert_close(short, long, atol=1e-10, rtol=1e-10)


ALL = [
    {},
    PLAIN,
    {"residual": True},
    {"residual": True, "normalization": "none"},
    {"normalization": "group", "residual": True},
    {"pooling": "global"},
    {"outputs": "tokens"},
    {"stride": 2},
    {"residual": True, "stride": 3},
]


@pytest.mark.parametrize("options", ALL, ids=str)
@pytest.mark.parametrize("rows", [1, 4])
def test_every_parameter_gets_a_gradient(options, rows):
    encoder = build(grid(3, 12, 12), **options).train()
    features = encoder(Signal(torch.randn(rows, 3, 12, 12)))
    out = features.pooled if features.pooled is not None else features.tokens
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_batch_of_one_row_trains(normalization, size):
    encoder = build(grid(1, size, size), channels=(8, 16), normalization=normalization).train()
    assert encoder(Signal(torch.randn(1, 1, size, size))).pooled.isfinite().all()
    ragged = build(grid(1, size, None), normalization=normalization, pooling="masked_global").train()
    signal = Signal(torch.randn(1, 1, size, 4), torch.tensor([1]))
    assert ragged(signal).pooled.isfinite().all()


@pytest.mark.parametrize("options", ALL, ids=str)
def test_state_round_trip_is_bit_equal(options, tmp_path):
    spec = grid(3, 12, 12)
    encoder = build(spec, **options)
    signal = Signal(torch.randn(4, 3, 12, 12))
    encoder(signal)
    torch.save(encoder.state_dict(), tmp_path / "state.pt")
    other = build(spec, seed=1, **options)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    mine, its = encoder.eval()(signal), other.eval()(signal)
    if mine.tokens is not None:
        assert torch.equal(mine.tokens, its.tokens)
    else:
        assert torch.equal(mine.pooled, its.pooled)


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
@pytest.mark.parametrize("training", [True, False])
def test_reduced_precision(normalization, training):
    encoder = build(grid(3, 12, None), normalization=normalization, pooling="masked_global").train(training)
    signal = Signal(torch.randn(4, 3, 12, 10), torch.tensor([10, 3, 1, 7]))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(signal).pooled.isfinite().all()
    half = encoder.to(torch.bfloat16)(Signal(signal.values.bfloat16(), signal.lengths)).pooled
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


def test_rows_do_not_depend_on_their_order_in_evaluation():
    encoder = build(grid(3, 12, 12), dtype=torch.float64).eval()
    values = torch.randn(5, 3, 12, 12, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder(Signal(values[order])).pooled, encoder(Signal(values)).pooled[order])


def test_dropout_acts_in_training_only():
    encoder = build(grid(3, 12, 12), normalization="none", dropout=0.5)
    signal = Signal(torch.randn(4, 3, 12, 12))
    assert not torch.equal(encoder(signal).pooled, encoder(signal).pooled)
    encoder.eval()
    assert torch.equal(encoder(signal).pooled, encoder(signal).pooled)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (Spec("TC", (None, 1)), {}, "it takes axes CHW"),
        (Spec("T", (None,), "int64", 10), {}, "it takes axes CHW"),
        (Spec("CHW", (3, 8, 8), "uint8"), {}, "floating point"),
        (Spec("CHW", (None, 8, 8)), {"pooling": "masked_global"}, "number of channels must be fixed"),
        (Spec("CHW", (1, 8, None)), {"pooling": "flatten"}, "needs pooling 'masked_global', found 'flatten'"),
        (Spec("CHW", (1, None, 8)), {"pooling": "global"}, "needs pooling 'masked_global', found 'global'"),
    ],
)
def test_what_it_does_not_take_is_refused_by_accepts_and_by_building(spec, options, words):
    complete = check_options(ImageCNN, options)
    assert words in ImageCNN.accepts(spec, complete)
    with pytest.raises(SpecError, match=r"ImageCNN does not take"):
        ImageCNN(spec, **options)


def test_what_it_takes():
    for spec in (grid(3, 64, 64), grid(1, 1, 1), Spec("CHW", (2, 5, 9), "float64")):
        assert ImageCNN.accepts(spec, check_options(ImageCNN, {})) is None
    for spec in (grid(3, 64, None), grid(3, None, 64)):
        assert ImageCNN.accepts(spec, check_options(ImageCNN, {"pooling": "masked_global"})) is None


def test_options_are_checked():
    with pytest.raises(OptionError, match="kernel: must be odd"):
        ImageCNN(grid(3, 8, 8), kernel=2)
    for bad in ({"channels": []}, {"channels": [0]}, {"dropout": 1.0}, {"features": 0}, {"normalization": "layer"}):
        assert find_problems(ImageCNN, bad), bad
    assert check_options(ImageCNN, {"channels": [8, 16]})["channels"] == (8, 16)


def test_it_learns_to_tell_bright_corners():
    torch.manual_seed(0)
    values = torch.randn(64, 1, 8, 8) * 0.3
    labels = torch.arange(64) % 2
    values[labels == 1, :, :4, :4] += 1
    encoder = build(grid(1, 8, 8), channels=(8, 8), features=2, dropout=0.0)
    optimizer = torch.optim.Adam(encoder.parameters(), 0.01)
    for _ in range(30):
        loss = nn.functional.cross_entropy(encoder(Signal(values)).pooled, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("options", [{}, {"pooling": "masked_global"}], ids=str)
def test_it_can_be_exported_for_any_number_of_rows(options):
    ragged = "pooling" in options
    encoder = build(grid(2, 6, None if ragged else 12), channels=(4, 4), **options).eval()

    class Export(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, values, lengths):
            return self.encoder(Signal(values, lengths if ragged else None)).pooled

    batch = torch.export.Dim("batch", min=2, max=64)
    signal = ragged_batch(2, [12, 4, 5], torch.float32, 12)
    exported = torch.export.export(
        Export(), (signal.values, signal.lengths), dynamic_shapes=({0: batch}, {0: batch})
    ).module()
    other = ragged_batch(2, [7, 3, 12, 1, 2], torch.float32, 12)
    expected = encoder(Signal(other.values, other.lengths if ragged else None)).pooled
    torch.testing.assert_close(exported(other.values, other.lengths), expected)
