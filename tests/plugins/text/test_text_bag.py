from pathlib import Path
from typing import Any

import pytest
import torch

import mmreg
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import SpecError
from mmreg_text.bag import TextBag

TOKENS = Spec("T", (None,), "int64", 20)
WEIGHTED = {"tokens": TOKENS, "weights": Spec("T", (None,))}
LENGTHS = [5, 1, 3, 7, 2]


def encoder(spec: Any = WEIGHTED) -> TextBag:
    torch.manual_seed(0)
    encoder = TextBag(spec, features=4, embedding_size=6, dropout=0.5).eval()
    torch.nn.init.normal_(encoder.embedding.weight)
    return encoder


def test_before_training_no_text_says_anything() -> None:
    ours = TextBag(WEIGHTED)
    torch.testing.assert_close(ours.eval()(batch()).pooled, ours.linear.bias.expand(5, -1))


def batch(lengths: list[int] = LENGTHS) -> Signal[Any]:
    """Random rows whose padding is hostile: numbers out of range, and weights that are no numbers."""
    generator = torch.Generator().manual_seed(1)
    shape, sizes = (len(lengths), max(lengths)), torch.tensor(lengths)
    padding = torch.arange(shape[1])[None] >= sizes[:, None]
    tokens = torch.randint(1, 20, shape, generator=generator).masked_fill(padding, 10_000)
    weights = torch.rand(shape, generator=generator).masked_fill(padding, torch.nan)
    return Signal({"tokens": tokens, "weights": weights}, sizes, sizes)


def test_it_is_a_weighted_sum_of_embeddings_and_a_linear_layer_whatever_the_padding() -> None:
    ours, signal = encoder(), batch()
    pooled = ours(signal).pooled
    for row, length in enumerate(LENGTHS):
        vectors = ours.embedding.weight[signal.values["tokens"][row, :length]]
        total = (vectors * signal.values["weights"][row, :length, None]).sum(0)
        torch.testing.assert_close(pooled[row], ours.linear(total))


def test_of_tokens_without_weights_it_takes_the_mean() -> None:
    ours, signal = encoder(TOKENS), batch()
    pooled = ours(signal.replace(signal.values["tokens"])).pooled
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(
            pooled[row], ours.linear(ours.embedding.weight[signal.values["tokens"][row, :length]].mean(0))
        )


def test_padding_learns_nothing() -> None:
    ours = encoder()
    ours(batch()).pooled.sum().backward()
    assert ours.embedding.weight.grad is not None
    assert not ours.embedding.weight.grad[0].any()
    assert ours.embedding.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "spec",
    [
        Spec("T", (None,), "int64"),
        Spec("T", (None,), "float32", 20),
        Spec("TC", (None, 3)),
        {"tokens": TOKENS, "weights": TOKENS},
        {"tokens": TOKENS, "weights": Spec("T", (None,)), "more": TOKENS},
        {"weights": Spec("T", (None,))},
    ],
    ids=str,
)
def test_what_is_no_bag_of_tokens_is_refused(spec: Any) -> None:
    with pytest.raises(SpecError, match="it takes tokens"):
        TextBag(spec)


def test_a_recipe_needs_its_name_alone_and_the_run_finds_parts_of_words_again(tmp_path: Path) -> None:
    words = [f"{'un' if n % 2 else 're'}{'abcdefg'[n % 7]}{n}" for n in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + "".join(f"{word},{word[:2]}\n" for word in words))
    recipe = {
        "table": str(table),
        "target": {"column": "label"},
        "modalities": {"text": {"encoder": "text_bag"}},
        "training": {"epochs": 8, "batch_size": 16, "optimizer": {"name": "Adam", "lr": 0.02}},
    }
    mmreg.train(recipe, out=tmp_path / "run", device="cpu")
    found = mmreg.load(tmp_path / "run", device="cpu").predict([{"text": "unheard"}, {"text": "reheard"}])
    assert [each["label"] for each in found] == ["un", "re"]
