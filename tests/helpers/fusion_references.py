"""Every fusion operator's formula written out in plain PyTorch, modality by modality, on the operator's own weights.

Nothing is batched over modalities, pairs or heads, no operation is fused with the next, and every modality is present.
Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

Inputs = Sequence[Tensor]
"""Each modality's vectors (B, D) or tokens (B, T, D); at model level its log-probabilities (B, K)."""


def affine(layer: Any, values: Tensor) -> Tensor:
    result = values @ layer.weight.T
    return result if layer.bias is None else result + layer.bias


def perceptron(layers: Any, values: Tensor) -> Tensor:
    for layer in layers:
        values = affine(layer, values) if isinstance(layer, torch.nn.Linear) else layer(values)
    return values


def projected(maps: Any, xs: Inputs) -> list[Tensor]:
    return [affine(layer, x) for layer, x in zip(maps, xs, strict=True)]


def total(values: Sequence[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def normalize(values: Tensor) -> Tensor:
    """The signed square root, then the L2 norm times sqrt(D), with the operators' two constants."""
    roots = values / (values.abs() + 1e-4).sqrt()
    return roots / (roots.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


# Elementary


def concat(op: Any, xs: Inputs) -> Tensor:
    return torch.cat(list(xs), 1)


def sum_(op: Any, xs: Inputs) -> Tensor:
    return total(projected(op.projections.maps, xs))


def average(op: Any, xs: Inputs) -> Tensor:
    return total(projected(op.projections.maps, xs)) / len(xs)


def maximum(op: Any, xs: Inputs) -> Tensor:
    result, *others = projected(op.projections.maps, xs)
    for other in others:
        result = torch.maximum(result, other)
    return result


def multiply(op: Any, xs: Inputs) -> Tensor:
    result, *others = projected(op.projections.maps, xs)
    for other in others:
        result = result * other
    return result


def attention(op: Any, xs: Inputs) -> Tensor:
    values = projected(op.projections.maps, xs)
    pool = op.attention
    scores = [affine(pool.score, torch.tanh(affine(pool.project, value))) for value in values]
    weights = torch.softmax(torch.cat(scores, 1), 1)
    return total([weights[:, index, None] * value for index, value in enumerate(values)])


def deepset(op: Any, xs: Inputs) -> Tensor:
    elements = [perceptron(op.phi, value) for value in projected(op.projections.maps, xs)]
    return perceptron(op.rho, total(elements))


# Gated


def gmu(op: Any, xs: Inputs) -> Tensor:
    gates = torch.sigmoid(affine(op.gates, torch.cat(list(xs), 1))).chunk(len(xs), 1)
    hidden = [torch.tanh(value) for value in projected(op.projections.maps, xs)]
    return total([gate * value for gate, value in zip(gates, hidden, strict=True)])


def film(op: Any, xs: Inputs) -> Tensor:
    content = affine(op.content.maps[0], xs[0])
    scale = 1 + total(projected(op.scale.maps, xs[1:]))
    return scale * content + total(projected(op.shift.maps, xs[1:]))


def highway(op: Any, xs: Inputs) -> Tensor:
    hidden = torch.cat(projected(op.projections.maps, xs), 1)
    for transform, gate in zip(op.transforms, op.gates, strict=True):
        share = torch.sigmoid(affine(gate, hidden))
        hidden = share * torch.relu(affine(transform, hidden)) + (1 - share) * hidden
    return hidden


# Bilinear


def pair_maps(weights: Any, xs: Inputs) -> Tensor:
    pairs = zip(weights, combinations(xs, 2), strict=True)
    return total([torch.einsum("bi,kji,bj->bk", left, weight, right) for weight, (left, right) in pairs])


def pair_products(factors: Inputs) -> list[Tensor]:
    return [left * right for left, right in combinations(factors, 2)]


def bilinear(op: Any, xs: Inputs) -> Tensor:
    values = projected(op.projections.maps, xs)
    return pair_maps(op.pairs.weights, values) + affine(op.linear, torch.cat(values, 1))


def mcb(op: Any, xs: Inputs) -> Tensor:
    spectra = []
    for index, x in enumerate(xs):
        places, signs = op.get_buffer(f"places_{index}"), op.get_buffer(f"signs_{index}")
        sketch = x.new_zeros(len(x), op.out_features).index_add(1, places, x * signs)
        one = torch.zeros_like(sketch)
        one[:, 0] = 1
        spectra.append(torch.fft.fft(sketch + one))
    return normalize(total([torch.fft.ifft(product).real for product in pair_products(spectra)]))


def mlb(op: Any, xs: Inputs) -> Tensor:
    factors = [torch.tanh(value) for value in projected(op.factors.maps, xs)]
    return affine(op.output, total(pair_products(factors)))


def mfh(op: Any, xs: Inputs) -> Tensor:
    blocks = []
    width = len(op.factors.maps[0].bias) // op.order
    expanded: list[Tensor] = []
    for index in range(op.order):
        rows = slice(index * width, (index + 1) * width)
        factors = [x @ layer.weight[rows].T + layer.bias[rows] for layer, x in zip(op.factors.maps, xs, strict=True)]
        products = pair_products(factors)
        expanded = [a * b for a, b in zip(expanded, products, strict=True)] if expanded else products
        blocks.append(normalize(total(expanded).unflatten(1, (-1, op.rank)).sum(-1)))
    return torch.cat(blocks, 1)


def mutan(op: Any, xs: Inputs) -> Tensor:
    reduced = [torch.tanh(value) for value in projected(op.projections.maps, xs)]
    factors = projected(op.factors.maps, reduced)
    core = total([product.unflatten(1, (op.rank, -1)).sum(1) for product in pair_products(factors)])
    return affine(op.output, core / math.sqrt(op.rank))


def block(op: Any, xs: Inputs) -> Tensor:
    reduced = projected(op.projections.maps, xs)
    parts = []
    for chunk in range(op.chunks):
        factors = []
        for index, value in enumerate(reduced):
            piece = value.chunk(op.chunks, 1)[chunk]
            factors.append(piece @ op.weight[index, chunk] + op.bias[index, chunk])
        parts.append(normalize(total([p.unflatten(1, (op.rank, -1)).sum(1) for p in pair_products(factors)])))
    return affine(op.output, torch.cat(parts, 1))


# Tensor


def tensor(op: Any, xs: Inputs) -> Tensor:
    one = xs[0].new_ones(len(xs[0]), 1)
    fused = one
    for value in projected(op.projections.maps, xs):
        fused = torch.einsum("bi,bj->bij", fused, torch.cat([one, value], 1)).flatten(1)
    return fused if op.output is None else affine(op.output, fused)


def low_rank(op: Any, xs: Inputs) -> Tensor:
    terms = []
    for index, weight in enumerate(op.weights):
        rows = slice(index * op.out_features, (index + 1) * op.out_features)
        term = weight
        for layer, x in zip(op.factors.maps, xs, strict=True):
            term = term * (x @ layer.weight[rows].T + layer.bias[rows])
        terms.append(term)
    return total(terms) + op.bias


def multiplicative(op: Any, xs: Inputs) -> Tensor:
    scales, values = projected(op.scales.maps, xs), projected(op.values.maps, xs)
    pairs = combinations(range(len(xs)), 2)
    return total([scales[j] * values[i] + scales[i] * values[j] for i, j in pairs]) + affine(
        op.linear, torch.cat([*xs], 1)
    )


# Attention over tokens


def embedded(op: Any, xs: Inputs) -> list[Tensor]:
    sequences = []
    for index, values in enumerate(projected(op.embedding.maps, xs)):
        if op.embedding.norms is not None:
            values = layer_norm(op.embedding.norms[index], values)
        size, width = values.shape[1:]
        rates = 10000 ** (-2 * torch.arange(width // 2) / width)
        angles = torch.arange(size)[:, None] * rates
        sequences.append(values + torch.cat([angles.sin(), angles.cos()], 1))
    return sequences


def layer_norm(norm: Any, values: Tensor) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def read(op: Any, queries: Tensor, context: Tensor) -> Tensor:
    """Head by head, softmax([q k^T, 0] / sqrt(width of a head)) [v; 0]."""
    heads = []
    split = [values.chunk(op.num_heads, -1) for values in (affine(op.query, queries), affine(op.key, context))]
    for query, key, value in zip(*split, affine(op.value, context).chunk(op.num_heads, -1), strict=True):
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        weights = torch.softmax(torch.cat([scores, torch.zeros_like(scores[..., :1])], -1), -1)
        heads.append(weights[..., :-1] @ value)
    return affine(op.output, torch.cat(heads, -1))


def attend(layer: Any, values: Tensor, context: Tensor | None = None) -> Tensor:
    queries = layer_norm(layer.attention_norm, values)
    context = queries if context is None else layer_norm(layer.attention_norm, context)
    values = values + read(layer.attention, queries, context)
    return values + perceptron(layer.feedforward, layer_norm(layer.feedforward_norm, values))


def transformer(op: Any, xs: Inputs) -> Tensor:
    values = torch.cat([op.cls.expand(len(xs[0]), 1, -1), *embedded(op, xs)], 1)
    for layer in op.layers.layers:
        values = attend(layer, values)
    return layer_norm(op.norm, values[:, 0])


def late_transformer(op: Any, xs: Inputs) -> Tensor:
    values = torch.cat(embedded(op, xs), 1)
    for layer in op.layers.layers:
        values = attend(layer, values)
    parts = values.split([x.shape[1] for x in xs], 1)
    return layer_norm(op.norm, total([part.mean(1) for part in parts]) / len(parts))


def cross_attention(op: Any, xs: Inputs) -> Tensor:
    sequences = embedded(op, xs)
    readings: list[list[Tensor]] = [[] for _ in xs]
    for (target, source), stack in zip(op.pairs, op.cross, strict=True):
        values = sequences[target]
        for layer in stack.layers:
            values = attend(layer, values, sequences[source])
        readings[target].append(values)
    fused = []
    for parts, merge, memory in zip(readings, op.merge, op.memory, strict=True):
        values = affine(merge, torch.cat(parts, -1))
        for layer in memory.layers:
            values = attend(layer, values)
        fused.append(layer_norm(op.norm, values).mean(1))
    return torch.cat(fused, 1)


def bottleneck(op: Any, xs: Inputs) -> Tensor:
    rows, count = len(xs[0]), len(op.bottlenecks)
    streams = [torch.cat([cls.expand(rows, 1, -1), x], 1) for cls, x in zip(op.cls, embedded(op, xs), strict=True)]
    shared = op.bottlenecks.expand(rows, -1, -1)
    for stage in op.layers:
        both = [
            attend(layer, torch.cat([stream, shared], 1)) for layer, stream in zip(stage.layers, streams, strict=True)
        ]
        streams = [values[:, :-count] for values in both]
        shared = total([values[:, -count:] for values in both]) / len(both)
    return total([layer_norm(op.norm, stream[:, 0]) for stream in streams]) / len(streams)


def perceiver(op: Any, xs: Inputs) -> Tensor:
    context = torch.cat(embedded(op, xs), 1)
    values = op.latents.expand(len(context), -1, -1)
    for look, think in zip(op.read, op.think, strict=True):
        values = attend(think, attend(look, values, context))
    return layer_norm(op.norm, values).mean(1)


def coattention(op: Any, xs: Inputs) -> Tensor:
    tokens = embedded(op, xs)
    values = projected(op.values, tokens)
    hidden = list(values)
    for (i, j), weight in zip(op.pairs, op.affinities, strict=True):
        affinity = torch.tanh(tokens[i] @ weight @ tokens[j].mT)
        hidden[i] = hidden[i] + affinity @ values[j]
        hidden[j] = hidden[j] + affinity.mT @ values[i]
    fused = []
    for layer, states, token in zip(op.scores, hidden, tokens, strict=True):
        scores = affine(layer, torch.tanh(states)).squeeze(-1)
        weights = torch.softmax(torch.cat([scores, torch.zeros_like(scores[:, :1])], 1), 1)[:, :-1]
        fused.append((weights.unsqueeze(-1) * token).sum(1))
    return torch.cat(fused, 1)


# Others


def hypernetwork(op: Any, xs: Inputs) -> Tensor:
    fused = []
    for target, project, weight, bias in zip(op.targets, op.projections, op.weights, op.biases, strict=True):
        hidden = affine(project, xs[target])
        left, right = affine(weight, xs[0]).unflatten(1, op.shape).unbind(1)
        change = left @ (right.mT @ hidden.unsqueeze(-1))
        fused.append(hidden + op.scale * change.squeeze(-1) + affine(bias, xs[0]))
    return torch.cat(fused, 1)


def canonical(op: Any, xs: Inputs) -> Tensor:
    return torch.cat([perceptron(layers, x) for layers, x in zip(op.projections, xs, strict=True)], 1)


def product_of_experts(op: Any, xs: Inputs) -> Tensor:
    gaussians = [perceptron(expert, x).chunk(2, -1) for expert, x in zip(op.experts, xs, strict=True)]
    precisions = [torch.exp(-log_variance) for _, log_variance in gaussians]
    weighted = [precision * mean for precision, (mean, _) in zip(precisions, gaussians, strict=True)]
    return total(weighted) / (1 + total(precisions))


def mixture_of_experts(op: Any, xs: Inputs) -> Tensor:
    gates = torch.softmax(affine(op.router, torch.cat(list(xs), 1)), 1)
    outputs = [perceptron(expert, x) for expert, x in zip(op.experts, xs, strict=True)]
    return total([gates[:, index, None] * output for index, output in enumerate(outputs)])


FEATURE_LEVEL: dict[str, Callable[[Any, Inputs], Tensor]] = {
    **{"concat": concat, "sum": sum_, "average": average, "maximum": maximum, "multiply": multiply},
    **{"attention": attention, "deepset": deepset, "gmu": gmu, "film": film, "highway": highway},
    **{"bilinear": bilinear, "mcb": mcb, "mlb": mlb, "mfb": mfh, "mfh": mfh, "mutan": mutan, "block": block},
    **{"tensor": tensor, "low_rank": low_rank, "multiplicative": multiplicative},
    **{"transformer": transformer, "late_transformer": late_transformer},
    **{"cross_attention": cross_attention, "bottleneck": bottleneck},
    **{"perceiver": perceiver, "coattention": coattention, "hypernetwork": hypernetwork, "canonical": canonical},
    **{"product_of_experts": product_of_experts, "mixture_of_experts": mixture_of_experts},
}
"""Name to function of the operator and the modalities' features; gives (B, D')."""


# Model level: normalised log-probabilities in, log-probabilities out


def mixture(scores: Inputs, weights: Sequence[Tensor | float]) -> Tensor:
    return torch.log(total([weight * score.exp() for weight, score in zip(weights, scores, strict=True)]))


def mean(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    return mixture(scores, [1 / len(scores)] * len(scores))


def weighted(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    return mixture(scores, list(torch.softmax(op.logits, 0)))


def gated(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    gates = [x @ op.weights[str(index)] + op.bias[index] for index, x in enumerate(vectors)]
    return mixture(scores, list(torch.softmax(torch.stack(gates, 1), 1)[:, :, None].unbind(1)))


def product(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    return torch.log_softmax(total(scores), 1)


def calibrated(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    temperatures = op.temperature
    return torch.log_softmax(total([score / temperatures[index] for index, score in enumerate(scores)]), 1)


def max_(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    return torch.log_softmax(maximum_of(scores), 1)


def maximum_of(scores: Inputs) -> Tensor:
    result = scores[0]
    for score in scores[1:]:
        result = torch.maximum(result, score)
    return result


def counted(points: Sequence[Tensor], scores: Inputs) -> Tensor:
    masses = total(points) + total([score.exp() for score in scores]) / len(scores)
    return torch.log(masses / masses.sum(1, keepdim=True))


def vote(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    best = [torch.nn.functional.one_hot(score.argmax(1), score.shape[1]).to(score.dtype) for score in scores]
    return counted(best, scores)


def borda(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    return counted([score.detach().argsort(1).argsort(1).to(score.dtype) for score in scores], scores)


def stacking(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    present = scores[0].new_ones(len(scores[0]), len(scores))
    clipped = [score.clamp(-30, 30) for score in scores]
    inputs = torch.cat([*(score - score.mean(1, keepdim=True) for score in clipped), present], 1)
    return torch.log_softmax(inputs @ op.weight.T + op.bias, 1)


def evidential(op: Any, scores: Inputs, vectors: Inputs) -> Tensor:
    """Dempster's rule for two after two, on scores that are log alpha."""
    classes = scores[0].shape[1]
    beliefs, uncertainty = None, None
    for score in scores:
        evidence = score.exp() - 1
        strength = evidence.sum(1, keepdim=True) + classes
        belief, doubt = evidence / strength, classes / strength
        if beliefs is None or uncertainty is None:
            beliefs, uncertainty = belief, doubt
            continue
        joint = beliefs * belief + beliefs * doubt + belief * uncertainty
        conflict = beliefs.sum(1, keepdim=True) * belief.sum(1, keepdim=True)
        agreement = 1 - (conflict - (beliefs * belief).sum(1, keepdim=True))
        beliefs, uncertainty = joint / agreement, uncertainty * doubt / agreement
    assert beliefs is not None
    assert uncertainty is not None
    return torch.log(beliefs + uncertainty / classes)


MODEL_LEVEL: dict[str, Callable[[Any, Inputs, Inputs], Tensor]] = {
    **{"mean": mean, "weighted": weighted, "gated": gated, "product": product, "calibrated": calibrated, "max": max_},
    **{"vote": vote, "borda": borda, "stacking": stacking, "evidential": evidential},
}
"""Name to function of the operator, the parts' scores (B, K) and their features (B, D); gives (B, K)."""
