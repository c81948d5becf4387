"""What all token and other operators keep: absence, padding, order, gradients, precision, compiling."""

import re

import pytest
import torch
from torch._dynamo import reset

from mmreg.contract.signals import Features
from mmreg_fusion.feature_level.bottleneck import Bottleneck
from mmreg_fusion.feature_level.canonical import Canonical
from mmreg_fusion.feature_level.coattention import CoAttention
from mmreg_fusion.feature_level.cross_attention import CrossAttention
from mmreg_fusion.feature_level.experts import MixtureOfExperts, ProductOfExperts
from mmreg_fusion.feature_level.hypernetwork import HyperNetwork
from mmreg_fusion.feature_level.late_transformer import LateTransformer
from mmreg_fusion.feature_level.perceiver import Perceiver
from mmreg_fusion.feature_level.transformer import Transformer

SIZES = {"image": 3, "text": 5, "audio": 2}
LENGTHS = (4, 1, 3)
TOKENS = [Transformer, LateTransformer, CrossAttention, Bottleneck, Perceiver, CoAttention]
OTHERS = [HyperNetwork, Canonical, ProductOfExperts, MixtureOfExperts]
EVERY = [*TOKENS, *OTHERS]
ALSO_WITH_TOKENS = [*((cls, False) for cls in EVERY), *((cls, True) for cls in TOKENS)]
FLOATS = torch.float64, torch.float32


def build(cls, sizes=SIZES, dtype=torch.float64, **options):
    torch.manual_seed(0)
    if cls not in (CoAttention, HyperNetwork):
        options.setdefault("dropout", 0.0)
    options.setdefault("features", 8)
    return cls(sizes, **options).to(dtype)


def lengths_of(cls, count=3):
    """Tokens for the operators that take them."""
    return (LENGTHS * 2)[:count] if cls.takes == "tokens" else None


def backward(operator, fused):
    """Every parameter's gradient of a generic loss; each has one, as an absent modality takes part with zeros."""
    operator.zero_grad()
    weights = torch.randn(fused.pooled.shape, generator=torch.Generator().manual_seed(1)).to(fused.pooled)
    ((fused.pooled * weights).sum() + sum(fused.losses.values())).backward()
    return {name: parameter.grad.clone() for name, parameter in operator.named_parameters()}


def with_values(features, present, value):
    """The features with every absent row and every padded token set to a value."""
    changed = {}
    for index, (name, feature) in enumerate(features.items()):
        gone = ~present[:, index]
        if feature.tokens is None:
            pooled = feature.pooled.masked_fill(gone[:, None], value).requires_grad_()
            changed[name] = Features(pooled=pooled)
        else:
            tokens = feature.tokens.masked_fill((gone[:, None] | ~feature.mask)[..., None], value).requires_grad_()
            changed[name] = Features(tokens=tokens, mask=feature.mask)
    return changed


@pytest.mark.parametrize(("cls", "absent_token"), ALSO_WITH_TOKENS)
def test_absent_modalities_and_padding_have_no_influence_whatever_they_hold(cls, absent_token, make_batch):
    operator = build(cls, **({"absent_token": True} if absent_token else {}))
    features, present = make_batch(SIZES, 16, lengths=lengths_of(cls), absent=True)
    expected = None
    for value in (0.0, 1e30, float("nan"), float("inf"), -float("inf")):
        given = with_values(features, present, value)
        fused = operator(given, present)
        found = {"pooled": fused.pooled, **fused.losses, **backward(operator, fused)}
        assert all(torch.isfinite(tensor).all() for tensor in found.values())
        expected = expected or found
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        for index, feature in enumerate(given.values()):
            values = feature.pooled if feature.tokens is None else feature.tokens
            gradient = values.grad.flatten(1)
            assert (gradient[~present[:, index]] == 0).all()
            assert (gradient[present[:, index]] != 0).any(1).all()


