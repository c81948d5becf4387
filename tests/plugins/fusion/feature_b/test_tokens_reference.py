"""The token operators against NumPy in float64: one row, one head and one valid token at a time, never a mask."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from mmreg.contract.signals import Features
from mmreg.errors import OptionError
from mmreg_fusion.feature_level.attention import MultiHeadAttention
from mmreg_fusion.feature_level.bottleneck import Bottleneck
from mmreg_fusion.feature_level.coattention import CoAttention
from mmreg_fusion.feature_level.cross_attention import CrossAttention
from mmreg_fusion.feature_level.late_transformer import LateTransformer
from mmreg_fusion.feature_level.perceiver import Perceiver
from mmreg_fusion.feature_level.transformer import Transformer

SIZES = {"image": 3, "text": 5, "audio": 2}
HEADS = 2


def linear(x, weights, name):
    result = np.einsum("...i,oi->...o", x, weights[f"{name}.weight"])
    return result + weights[f"{name}.bias"] if f"{name}.bias" in weights else result


def layer_norm(x, weights, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def attention(queries, context, weights, name):
    q, k, v = (linear(x, weights, f"{name}.{part}") for x, part in
               ((queries, "query"), (context, "key"), (context, "value")))  # fmt: skip
    width = q.shape[1]
    size = width // HEADS
    k, v = np.vstack([k, np.zeros(width)]), np.vstack([v, np.zeros(width)])
    read = np.zeros_like(q)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            read[row, part] = softmax(k[:, part] @ q[row, part] / math.sqrt(size)) @ v[:, part]
    return linear(read, weights, f"{name}.output")


def layer(x, weights, name, context=None):
    queries = layer_norm(x, weights, f"{name}.attention_norm")
    context = queries if context is None else layer_norm(context, weights, f"{name}.attention_norm")
    x = x + attention(queries, context, weights, f"{name}.attention")
    hidden = linear(layer_norm(x, weights, f"{name}.feedforward_norm"), weights, f"{name}.feedforward.0")
    return x + linear(np.maximum(hidden, 0), weights, f"{name}.feedforward.3")


def stack(x, weights, name, context=None):
    count = len({key.split(".")[len(name.split(".")) + 1] for key in weights if key.startswith(f"{name}.layers.")})
    for index in range(count):
        x = layer(x, weights, f"{name}.layers.{index}", context)
    return x


def position(index, width):
    half = (width + 1) // 2
    angles = [index / 10000 ** (2 * i / width) for i in range(half)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])[:width]


def embed(features, present, row, weights):
    """The valid tokens of each modality in one row, (T, W)."""
    embedded = []
    for index, feature in enumerate(features.values()):
        name = f"embedding.maps.{index}"
        width = len(weights[f"{name}.bias"])
        tokens = []
        if present[row, index]:
            values = feature.pooled[row][None] if feature.tokens is None else feature.tokens[row]
            mask = [True] if feature.tokens is None else feature.mask[row]
            for t, (value, valid) in enumerate(zip(values.numpy(), mask, strict=True)):
                if valid:
                    mapped = linear(value, weights, name)
                    if f"embedding.norms.{index}.weight" in weights:
                        mapped = layer_norm(mapped, weights, f"embedding.norms.{index}")
                    tokens.append(mapped + position(t, width))
        elif f"embedding.absent.{index}" in weights:
            tokens.append(weights[f"embedding.absent.{index}"])
        embedded.append(np.array(tokens).reshape(-1, width))
    return embedded


def transformer(tokens, weights):
    values = np.vstack([weights["cls"], *tokens])
    return layer_norm(stack(values, weights, "layers")[0], weights, "norm")


def late_transformer(tokens, weights):
    values = stack(np.vstack(tokens), weights, "layers")
    ends = np.cumsum([len(own) for own in tokens])
    means = [values[end - len(own) : end].mean(0) for own, end in zip(tokens, ends, strict=True) if len(own)]
    return layer_norm(sum(means) / len(means) if means else np.zeros(values.shape[1]), weights, "norm")


def cross_attention(tokens, weights):
    fused = []
    pair = 0
    for target, values in enumerate(tokens):
        readings = []
        for source in range(len(tokens)):
            if source != target or len(tokens) == 1:
                readings.append(stack(values, weights, f"cross.{pair}", tokens[source]))
                pair += 1
        merged = linear(np.hstack(readings), weights, f"merge.{target}")
        result = layer_norm(stack(merged, weights, f"memory.{target}"), weights, "norm")
        fused.append(result.mean(0) if len(values) else np.zeros(values.shape[1]))
    return np.concatenate(fused)


def bottleneck(tokens, weights):
    streams = [np.vstack([weights[f"cls.{i}"], values]) for i, values in enumerate(tokens)]
    shared = weights["bottlenecks"]
    taking_part = [i for i, values in enumerate(tokens) if len(values)]
    for index in range(2):
        written = []
        for i in taking_part:
            values = layer(np.vstack([streams[i], shared]), weights, f"layers.{index}.layers.{i}")
            streams[i], own = values[: len(streams[i])], values[len(streams[i]) :]
            written.append(own)
        shared = sum(written) / len(written) if written else shared
    read = [layer_norm(streams[i][0], weights, "norm") for i in taking_part]
    return sum(read) / len(read) if read else np.zeros(shared.shape[1])


def perceiver(tokens, weights):
    values = weights["latents"]
    for index in range(2):
        values = layer(values, weights, f"read.{index}", np.vstack(tokens))
        values = layer(values, weights, f"think.{index}")
    return layer_norm(values, weights, "norm").mean(0)


def coattention(tokens, weights):
    values = [linear(x, weights, f"values.{i}") for i, x in enumerate(tokens)]
    affinity = {}
    for index, (i, j) in enumerate(combinations(range(len(tokens)), 2)):
        affinity[i, j] = np.tanh(np.einsum("tv,vw,sw->ts", tokens[i], weights[f"affinities.{index}"], tokens[j]))
        affinity[j, i] = affinity[i, j].T
    fused = []
    for i, x in enumerate(tokens):
        hidden = values[i] + sum(affinity[i, j] @ values[j] for j in range(len(tokens)) if j != i)
        scores = linear(np.tanh(hidden), weights, f"scores.{i}")[:, 0]
        fused.append(softmax(np.append(scores, 0))[:-1] @ x)
    return np.concatenate(fused)


SMALL = {"features": 4, "num_heads": HEADS, "num_layers": 2, "dropout": 0.0}
OPERATORS = {
    "transformer": (Transformer, SMALL, transformer),
    "late_transformer": (LateTransformer, {**SMALL, "feedforward": 6}, late_transformer),
    "cross_attention": (CrossAttention, SMALL, cross_attention),
    "bottleneck": (Bottleneck, {**SMALL, "num_bottlenecks": 3}, bottleneck),
    "perceiver": (Perceiver, {**SMALL, "num_latents": 3}, perceiver),
    "coattention": (CoAttention, {"features": 4}, coattention),
}


def build(name, sizes, **options):
    cls, defaults, _ = OPERATORS[name]
    operator = cls(sizes, **{**defaults, **options}).double()
    with torch.no_grad():  # away from the zeros and ones that norms start with
        for parameter in operator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return operator


def reference(name, operator, features, present):
    weights = {key: value.numpy() for key, value in operator.state_dict().items()}
    rows = range(len(present))
    return np.stack([OPERATORS[name][2](embed(features, present, row, weights), weights) for row in rows])


@pytest.mark.parametrize("absent_token", [False, True])
@pytest.mark.parametrize("lengths", [None, (4, 1, 3)], ids=["pooled", "tokens"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_its_formula_for_every_pattern_of_absence(name, count, lengths, absent_token, make_batch):
    torch.manual_seed(count)
    sizes = dict(list(SIZES.items())[:count])
    operator = build(name, sizes, absent_token=absent_token)
    features, present = make_batch(sizes, 2**count, lengths=lengths, absent=True)
    with torch.no_grad():
        result = operator(features, present).pooled
    assert result.shape == (2**count, operator.out_features)
    np.testing.assert_allclose(result.numpy(), reference(name, operator, features, present), atol=1e-10, rtol=1e-9)


def test_a_single_token_is_the_mean_of_a_modality_s_valid_ones(make_batch):
    operator = build("late_transformer", SIZES, single_token=True, absent_token=True)
    features, present = make_batch(SIZES, 8, lengths=(4, 1, 3), absent=True)
    means = {}
    for name, feature in features.items():
        rows = zip(feature.tokens, feature.mask, strict=True)
        means[name] = Features(pooled=torch.stack([tokens[mask].mean(0) for tokens, mask in rows]))
    with torch.no_grad():
        result = operator(features, present).pooled
    expected = reference("late_transformer", operator, means, present)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-10, rtol=1e-9)


def test_late_transformer_weighs_modalities_alike_whatever_their_scale_and_length(make_batch):
    operator = build("late_transformer", SIZES, num_layers=1)
    features, present = make_batch(SIZES, 4, lengths=(4, 1, 3))
    with torch.no_grad():
        for layer in operator.embedding.maps:
            layer.bias.zero_()
        expected = operator(features, present).pooled
        larger = {name: Features(tokens=1e3 * f.tokens, mask=f.mask) for name, f in features.items()}
        torch.testing.assert_close(operator(larger, present).pooled, expected, atol=1e-2, rtol=1e-2)
        for layer in operator.layers.layers:  # what is left are the embedded tokens and their means
            for part in (layer.attention.output, layer.feedforward[3]):
                part.weight.zero_()
                part.bias.zero_()
        tokens, masks = operator.embedding(features, present)
        means = [
            (own * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) for own, mask in zip(tokens, masks, strict=True)
        ]
        torch.testing.assert_close(operator(features, present).pooled, operator.norm(sum(means) / 3))


@pytest.mark.parametrize("features", [5, 7])
def test_odd_widths_have_positions_too(features, make_batch):
    torch.manual_seed(0)
    operator = build("coattention", SIZES, features=features)
    batch = make_batch(SIZES, 3, lengths=(4, 1, 3))
    with torch.no_grad():
        result = operator(*batch).pooled
    np.testing.assert_allclose(result.numpy(), reference("coattention", operator, *batch), atol=1e-10)


@pytest.mark.parametrize("lengths", [None, (3, 1, 2)], ids=["pooled", "tokens"])
@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_equal_finite_differences_of_the_formula(name, lengths, make_batch):
    torch.manual_seed(0)
    operator = build(name, SIZES, absent_token=True)
    features, present = make_batch(SIZES, 4, lengths=lengths)
    present[1, 0] = present[2, 1] = False
    values = [feature.pooled if feature.tokens is None else feature.tokens for feature in features.values()]
    tensors = [*(value.requires_grad_() for value in values), *operator.parameters()]
    weights = torch.randn(4, operator.out_features).double()
    gradients = torch.autograd.grad((operator(features, present).pooled * weights).sum(), tensors)

    for _ in range(3):  # random directions in which every input and parameter moves
        steps = [torch.randn_like(tensor) for tensor in tensors]
        results = []
        with torch.no_grad():
            for shift in (1e-6, -2e-6):
                for tensor, step in zip(tensors, steps, strict=True):
                    tensor.add_(shift * step)
                given = {
                    key: Features(f.pooled if f.pooled is None else f.pooled.detach(),
                                  f.tokens if f.tokens is None else f.tokens.detach(), f.mask)
                    for key, f in features.items()
                }  # fmt: skip
                results.append((reference(name, operator, given, present) * weights.numpy()).sum())
            for tensor, step in zip(tensors, steps, strict=True):
                tensor.add_(1e-6 * step)
        slope = sum((gradient * step).sum().item() for gradient, step in zip(gradients, steps, strict=True))
        assert (results[0] - results[1]) / 2e-6 == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_attention_equals_torch_multihead_attention_with_zero_attn():
    torch.manual_seed(0)
    ours = MultiHeadAttention(8, 2).double()
    theirs = nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(8), ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    queries, context = torch.randn(3, 4, 8).double(), torch.randn(3, 5, 8).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    expected, _ = theirs(queries, context, context, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, context, mask), expected)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "coattention"])
def test_features_that_heads_cannot_share_are_refused(name):
    with pytest.raises(OptionError, match="features is 6 and num_heads is 4"):
        OPERATORS[name][0](SIZES, features=6, num_heads=4)
