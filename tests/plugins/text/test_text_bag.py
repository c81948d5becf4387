from pathlib import Path
from typing import Any

import pytest
import torch

import mmreg
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import SpecError
from mmreg_text.bag import TextBag, shared_vectors

TOKENS = Spec("T", (None,), "int64", 20)
WEIGHTED = {"tokens": TOKENS, "weights": Spec("T", (None,))}
LENGTHS = [5, 1, 3, 7, 2]


def encoder(spec: Any = WEIGHTED) -> TextBag:
    torch.manual_seed(0)
    return TextBag(spec, features=4, buckets=50, dropout=0.5).eval()


def vectors(encoder: TextBag) -> torch.Tensor:
    """The vector of every token, (20, 4)."""
    places, signs = shared_vectors(torch.arange(20), encoder.buckets)
    shared = encoder.vectors
    return torch.stack([2 * (shared[at] * sign[:, None]).sum(0) for at, sign in zip(places, signs, strict=True)])


def test_tokens_share_vectors_as_if_these_and_the_signs_were_drawn() -> None:
    count, buckets = 30_000, 4096
    places, signs = shared_vectors(torch.arange(count), buckets)
    assert places.shape == signs.shape == (count, 4)
    assert set(signs.unique().tolist()) == {-1, 1}
    for way in range(4):
        occupied = torch.bincount(places[:, way], minlength=buckets).float()
        assert len(occupied) == buckets
        assert occupied.std().item() == pytest.approx((count / buckets) ** 0.5, rel=0.05)
    shares = torch.zeros(2000, buckets).scatter_add_(1, places[:2000], signs[:2000] / 2)
    products = shares @ shares.T
    torch.testing.assert_close(products.diag().mean().item(), 1.0, atol=0.01, rtol=0)
    between = products - products.diag().diag()
    assert between.square().mean().sqrt().item() == pytest.approx(buckets**-0.5, rel=0.05)
    assert abs(between.mean().item()) < 1e-4


def test_which_vectors_a_token_has_never_changes() -> None:
    places, signs = shared_vectors(torch.tensor([2, 9_999_999]), 16_384)
    assert places.tolist() == [[2318, 3795, 5034, 6054], [5960, 11528, 1053, 3481]]
    assert signs.tolist() == [[1, 1, -1, -1], [-1, -1, -1, 1]]


def test_in_training_a_text_does_without_some_of_the_shared_vectors() -> None:
    ours = TextBag(WEIGHTED, features=2, buckets=5000, dropout=0.75).train()
    torch.nn.init.ones_(ours.vectors)
    torch.nn.init.zeros_(ours.bias)
    many = torch.arange(20).repeat(40, 1)
    _, signs = shared_vectors(many, 5000)
    weights = torch.ones(many.shape)
    torch.manual_seed(0)
    totals = torch.stack([ours(Signal({"tokens": many, "weights": weights})).pooled[:, 0] for _ in range(200)])
    whole = 2 * signs[0].sum().item()
    assert totals.mean().item() == pytest.approx(whole, abs=1.2)
    assert totals.std().item() > 1
    assert ours.eval()(Signal({"tokens": many, "weights": weights})).pooled[0, 0].item() == pytest.approx(whole)


def batch(lengths: list[int] = LENGTHS) -> Signal[Any]:
    """Random rows whose padding is hostile: numbers out of range, and weights that are no numbers."""
    generator = torch.Generator().manual_seed(1)
    shape, sizes = (len(lengths), max(lengths)), torch.tensor(lengths)
    padding = torch.arange(shape[1])[None] >= sizes[:, None]
    tokens = torch.randint(1, 20, shape, generator=generator).masked_fill(padding, 10_000)
    weights = torch.rand(shape, generator=generator).masked_fill(padding, torch.nan)
    return Signal({"tokens": tokens, "weights": weights}, sizes, sizes)


def test_it_is_a_weighted_sum_of_the_tokens_vectors_whatever_the_padding() -> None:
    ours, signal = encoder(), batch()
    pooled = ours(signal).pooled
    for row, length in enumerate(LENGTHS):
        own = vectors(ours)[signal.values["tokens"][row, :length]]
        total = (own * signal.values["weights"][row, :length, None]).sum(0)
        torch.testing.assert_close(pooled[row], total + ours.bias)


def test_of_tokens_without_weights_it_takes_the_mean() -> None:
    ours, signal = encoder(TOKENS), batch()
    pooled = ours(signal.replace(signal.values["tokens"])).pooled
    for row, length in enumerate(LENGTHS):
        mean = vectors(ours)[signal.values["tokens"][row, :length]].mean(0)
        torch.testing.assert_close(pooled[row], mean + ours.bias)


def test_only_what_the_texts_have_is_learned() -> None:
    ours, signal = encoder(), batch()
    ours(signal).pooled.sum().backward()
    gradient = ours.vectors.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    places, _ = shared_vectors(signal.values["tokens"][signal.values["tokens"] < 20], ours.buckets)
    touched = torch.zeros(ours.buckets, dtype=torch.bool)
    touched[places.unique()] = True
    assert not gradient[~touched].any()


@pytest.mark.parametrize("lengths", [LENGTHS, [4], [0, 3, 0], []], ids=str)
def test_reading_a_texts_own_vectors_is_multiplying_by_all_of_them(lengths: list[int]) -> None:
    found = []
    for all_of_them in (False, True):
        ours = TextBag(WEIGHTED, features=4, buckets=50, dropout=0.5)
        ours.load_state_dict(encoder().state_dict())
        signal = (
            batch(lengths) if any(lengths) else Signal({"tokens": torch.ones(0, 1).long(), "weights": torch.ones(0, 1)})
        )
        signal.values["weights"].requires_grad_(all_of_them)  # by which it is asked for more than a text's own
        torch.manual_seed(0)
        pooled = ours(signal).pooled
        (pooled * torch.arange(4.0)).sum().backward()
        found.append((pooled, ours.vectors.grad, ours.bias.grad))
    torch.testing.assert_close(found[0], found[1])


class Pooled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()

    def forward(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.encoder(Signal({"tokens": tokens, "weights": weights})).pooled


def test_it_is_traced_for_any_number_of_texts_and_tokens() -> None:
    generator = torch.Generator().manual_seed(2)

    def values(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randint(1, 20, shape, generator=generator), torch.rand(shape, generator=generator)

    any_size = (torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC)
    traced = torch.export.export(Pooled(), values(3, 7), dynamic_shapes=(any_size, any_size), strict=False).module()
    for shape in ((1, 4), (5, 1)):
        given = values(*shape)
        torch.testing.assert_close(traced(*given), Pooled()(*given))


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