@pytest.mark.parametrize("cls", EVERY)
def test_a_row_does_not_depend_on_the_other_rows(cls, make_batch):
    operator = build(cls)
    features, present = make_batch(SIZES, 8, lengths=lengths_of(cls), absent=True)
    together = operator(features, present).pooled
    for row in range(8):
        one = {
            name: Features(*(None if x is None else x[row : row + 1] for x in (f.pooled, f.tokens, f.mask)))
            for name, f in features.items()
        }
        torch.testing.assert_close(operator(one, present[row : row + 1]).pooled[0], together[row])


@pytest.mark.parametrize("cls", EVERY)
def test_a_modality_that_the_whole_batch_lacks_takes_part_with_zero_gradients(cls, make_batch):
    operator = build(cls)
    features, present = make_batch(SIZES, lengths=lengths_of(cls))
    present[:, 1] = False
    gradients = backward(operator, operator(features, present))
    own = {
        name: grad for name, grad in gradients.items() if re.match(r"(embedding\.maps|projections|experts)\.1\.", name)
    }
    if cls is HyperNetwork:
        own = {name: grad for name, grad in gradients.items() if name.startswith("projections.0.")}
    assert own
    assert all((grad == 0).all() for grad in own.values())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("cls", TOKENS)
def test_the_number_of_padded_tokens_changes_nothing(cls, dtype, make_batch):
    operator = build(cls, dtype=dtype, absent_token=True)
    features, present = make_batch(SIZES, 8, lengths=LENGTHS, absent=True, dtype=dtype)
    longer = {}
    for name, feature in features.items():
        padding = torch.full_like(feature.tokens[:, :1], float("nan")).expand(-1, 9, -1)
        mask = torch.cat([feature.mask, torch.zeros(8, 9, dtype=torch.bool)], 1)
        longer[name] = Features(tokens=torch.cat([feature.tokens, padding], 1), mask=mask)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    shorter = operator(features, present).pooled
    torch.testing.assert_close(operator(longer, present).pooled, shorter, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cls", TOKENS)
def test_no_mask_means_that_every_token_is_valid(cls, make_batch):
    operator = build(cls)
    features, present = make_batch(SIZES, 8, lengths=LENGTHS, absent=True)
    bare = {name: Features(tokens=f.tokens) for name, f in features.items()}
    full = {name: Features(tokens=f.tokens, mask=torch.ones_like(f.mask)) for name, f in features.items()}
    assert torch.equal(operator(bare, present).pooled, operator(full, present).pooled)


@pytest.mark.parametrize("cls", TOKENS)
def test_a_pooled_vector_is_one_token(cls, make_batch):
    operator = build(cls)
    features, present = make_batch(SIZES, 8, absent=True)
    tokens = {name: Features(tokens=f.pooled[:, None]) for name, f in features.items()}
    assert torch.equal(operator(features, present).pooled, operator(tokens, present).pooled)


@pytest.mark.parametrize("cls", [Transformer, LateTransformer, CrossAttention, Bottleneck, Perceiver])
def test_the_order_of_tokens_matters(cls, make_batch):
    operator = build(cls)
    features, present = make_batch(SIZES, 4, lengths=LENGTHS)
    full = {name: Features(tokens=f.tokens) for name, f in features.items()}
    turned = {name: Features(tokens=f.tokens.flip(1)) for name, f in features.items()}
    difference = operator(full, present).pooled - operator(turned, present).pooled
    assert (difference.abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("cls", TOKENS)
def test_an_absent_token_is_trained_by_rows_that_lack_its_modality(cls, make_batch):
    operator = build(cls, absent_token=True)
    features, present = make_batch(SIZES, 8, lengths=LENGTHS)
    names = [f"embedding.absent.{i}" for i in range(3)]
    gradients = backward(operator, operator(features, present))
    assert all((gradients[name] == 0).all() for name in names)
    present[0, 0] = present[1, 2] = False
    gradients = backward(operator, operator(features, present))
    assert [bool((gradients[name] != 0).any()) for name in names] == [True, False, True]


ORDERS = {  # parameters that belong to one modality, by its number; pairs and shared matrices are permuted below
    Transformer: r"embedding\.maps\.(\d)",
    LateTransformer: r"embedding\.(?:maps|norms)\.(\d)",
    Perceiver: r"embedding\.maps\.(\d)",
    Bottleneck: r"(?:embedding\.maps|cls|layers\.\d\.layers)\.(\d)",
    CrossAttention: r"(?:embedding\.maps|merge|memory)\.(\d)",
    CoAttention: r"(?:embedding\.maps|values|scores)\.(\d)",
    Canonical: r"projections\.(\d)",
    ProductOfExperts: r"experts\.(\d)",
    MixtureOfExperts: r"experts\.(\d)",
}


def permuted_state(cls, operator, order):
    """The state of the operator whose modality k is this one's modality order[k]."""
    old = operator.state_dict()
    state = {}
    for name in old:
        match = re.match(ORDERS[cls], name)
        if match:
            start, end = match.span(1)
            state[name] = old[f"{name[:start]}{order[int(match[1])]}{name[end:]}"]
        else:
            state[name] = old[name]
    if cls is CrossAttention:
        for new, (target, source) in enumerate(operator.pairs):
            pair = operator.pairs.index((order[target], order[source]))
            state |= {
                k: old[k.replace(f"cross.{new}.", f"cross.{pair}.")] for k in old if k.startswith(f"cross.{new}.")
            }
        for target in range(3):
            was = [j for j in range(3) if j != order[target]]
            now = [order[j] for j in range(3) if j != target]
            blocks = old[f"merge.{order[target]}.weight"].unflatten(1, (2, -1))
            state[f"merge.{target}.weight"] = blocks[:, [was.index(j) for j in now]].flatten(1)
    if cls is CoAttention:
        for new, (i, j) in enumerate(operator.pairs):
            pair = order[i], order[j]
            weight = old[f"affinities.{operator.pairs.index(tuple(sorted(pair)))}"]
            state[f"affinities.{new}"] = weight if pair[0] < pair[1] else weight.T
    if cls is MixtureOfExperts:
        columns = old["router.weight"].split(list(SIZES.values()), 1)
        state["router.weight"] = torch.cat([columns[k] for k in order], 1)[order]
        state["router.bias"] = old["router.bias"][order]
    return state


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 0, 1], [2, 1, 0]])
@pytest.mark.parametrize("cls", ORDERS)
def test_the_order_of_modalities_has_no_meaning(cls, order, make_batch):
    operator = build(cls)
    names = [list(SIZES)[k] for k in order]
    other = build(cls, {name: SIZES[name] for name in names})
    other.load_state_dict(permuted_state(cls, operator, order))
    features, present = make_batch(SIZES, 24, lengths=lengths_of(cls), absent=True)
    expected = operator(features, present)
    found = other({name: features[name] for name in names}, present[:, order])
    blocks = expected.pooled.unflatten(1, (-1, 8))
    if blocks.shape[1] > 1:
        blocks = blocks[:, order]
    torch.testing.assert_close(found.pooled, blocks.flatten(1))
    torch.testing.assert_close(dict(found.losses), dict(expected.losses))
    assert not cls.ordered


