"""Encoders of sequences against their formulas, a row at a time.

Axes: B batch, T time or tokens, C size of a given vector, D features.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg_sequence.patch_transformer import PatchTransformer
from mmreg_sequence.rotary import rotated, rotations
from mmreg_sequence.series_cnn import SeriesCNN
from mmreg_sequence.text_cnn import TextCNN
from mmreg_sequence.transformer import SequenceTransformer

TOKENS = Spec("T", (None,), "int64", 20)
VECTORS = Spec("TC", (None, 3))
LENGTHS = torch.tensor([6, 1, 3, 2])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def batch(spec: Spec) -> Signal:
    tokens = torch.randint(1, 20, (4, 6))
    return Signal(tokens if spec.axes == "T" else torch.randn(4, 6, 3), LENGTHS, LENGTHS)


def steps_of(encoder: Any, signal: Signal, row: int) -> Tensor:
    """A row's valid steps (T, D), embedded."""
    values = signal.values[row, : int(LENGTHS[row])]
    layer = encoder.steps.embedding if encoder.steps.embedding is not None else encoder.steps.linear
    result: Tensor = layer(values)
    return result


@pytest.mark.parametrize("spec", [TOKENS, VECTORS], ids=["tokens", "vectors"])
def test_text_cnn_is_the_greatest_response_of_each_filter(spec: Spec) -> None:
    encoder = TextCNN(spec, features=5, embedding_size=4, widths=(2, 3), filters=6).eval()
    signal = batch(spec)
    rows = []
    for row in range(4):
        steps = steps_of(encoder, signal, row)
        responses = []
        for width, convolution in zip((2, 3), encoder.convolutions, strict=True):
            padded = nn.functional.pad(steps, (0, 0, 0, max(0, width - len(steps))))
            windows = [padded[at : at + width].T for at in range(len(padded) - width + 1)]
            each = torch.stack([(convolution.weight * window).sum((1, 2)) + convolution.bias for window in windows])
            responses.append(each.relu().amax(0))
        rows.append(encoder.linear(torch.cat(responses)))
    torch.testing.assert_close(encoder(signal).pooled, torch.stack(rows))
    alone = encoder(Signal(signal.values[2:3, :3], LENGTHS[2:3], LENGTHS[2:3])).pooled
    torch.testing.assert_close(alone, rows[2][None])


def turned(vector: Tensor, place: int) -> Tensor:
    """A vector's pairs as complex numbers, turned by the place."""
    half = len(vector) // 2
    pairs = torch.complex(vector[:half], vector[half:])
    rates = torch.tensor([10_000.0 ** (-2 * number / len(vector)) for number in range(half)], dtype=vector.dtype)
    found = pairs * torch.polar(torch.ones_like(rates), place * rates)
    return torch.cat([found.real, found.imag])


def transformed(encoder: Any, steps: Tensor) -> Tensor:
    """The last layer's steps of a row, a head and a pair of steps at a time."""
    for layer in encoder.layers:
        q, k, v = layer.project(layer.attention_norm(steps)).chunk(3, -1)
        heads = []
        for head in range(layer.num_heads):
            at = slice(head * layer.head_size, (head + 1) * layer.head_size)
            queries = torch.stack([turned(each, place) for place, each in enumerate(q[:, at])])
            keys = torch.stack([turned(each, place) for place, each in enumerate(k[:, at])])
            weights = (queries @ keys.T / math.sqrt(layer.head_size)).softmax(-1)
            heads.append(weights @ v[:, at])
        steps = steps + layer.out(torch.cat(heads, -1))
        steps = steps + layer.down(nn.functional.gelu(layer.up(layer.norm(steps))))
    result: Tensor = encoder.norm(steps)
    return result


@pytest.mark.parametrize("spec", [TOKENS, VECTORS], ids=["tokens", "vectors"])
def test_the_transformer_follows_its_formula(spec: Spec) -> None:
    options: dict[str, Any] = {"features": 5, "hidden_size": 8, "num_layers": 2, "num_heads": 2}
    signal = batch(spec)
    pooled, tokens = SequenceTransformer(spec, **options).eval(), SequenceTransformer(spec, **options, outputs="tokens")
    tokens.load_state_dict(pooled.state_dict())
    features = tokens.eval()(signal)
    for row in range(4):
        expected = transformed(pooled, steps_of(pooled, signal, row))
        torch.testing.assert_close(pooled(signal).pooled[row], pooled.linear(expected.mean(0)), atol=1e-5, rtol=1e-4)
        length = int(LENGTHS[row])
        torch.testing.assert_close(features.tokens[row, :length], pooled.linear(expected), atol=1e-5, rtol=1e-4)
        assert features.mask[row].sum() == length


