"""The encoders of tabular data against their formulas, in float64.

Axes: B batch, N numbers, C categories, E members, D features.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmreg import Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg_tabular.embeddings import ColumnEmbeddings, PeriodicNumbers
from mmreg_tabular.ft_transformer import FTTransformer
from mmreg_tabular.mlp import TabularMLP
from mmreg_tabular.tabm import TabM

SPEC = {
    "numbers": Spec("C", (3,)),
    "missing": Spec("C", (3,)),
    "categories": Spec("C", (2,), "int64", 7),
}


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def signal(rows: int = 4) -> Signal[Any]:
    numbers = torch.randn(rows, 3)
    missing = torch.zeros(rows, 3)
    missing[1, 2] = missing[0, 0] = 1
    return Signal(
        {
            "numbers": numbers.masked_fill(missing > 0, 0),
            "missing": missing,
            "categories": torch.randint(0, 7, (rows, 2)),
        }
    )


def embedded(module: ColumnEmbeddings, given: Signal[Any]) -> Tensor:
    """(B, N + C, D), a cell at a time."""
    rows = []
    numbers: Any = module.numbers
    assert module.categories is not None
    for row in range(len(given)):
        cells = []
        for column in range(3):
            x = given.values["numbers"][row, column]
            if given.values["missing"][row, column]:
                assert module.missing is not None
                cells.append(module.missing[column])
            elif isinstance(numbers, PeriodicNumbers):
                angles = [2 * math.pi * c * x for c in numbers.frequencies[column]]
                waves = torch.stack([a.cos() for a in angles] + [a.sin() for a in angles])
                cells.append((waves @ numbers.weight[column] + numbers.bias[column]).relu())
            else:
                cells.append(x * numbers.weight[column] + numbers.bias[column])
        cells += [module.categories.weight[number] for number in given.values["categories"][row]]
        rows.append(torch.stack(cells))
    return torch.stack(rows)


@pytest.mark.parametrize("numbers", ["periodic", "linear"])
def test_columns_are_embedded_by_the_formula(numbers: Any) -> None:
    module = ColumnEmbeddings(SPEC, 5, numbers, 4, 0.7)
    given = signal()
    torch.testing.assert_close(module(given), embedded(module, given))
    assert module.columns == 5


def test_the_perceptron_sees_all_embeddings() -> None:
    encoder = TabularMLP(SPEC, features=6, hidden_size=7, num_layers=1, embedding_size=5).eval()
    given = signal()
    first, last = encoder.mlp[0], encoder.mlp[-1]
    hidden = (embedded(encoder.embeddings, given).flatten(1) @ first.weight.T + first.bias).relu()
    torch.testing.assert_close(encoder(given).pooled, hidden @ last.weight.T + last.bias)


def test_tabm_is_the_mean_of_its_members() -> None:
    encoder = TabM(SPEC, features=6, members=3, hidden_size=7, num_layers=2, embedding_size=5).eval()
    for layer in encoder.layers:  # as if trained
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
    given = signal()
    members = []
    for member in range(3):
        values = embedded(encoder.embeddings, given).flatten(1)
        for layer in encoder.layers:
            values = ((values * layer.r[member]) @ layer.weight.T * layer.s[member] + layer.bias[member]).relu()
        members.append(values @ encoder.weight[member] + encoder.bias[member])
    torch.testing.assert_close(encoder(given).pooled, torch.stack(members).mean(0))
    fresh = TabM(SPEC, members=4)
    assert set(fresh.layers[0].r.unique().tolist()) == {-1.0, 1.0}
    assert (fresh.layers[1].r == 1).all()


def attended(layer: Any, tokens: Tensor) -> Tensor:
    """One layer, a row and a head at a time."""
    normed = layer.attention_norm(tokens)
    size = tokens.shape[-1]
    heads = layer.attention.num_heads
    q, k, v = (normed @ layer.attention.in_proj_weight.T + layer.attention.in_proj_bias).split(size, -1)
    parts = []
    for head in range(heads):
        at = slice(head * size // heads, (head + 1) * size // heads)
        weights = (q[..., at] @ k[..., at].transpose(1, 2) / math.sqrt(size // heads)).softmax(-1)
        parts.append(weights @ v[..., at])
    out = layer.attention.out_proj
    tokens = tokens + torch.cat(parts, -1) @ out.weight.T + out.bias
    up = layer.norm(tokens) @ layer.up.weight.T + layer.up.bias
    inner = up.shape[-1] // 2
    result: Tensor = tokens + (up[..., :inner].relu() * up[..., inner:]) @ layer.down.weight.T + layer.down.bias
    return result


def test_the_transformer_follows_its_formula_pooled_and_as_tokens() -> None:
    options: dict[str, Any] = {"features": 6, "hidden_size": 8, "num_layers": 2, "num_heads": 2}
    given = signal()
    for outputs in ("pooled", "tokens"):
        encoder = FTTransformer(SPEC, **options, outputs=outputs).eval()
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        tokens = embedded(encoder.embeddings, given) + encoder.bias
        if encoder.read is not None:
            tokens = torch.cat([encoder.read.expand(len(tokens), 1, -1), tokens], 1)
        for layer in encoder.layers:
            tokens = attended(layer, tokens)
        expected = encoder.linear(encoder.norm(tokens).relu())
        features = encoder(given)
        if outputs == "pooled":
            torch.testing.assert_close(features.pooled, expected[:, 0])
        else:
            torch.testing.assert_close(features.tokens, expected)
            assert features.tokens.shape == (4, 5, 6)
            assert features.mask is None


@pytest.mark.parametrize("encoder", [TabularMLP, FTTransformer, TabM])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("C", (3,)), "by name, such as the tabular modality gives"),
        ({"numbers": Spec("TC", (None, 3))}, 'it takes vectors "C" of one size'),
        ({"numbers": Spec("C", (3,)), "colour": Spec("C", (3,))}, "does not know what colour would be"),
        ({"numbers": Spec("C", (3,), "int64")}, "numbers must be floating-point"),
        ({"numbers": Spec("C", (3,)), "missing": Spec("C", (2,))}, "missing must be of the size of numbers"),
        ({"categories": Spec("C", (3,), "int64")}, "integers below a known number"),
    ],
)
def test_what_is_no_row_of_columns_is_refused(encoder: Any, spec: Any, message: str) -> None:
    assert message in encoder.accepts(spec, {})
    with pytest.raises(SpecError, match="does not take what it gets"):
        encoder(spec)


def test_heads_have_to_divide_a_token() -> None:
    with pytest.raises(OptionError, match=r"must be a multiple of num_heads \(3\), found 8"):
        FTTransformer(SPEC, hidden_size=8, num_heads=3)


def test_a_transformer_over_too_many_columns_is_refused() -> None:
    spec = {"numbers": Spec("C", (501,))}
    with pytest.raises(SpecError, match=r"up to 500 \(max_columns\), found 501; tabular_mlp takes any number"):
        FTTransformer(spec)
    assert FTTransformer.accepts(spec, {"max_columns": 501}) is None