def test_hypernetwork_is_declared_ordered():
    assert HyperNetwork.ordered


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(("cls", "tokens"), ALSO_WITH_TOKENS)
def test_every_parameter_is_trained(cls, count, tokens, make_batch):
    sizes = {f"m{i}": 2 + i for i in range(count)}
    operator = build(cls, sizes, dtype=torch.float32)
    features, present = make_batch(sizes, 16, lengths=(4, 1, 3, 2, 5)[:count] if tokens else None, dtype=torch.float32)
    gradients = backward(operator, operator(features, present))
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().max() > 1e-7, name


@pytest.mark.parametrize("size", [1, 2, 17, 257])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("cls", EVERY)
def test_any_number_and_size_of_modalities_and_a_single_row_in_training(cls, count, size, make_batch):
    sizes = {f"m{i}": size for i in range(count)}
    operator = cls(sizes)
    assert operator.training
    features, present = make_batch(sizes, 1, dtype=torch.float32)
    fused = operator(features, present)
    assert fused.pooled.shape == (1, operator.out_features)
    assert torch.isfinite(fused.pooled).all()
    assert all(torch.isfinite(gradient).all() for gradient in backward(operator, fused).values())


@pytest.mark.parametrize("cls", EVERY)
def test_compiles_without_graph_breaks(cls, make_batch):
    reset()
    operator = build(cls, features=4, **({"absent_token": True} if cls in TOKENS else {}))
    batch = make_batch(SIZES, 8, lengths=lengths_of(cls), absent=True)
    compiled = torch.compile(operator, fullgraph=True, backend="eager")
    found, expected = compiled(*batch), operator(*batch)
    torch.testing.assert_close(found.pooled, expected.pooled)
    torch.testing.assert_close(dict(found.losses), dict(expected.losses))
    assert bool(expected.losses) == (cls in (Canonical, ProductOfExperts, MixtureOfExperts))


