"""Hypernetwork, canonical, product and mixture of experts against NumPy, closed forms and their losses' formulas."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from mmreg.contract.signals import Features
from mmreg_fusion.feature_level.canonical import Canonical, canonical_correlation
from mmreg_fusion.feature_level.experts import MixtureOfExperts, ProductOfExperts, load_imbalance
from mmreg_fusion.feature_level.hypernetwork import HyperNetwork

SIZES = {"image": 3, "text": 5, "audio": 2}


def linear(x, weights, name):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def mlp(x, weights, name):
    layers = sorted({int(key.split(".")[2]) for key in weights if key.startswith(f"{name}.")})
    for layer in layers[:-1]:
        x = np.maximum(linear(x, weights, f"{name}.{layer}"), 0)
    return linear(x, weights, f"{name}.{layers[-1]}")


def hypernetwork(row, here, weights, rank, width=4):
    condition = row[0] if here[0] else np.zeros_like(row[0])
    targets = list(range(1, len(row))) or [0]
    parts = []
    for index, target in enumerate(targets):
        hidden = linear(row[target], weights, f"projections.{index}") if here[target] else np.zeros(width)
        generated = linear(condition, weights, f"weights.{index}")
        if rank:
            left, right = generated.reshape(2, width, rank)
            change = np.einsum("or,ir->oi", left, right) / np.sqrt(width * rank)
        else:
            change = generated.reshape(width, width) / np.sqrt(width)
        parts.append((np.eye(width) + change) @ hidden + linear(condition, weights, f"biases.{index}"))
    return np.concatenate(parts)


def canonical(row, here, weights):
    parts = [mlp(x, weights, f"projections.{i}") if here[i] else np.zeros(4) for i, x in enumerate(row)]
    return np.concatenate(parts)


def gaussian_product(row, here, weights):
    """The mean and variance of each latent value, by multiplying densities two at a time."""
    mean, variance = np.zeros(4), np.ones(4)
    for i, x in enumerate(row):
        if here[i]:
            mu, log_variance = np.split(mlp(x, weights, f"experts.{i}"), 2)
            other = np.exp(log_variance)
            mean, variance = (mean * other + mu * variance) / (variance + other), variance * other / (variance + other)
    return mean, variance


def product_of_experts(row, here, weights):
    return gaussian_product(row, here, weights)[0]


def gates(row, here, weights):
    if len(row) == 1:
        return here.astype(float)
    joined = np.concatenate([x if here[i] else np.zeros_like(x) for i, x in enumerate(row)])
    powers = np.where(here, np.exp(linear(joined, weights, "router")), 0)
    return powers / max(powers.sum(), 1e-300)


def mixture_of_experts(row, here, weights):
    shares = gates(row, here, weights)
    return sum((shares[i] * mlp(x, weights, f"experts.{i}") for i, x in enumerate(row) if here[i]), np.zeros(4))


OPERATORS = {
    "hypernetwork": (HyperNetwork, {"rank": 3}, lambda *args: hypernetwork(*args, rank=3)),
    "hypernetwork_full": (HyperNetwork, {"rank": 0}, lambda *args: hypernetwork(*args, rank=0)),
    "canonical": (Canonical, {}, canonical),
    "canonical_deep": (Canonical, {"hidden": (6,), "dropout": 0.0}, canonical),
    "product_of_experts": (ProductOfExperts, {}, product_of_experts),
    "product_of_experts_deep": (ProductOfExperts, {"hidden": (6, 3), "dropout": 0.0}, product_of_experts),
    "mixture_of_experts": (MixtureOfExperts, {"hidden": (6,), "dropout": 0.0}, mixture_of_experts),
    "mixture_of_experts_linear": (MixtureOfExperts, {"hidden": ()}, mixture_of_experts),
}


def build(name, sizes, **options):
    cls, defaults, _ = OPERATORS[name]
    return cls(sizes, **{"features": 4, **defaults, **options}).double()


def arrays(operator, features):
    weights = {key: value.numpy() for key, value in operator.state_dict().items()}
    rows = zip(*(feature.pooled.numpy() for feature in features.values()), strict=True)
    return weights, list(rows)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_its_formula_for_every_pattern_of_absence(name, count, make_batch):
    torch.manual_seed(count)
    sizes = dict(list(SIZES.items())[:count])
    operator = build(name, sizes)
    features, present = make_batch(sizes, 2**count, absent=True)
    with torch.no_grad():
        result = operator(features, present).pooled
    assert result.shape == (2**count, operator.out_features)
    weights, rows = arrays(operator, features)
    expected = [OPERATORS[name][2](row, here.numpy(), weights) for row, here in zip(rows, present, strict=True)]
    np.testing.assert_allclose(result.numpy(), np.stack(expected), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_of_result_and_losses_equal_finite_differences(name, make_batch):
    torch.manual_seed(0)
    operator = build(name, SIZES)
    batch, present = make_batch(SIZES, 8)
    present[1, 0] = present[2, 1] = False
    names, parameters = zip(*operator.named_parameters(), strict=True)

    def fuse(*tensors):
        features = {key: Features(pooled=x) for key, x in zip(SIZES, tensors, strict=False)}
        weights = dict(zip(names, tensors[len(SIZES) :], strict=True))
        fused = functional_call(operator, weights, (features, present))
        return fused.pooled, *fused.losses.values()

    inputs = (*(feature.pooled for feature in batch.values()), *parameters)
    assert torch.autograd.gradcheck(fuse, [x.detach().clone().requires_grad_() for x in inputs], fast_mode=True)


def correlations(left, right, ridge):
    """The singular values of S11^(-1/2) S12 S22^(-1/2), by eigendecompositions."""

    def covariance(x, y):
        return (x - x.mean(0)).T @ (y - y.mean(0)) / (len(x) - 1)

    def inverse_root(x):
        matrix = covariance(x, x)
        values, vectors = np.linalg.eigh(matrix + (ridge * np.trace(matrix) / len(matrix) + 1e-8) * np.eye(len(matrix)))
        return vectors @ np.diag(values**-0.5) @ vectors.T

    return np.linalg.svd(inverse_root(left) @ covariance(left, right) @ inverse_root(right))[1]


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.1])
def test_canonical_correlation_equals_its_definition(ridge):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(20, 4))
    left, right = shared @ rng.normal(size=(4, 4)), shared @ rng.normal(size=(4, 4)) + rng.normal(size=(20, 4))
    rows = rng.random(20) < 0.7
    expected = correlations(left[rows], right[rows], ridge).sum()
    found = canonical_correlation(*(torch.from_numpy(x) for x in (left, right, rows)), ridge)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_canonical_correlation_is_full_for_linear_maps_of_each_other_and_ignores_scale():
    torch.manual_seed(0)
    left = torch.randn(50, 4).double()
    right = left @ torch.randn(4, 4).double() + 3
    rows = torch.ones(50, dtype=torch.bool)
    torch.testing.assert_close(canonical_correlation(left, right, rows, 1e-9).item(), 4.0, rtol=0, atol=1e-3)
    noisy = right + torch.randn(50, 4)
    found = canonical_correlation(1e4 * left, 1e-2 * noisy, rows, 1e-3)
    torch.testing.assert_close(found, canonical_correlation(left, noisy, rows, 1e-3), rtol=1e-3, atol=0)


def test_canonical_loss_is_the_mean_over_pairs_on_rows_that_have_both(make_batch):
    torch.manual_seed(0)
    operator = build("canonical", SIZES, weight=0.5, ridge=1e-2)
    features, present = make_batch(SIZES, 40, absent=True)
    loss = operator(features, present).losses["canonical_correlation"].item()
    weights, rows = arrays(operator, features)
    parts = [np.stack([mlp(row[i], weights, f"projections.{i}") for row in rows]) for i in range(3)]
    total = 0.0
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = (present[:, i] & present[:, j]).numpy()
        assert both.sum() == 10
        total += correlations(parts[i][both], parts[j][both], 1e-2).sum() / 4
    np.testing.assert_allclose(loss, -0.5 * total / 3, rtol=1e-9)


def test_pairs_with_too_few_rows_add_nothing_to_the_canonical_loss(make_batch):
    torch.manual_seed(0)
    operator = build("canonical", SIZES)
    features, present = make_batch(SIZES, 12)
    full = operator(features, present).losses["canonical_correlation"]
    pair = Canonical({"image": 3, "audio": 2}, features=4).double()
    pair.projections[0].load_state_dict(operator.projections[0].state_dict())
    pair.projections[1].load_state_dict(operator.projections[2].state_dict())
    present[4:, 1] = False  # 4 rows for projections of size 4
    loss = operator(features, present).losses["canonical_correlation"]
    alone = pair({key: features[key] for key in ("image", "audio")}, present[:, [0, 2]])
    assert loss != full
    torch.testing.assert_close(loss, alone.losses["canonical_correlation"] / 3)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_canonical_loss_of_a_small_batch_is_zero_with_zero_gradients(rows, make_batch):
    torch.manual_seed(0)
    operator = build("canonical", SIZES).float()
    fused = operator(*make_batch(SIZES, rows, dtype=torch.float32))
    loss = fused.losses["canonical_correlation"]
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in operator.parameters())


def test_descending_the_canonical_loss_raises_the_correlation(make_batch):
    torch.manual_seed(0)
    shared = torch.randn(200, 2)
    noise = {name: torch.randn(200, 6) for name in ("image", "text")}
    features = {
        name: Features(pooled=torch.cat([shared + 0.1 * torch.randn(200, 2), noise[name]], 1)) for name in noise
    }
    present = torch.ones(200, 2, dtype=torch.bool)
    operator = Canonical({"image": 8, "text": 8}, features=2, weight=1.0)
    optimizer = torch.optim.Adam(operator.parameters(), 0.05)
    for _ in range(60):
        loss = operator(features, present).losses["canonical_correlation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < -0.97


def test_divergence_from_the_prior_equals_the_closed_form(make_batch):
    torch.manual_seed(0)
    operator = build("product_of_experts", SIZES, kl_weight=0.25)
    features, present = make_batch(SIZES, 8, absent=True)
    loss = operator(features, present).losses["kl_divergence"].item()
    weights, rows = arrays(operator, features)
    total = []
    for row, here in zip(rows, present, strict=True):
        mean, variance = gaussian_product(row, here.numpy(), weights)
        total.append(0.5 * (variance + mean**2 - 1 - np.log(variance)).sum())
    assert total[0] == 0  # nothing present: the prior itself
    np.testing.assert_allclose(loss, 0.25 * np.mean(total), rtol=1e-10)


def test_product_of_confident_experts_does_not_overflow():
    operator = ProductOfExperts({"image": 1, "text": 1}, features=1)
    with torch.no_grad():
        for expert, mean in zip(operator.experts, (1.0, 3.0), strict=True):
            expert[0].weight.zero_()
            expert[0].bias.copy_(torch.tensor([mean, -500.0]))
    fused = operator({name: Features(pooled=torch.ones(1, 1)) for name in ("image", "text")}, torch.ones(1, 2).bool())
    assert fused.pooled.item() == pytest.approx(2)
    assert torch.isfinite(fused.losses["kl_divergence"])


def test_load_balance_loss_is_the_squared_coefficient_of_variation(make_batch):
    torch.manual_seed(0)
    operator = build("mixture_of_experts", SIZES, balance_weight=0.5)
    features, present = make_batch(SIZES, 8)
    loss = operator(features, present).losses["load_balance"].item()
    weights, rows = arrays(operator, features)
    importance = sum(gates(row, np.ones(3, bool), weights) for row in rows)
    np.testing.assert_allclose(loss, 0.5 * importance.var() / importance.mean() ** 2, rtol=1e-10)


def test_load_imbalance_equals_its_formula_under_absence(make_batch):
    torch.manual_seed(0)
    operator = build("mixture_of_experts", SIZES, balance_weight=1.0)
    features, present = make_batch(SIZES, 10, absent=True)
    loss = operator(features, present).losses["load_balance"].item()
    weights, rows = arrays(operator, features)
    load, fair, count = np.zeros(3), np.zeros(3), 0
    for row, here in zip(rows, present.numpy(), strict=True):
        if here.any():
            load += gates(row, here, weights)
            fair += here / here.sum()
            count += 1
    np.testing.assert_allclose(loss, sum((load - fair) ** 2 / fair) / count, rtol=1e-10)


def test_loss_on_the_routers_scores_is_their_mean_square_over_what_is_present(make_batch):
    torch.manual_seed(0)
    operator = build("mixture_of_experts", SIZES, logit_weight=0.5)
    features, present = make_batch(SIZES, 10, absent=True)
    loss = operator(features, present).losses["router_logits"].item()
    weights, rows = arrays(operator, features)
    squares = []
    for row, here in zip(rows, present.numpy(), strict=True):
        joined = np.concatenate([x if there else np.zeros_like(x) for x, there in zip(row, here, strict=True)])
        squares += list(linear(joined, weights, "router")[here] ** 2)
    np.testing.assert_allclose(loss, 0.5 * np.mean(squares), rtol=1e-10)


def test_a_rare_modality_used_as_much_as_it_can_be_is_balanced():
    present = torch.tensor([[True, True], [True, False], [True, False], [False, False]])
    gates = torch.tensor([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert load_imbalance(gates, present) == 0
    never = torch.tensor([[True, False], [True, False]])
    assert load_imbalance(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), never) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("canonical", ["weight"]),
        ("product_of_experts", ["kl_weight"]),
        ("mixture_of_experts", ["balance_weight", "logit_weight"]),
    ],
)
def test_losses_are_added_in_training_only_and_not_without_a_weight(name, options, make_batch):
    torch.manual_seed(0)
    batch = make_batch(SIZES)
    assert len(build(name, SIZES)(*batch).losses) == len(options)
    assert not build(name, SIZES).eval()(*batch).losses
    for option in options:
        assert len(build(name, SIZES, **{option: 0})(*batch).losses) == len(options) - 1
