import copy
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import SpecError
from mmreg_text.rnn import TextRNN

TOKENS = Spec("T", (None,), "int64", 20)
VECTORS = Spec("TC", (None, 6))
LENGTHS = [5, 1, 3, 7, 2]
CELLS = ["lstm", "gru", "rnn"]
POOLINGS = ["last", "mean", "max", "attention"]
VARIANTS = list(itertools.product(POOLINGS, CELLS, [False, True]))


def encoder(spec: Spec = TOKENS, **options: Any) -> TextRNN:
    torch.manual_seed(0)
    small = {"features": 4, "embedding_size": 6, "hidden_size": 5, "dropout": 0.0}
    return TextRNN(spec, **{**small, **options})


def batch(spec: Spec = TOKENS, lengths: list[int] = LENGTHS, dtype: torch.dtype = torch.float64) -> Signal:
    """Random rows whose padding is hostile: numbers out of range, or values that are no numbers."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(lengths), max(lengths))
    sizes = torch.tensor(lengths)
    padding = torch.arange(shape[1])[None] >= sizes[:, None]
    if spec.axes == "T":
        values = torch.randint(1, 20, shape, generator=generator).masked_fill(padding, 10_000)
    else:
        values = torch.randn(*shape, 6, generator=generator, dtype=dtype).masked_fill(padding[..., None], torch.nan)
    return Signal(values, sizes, sizes)


def row(signal: Signal, index: int) -> Signal:
    assert signal.lengths is not None
    length = signal.lengths[index : index + 1]
    return Signal(signal.values[index : index + 1, : int(length)], length, length)


def test_its_options_spell_the_textbook_classifier() -> None:
    torch.manual_seed(0)
    ours = TextRNN(TOKENS, features=8, embedding_size=100, bidirectional=False, dropout=0.0, pooling="last")
    embedding, lstm, linear = nn.Embedding(20, 100), nn.LSTM(100, 100, 2, batch_first=True), nn.Linear(100, 8)
    assert ours.embedding is not None
    embedding.load_state_dict(ours.embedding.state_dict())
    lstm.load_state_dict(ours.rnn.state_dict())
    linear.load_state_dict(ours.linear.state_dict())
    count = sum(parameter.numel() for part in (embedding, lstm, linear) for parameter in part.parameters())
    assert sum(parameter.numel() for parameter in ours.parameters()) == count
    signal = batch()
    result = ours(signal).pooled
    for index, length in enumerate(LENGTHS):
        _, (hidden, _) = lstm(embedding(signal.values[index : index + 1, :length]))
        torch.testing.assert_close(result[index], linear(hidden[-1])[0])


@pytest.mark.parametrize(("pooling", "cell", "bidirectional"), VARIANTS)
def test_pooling_equals_plain_torch_row_by_row(pooling: str, cell: str, bidirectional: bool) -> None:
    ours = encoder(VECTORS, pooling=pooling, cell=cell, bidirectional=bidirectional).double().eval()
    signal = batch(VECTORS)
    result = ours(signal).pooled
    for index, length in enumerate(LENGTHS):
        states, hidden = ours.rnn(signal.values[index : index + 1, :length])
        if pooling == "last":
            hidden = hidden[0] if cell == "lstm" else hidden
            pooled = torch.cat([hidden[-2, 0], hidden[-1, 0]]) if bidirectional else hidden[-1, 0]
        elif pooling == "mean":
            pooled = states[0].mean(0)
        elif pooling == "max":
            pooled = states[0].max(0).values
        else:
            assert ours.pool is not None
            attention = ours.pool.attention
            assert attention is not None
            weights = torch.exp(
                torch.tanh(states[0] @ attention.project.weight.T + attention.project.bias) @ attention.score.weight[0]
            )
            pooled = (weights / weights.sum()) @ states[0]
        torch.testing.assert_close(result[index], ours.linear(pooled), rtol=0, atol=1e-10)


@pytest.mark.parametrize("spec", [TOKENS, VECTORS], ids=["tokens", "vectors"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("pooling", "cell", "bidirectional"), VARIANTS)
def test_a_row_alone_equals_the_row_in_a_padded_batch(
    pooling: str, cell: str, bidirectional: bool, dtype: torch.dtype, tolerance: float, spec: Spec
) -> None:
    ours = encoder(spec, pooling=pooling, cell=cell, bidirectional=bidirectional).to(dtype).eval()
    signal = batch(spec, dtype=dtype)
    together = ours(signal)
    assert together.tokens is None
    for index in range(len(LENGTHS)):
        alone = ours(row(signal, index)).pooled
        torch.testing.assert_close(together.pooled[index], alone[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_of_a_row_alone_equal_its_valid_ones_in_a_padded_batch(
    cell: str, bidirectional: bool, dtype: torch.dtype, tolerance: float
) -> None:
    ours = encoder(cell=cell, bidirectional=bidirectional, outputs="tokens").to(dtype).eval()
    signal = batch()
    together = ours(signal)
    assert together.pooled is None
    assert together.mask.tolist() == [[step < length for step in range(max(LENGTHS))] for length in LENGTHS]
    for index, length in enumerate(LENGTHS):
        alone = ours(row(signal, index))
        assert alone.mask is None
        torch.testing.assert_close(together.tokens[index, :length], alone.tokens[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_without_padding_takes_the_same_values_by_the_shorter_way(bidirectional: bool) -> None:
    ours = encoder(bidirectional=bidirectional).double().eval()
    values = torch.randint(1, 20, (3, 6))
    lengths = torch.full((3,), 6)
    short = ours(Signal(values, lengths, lengths)).pooled
    torch.testing.assert_close(short, ours(Signal(values)).pooled, rtol=0, atol=0)
    torch.testing.assert_close(short, ours(Signal(values, lengths)).pooled, rtol=0, atol=1e-10)


@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
@pytest.mark.parametrize("spec", [TOKENS, VECTORS], ids=["tokens", "vectors"])
@pytest.mark.parametrize(("pooling", "cell", "bidirectional"), VARIANTS)
def test_every_parameter_gets_a_gradient_and_hostile_padding_none(
    pooling: str, cell: str, bidirectional: bool, spec: Spec, outputs: str
) -> None:
    ours = encoder(spec, pooling=pooling, cell=cell, bidirectional=bidirectional, outputs=outputs)
    result = ours(batch(spec, dtype=torch.float32))
    (result.pooled if outputs == "pooled" else result.tokens[result.mask]).square().sum().backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    if ours.embedding is not None:
        assert not ours.embedding.weight[0].any()
        used = torch.cat([row(batch(), index).values[0] for index in range(len(LENGTHS))]).unique().tolist()
        assert ours.embedding.weight.grad.any(1).nonzero().flatten().tolist() == used


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_one_row_of_one_token_trains(cell: str, bidirectional: bool) -> None:
    ours = encoder(cell=cell, bidirectional=bidirectional, dropout=0.3).train()
    one = torch.tensor([1])
    result = ours(Signal(torch.tensor([[3]]), one, one)).pooled
    assert result.shape == (1, 4)
    result.sum().backward()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_follows_full_precision(dtype: torch.dtype, bidirectional: bool) -> None:
    ours = encoder(VECTORS, bidirectional=bidirectional).eval()
    signal = batch(VECTORS, dtype=torch.float32)
    full = ours(signal).pooled
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(ours(signal).pooled.float(), full, rtol=0, atol=0.05)
    reduced = copy.deepcopy(ours).to(dtype)(signal.replace(signal.values.to(dtype))).pooled
    assert reduced.dtype == dtype
    torch.testing.assert_close(reduced.float(), full, rtol=0, atol=0.05)


TRAINING = """
import json, sys
import mmreg