@pytest.mark.parametrize("cls", EVERY)
def test_state_goes_into_another_instance(cls, make_batch):
    operator = build(cls).eval()
    torch.manual_seed(5)
    other = cls(SIZES, features=8).double().eval()
    batch = make_batch(SIZES, 8, lengths=lengths_of(cls), absent=True)
    expected = operator(*batch).pooled
    assert not torch.equal(other(*batch).pooled, expected)
    other.load_state_dict(operator.state_dict())
    assert torch.equal(other(*batch).pooled, expected)


@pytest.mark.parametrize("scale", [1, 100, 10_000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", EVERY)
def test_autocast_is_finite_and_close_to_full_precision(cls, dtype, scale, make_batch):
    operator = build(cls, dtype=torch.float32)
    features, present = make_batch(SIZES, 16, lengths=lengths_of(cls), absent=True, dtype=torch.float32)
    features = {
        name: Features(*(None if x is None else scale * x for x in (f.pooled, f.tokens)), f.mask)
        for name, f in features.items()
    }
    with torch.autocast("cpu", dtype):
        fused = operator(features, present)
    assert torch.isfinite(fused.pooled).all()
    assert all(torch.isfinite(loss) for loss in fused.losses.values())
    if scale == 1:  # beyond, keeping float16's gradients in range is the gradient scaler's work
        assert all(torch.isfinite(gradient).all() for gradient in backward(operator, fused).values())
        expected = operator(features, present)
        torch.testing.assert_close(fused.pooled.float(), expected.pooled, atol=0.05, rtol=0.05)
        torch.testing.assert_close(dict(fused.losses), dict(expected.losses), atol=0.01, rtol=0.02)


def test_coattention_sums_over_many_large_tokens_without_overflow():
    operator = CoAttention(dict.fromkeys("abc", 8)).eval()
    generator = torch.Generator().manual_seed(0)
    features = {name: Features(tokens=torch.randn(4, 30, 8, generator=generator) * 1e4) for name in "abc"}
    with torch.autocast("cpu", torch.float16):
        assert torch.isfinite(operator(features, torch.ones(4, 3, dtype=torch.bool)).pooled).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", EVERY)
def test_reduced_precision_in_gives_the_same_out(cls, dtype, make_batch):
    operator = build(cls, dtype=dtype)
    fused = operator(*make_batch(SIZES, 16, lengths=lengths_of(cls), absent=True, dtype=dtype))
    assert fused.pooled.dtype == dtype
    assert torch.isfinite(fused.pooled).all()
    assert all(torch.isfinite(loss) for loss in fused.losses.values())


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls not in (CoAttention, HyperNetwork)])
def test_dropout_acts_in_training_only(cls, make_batch):
    hidden = {"hidden": (8,)} if cls in OTHERS else {}
    operator = build(cls, dropout=0.5, **hidden)
    batch = make_batch(SIZES, 8, lengths=lengths_of(cls))
    assert not torch.equal(operator(*batch).pooled, operator(*batch).pooled)
    operator.eval()
    assert torch.equal(operator(*batch).pooled, operator(*batch).pooled)