def test_rotary_positions_know_distances_alone() -> None:
    query, key = torch.randn(2, 8, dtype=torch.float64)
    turns = rotations(50, 8, torch.device("cpu"))
    queries = rotated(query.expand(1, 1, 50, 8), turns)[0, 0]
    keys = rotated(key.expand(1, 1, 50, 8), turns)[0, 0]
    products = queries @ keys.T
    for distance in (0, 3, -7):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(products[0, 0], products[0, 9])


def test_what_is_no_sequence_or_does_not_divide_is_refused() -> None:
    for encoder, name in ((TextCNN, "text_cnn"), (SequenceTransformer, "transformer")):
        with pytest.raises(SpecError, match=f"{name} does not take CHW"):
            encoder(Spec("CHW", (3, 8, 8)))
        with pytest.raises(SpecError, match="below a known vocabulary size"):
            encoder(Spec("T", (None,), "int64"))
    with pytest.raises(OptionError, match=r"even multiple of num_heads \(4\), found 12"):
        SequenceTransformer(TOKENS, hidden_size=12)


@pytest.mark.parametrize("encoder", ["transformer", "text_cnn"])
def test_texts_are_learned(tmp_path: Path, encoder: str) -> None:
    words = [["good", "fine", "nice"], ["bad", "poor", "dull"]]
    rows = [
        {
            "text": f"a {words[number % 2][number % 3]} thing {number % 7}",
            "label": "ab"[number % 2],
            "split": ["train", "train", "validation", "test"][number // 2 % 4],
        }
        for number in range(96)
    ]
    small = {"hidden_size": 16, "num_layers": 1} if encoder == "transformer" else {"embedding_size": 16, "filters": 8}
    recipe = {
        "table": rows,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"text": {"encoder": {"name": encoder, **small}}},
        "training": {"epochs": 12, "batch_size": 8, "optimizer": {"name": "AdamW", "lr": 0.01}},
    }
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run/report.json").read_text())["test"]["metrics"]["accuracy"] > 0.9
    assert mmreg.load(tmp_path / "run").predict(rows[:3]) == run.predict(rows[:3])


def test_the_dilated_convolutions_follow_their_formula() -> None:
    encoder = SeriesCNN(VECTORS, features=5, channels=4, num_blocks=3, kernel=3).eval()
    for norm in (norm for block in encoder.blocks for norm in block.norms):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    signal = batch(VECTORS)
    for row in range(4):
        steps = steps_of(encoder, signal, row)
        for number, block in enumerate(encoder.blocks):
            found = steps
            for convolution, norm, last in zip(block.convolutions, block.norms, (False, True), strict=True):
                length, dilation = len(found), 2**number
                out = torch.zeros(length, 4)
                for at in range(length):
                    for tap in range(3):
                        place = at + (tap - 1) * dilation
                        if 0 <= place < length:
                            out[at] += convolution.weight[:, :, tap] @ found[place]
                deviation = (norm.running_var + norm.eps).sqrt()
                found = (out - norm.running_mean) / deviation * norm.weight + norm.bias
                found = found if last else found.relu()
            steps = (steps + found).relu()
        torch.testing.assert_close(encoder(signal).pooled[row], encoder.linear(steps.mean(0)), atol=1e-5, rtol=1e-4)


def test_a_patch_is_a_vector_of_its_steps() -> None:
    encoder = PatchTransformer(VECTORS, features=5, patch=2, hidden_size=8, num_layers=1, num_heads=2).eval()
    signal = batch(VECTORS)
    for row in range(4):
        own = signal.values[row, : int(LENGTHS[row])]
        own = nn.functional.pad(own, (0, 0, 0, len(own) % 2))
        patches = encoder.project(own.reshape(-1, 6))
        expected = encoder.linear(transformed(encoder, patches).mean(0))
        torch.testing.assert_close(encoder(signal).pooled[row], expected, atol=1e-5, rtol=1e-4)
    tokens = PatchTransformer(VECTORS, patch=2, hidden_size=8, num_heads=2, outputs="tokens").eval()(signal)
    assert tokens.mask is not None
    assert tokens.mask.sum(1).tolist() == [3, 1, 2, 1]