rows = [{"words": ["good and fine", "bad"][number % 2], "label": number % 2} for number in range(40)]
encoder = {"name": "text_rnn", "embedding_size": 8, "hidden_size": 8, "features": 4, "bidirectional": False}
recipe = {
    "table": rows,
    "target": {"column": "label"},
    "modalities": {"words": {"type": "text", "encoder": encoder}},
    "training": {"epochs": 15, "batch_size": 8, "precision": "bfloat16", "optimizer": {"name": "Adam", "lr": 0.02}},
}
run = mmreg.train(recipe, sys.argv[1], device="cpu")
print(json.dumps([str(run.dtype), run.evaluate(rows)["metrics"]["accuracy"]]))
"""


def test_a_processor_without_a_kernel_for_bfloat16_trains_in_it_all_the_same(tmp_path: Path) -> None:
    simple = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}  # makes this machine's processor such a one
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "run")]
    done = subprocess.run(command, env=simple, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["torch.bfloat16", 1.0]


def test_reloaded_weights_give_the_same_bits() -> None:
    first, second = encoder(), TextRNN(TOKENS, features=4, embedding_size=6, hidden_size=5, dropout=0.0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch()).pooled, second(batch()).pooled)


def test_dropout_acts_in_training_only_and_one_layer_takes_it_without_a_warning() -> None:
    ours = encoder(num_layers=1, dropout=0.5)
    assert not torch.equal(ours(batch()).pooled, ours(batch()).pooled)
    ours.eval()
    assert torch.equal(ours(batch()).pooled, ours(batch()).pooled)


def test_it_owns_parameters_for_what_it_is_asked_for_alone() -> None:
    assert any("attention" in name for name, _ in encoder(pooling="attention").named_parameters())
    asked_for_tokens = encoder(pooling="attention", outputs="tokens")
    assert not any("attention" in name for name, _ in asked_for_tokens.named_parameters())
    assert encoder(VECTORS).embedding is None


def test_the_promised_size_is_given() -> None:
    for outputs in ("pooled", "tokens"):
        ours = encoder(features=9, outputs=outputs)
        result = ours(batch())
        given = result.pooled if outputs == "pooled" else result.tokens
        assert given.shape[-1] == ours.out_features == 9


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_it_learns_an_order_that_a_bag_of_words_cannot_tell(pooling: str) -> None:
    values = torch.tensor([[1, 2, 3, 0], [2, 1, 3, 0], [1, 2, 0, 0], [2, 1, 0, 0], [3, 1, 2, 3], [3, 2, 1, 3]])
    lengths = torch.tensor([3, 3, 2, 2, 4, 4])
    target = torch.tensor([0, 1, 0, 1, 0, 1])
    ours = encoder(features=2, hidden_size=16, embedding_size=16, pooling=pooling)
    optimizer = torch.optim.Adam(ours.parameters(), 0.02)
    for _ in range(30):
        loss = nn.functional.cross_entropy(ours(Signal(values, lengths, lengths)).pooled, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec("CHW", (1, 28, 28)), "it takes tokens"),
        (Spec("C", (5,)), "it takes tokens"),
        (Spec("T", (None,), "int64"), "known vocabulary size"),
        (Spec("T", (None,), "float32", 20), "integers"),
        (Spec("TC", (4, None)), "of one size C"),
        (Spec("TC", (None, 3), "int64"), "floating-point"),
    ],
    ids=str,
)
def test_a_spec_that_it_does_not_take_is_refused_with_a_reason(spec: Spec, reason: str) -> None:
    refused = TextRNN.accepts(spec, {})
    assert refused is not None
    assert reason in refused
    with pytest.raises(SpecError, match=reason):
        TextRNN(spec)


@pytest.mark.parametrize("spec", [TOKENS, VECTORS, Spec("T", (8,), "int32", 4), Spec("TC", (8, 3))], ids=str)
def test_tokens_and_sequences_are_taken(spec: Spec) -> None:
    assert TextRNN.accepts(spec, {}) is None
    TextRNN(spec)
