import numpy as np
import pytest
import torch

from mmreg_fusion.model_level.averages import Max, Mean, Product, Weighted


def as_scores(masses, space):
    """Positive masses (K,) or (K, 2) to log-probabilities or log-odds."""
    if space == "log_odds":
        return np.log(masses[:, 0]) - np.log(masses[:, 1])
    return np.log(masses / masses.sum())


def by_row(batch, rule):
    """Apply a rule on the (n, K[, 2]) probabilities and the indices of the parts that a row has."""
    probabilities, present = batch.probabilities(), batch.present.numpy()
    rows = []
    for row in range(len(present)):
        there = np.flatnonzero(present[row])
        rows.append(as_scores(rule(probabilities[row, there], there), batch.space))
    return np.stack(rows)


def test_mean_is_the_mean_probability_over_the_parts_that_are_there(distributions):
    found = Mean(distributions.inputs, **distributions.options())(distributions.scores, distributions.present).scores
    np.testing.assert_allclose(found, by_row(distributions, lambda p, _: sum(p) / len(p)), atol=1e-12)


def test_product_multiplies_probabilities_and_normalises(distributions):
    found = Product(distributions.inputs, **distributions.options())(distributions.scores, distributions.present).scores
    np.testing.assert_allclose(found, by_row(distributions, lambda p, _: np.prod(p, axis=0)), atol=1e-12)


def test_product_of_labels_adds_log_odds(batch_of):
    batch = batch_of("log_odds", absent=0.0)
    found = Product(batch.inputs, **batch.options())(batch.scores, batch.present).scores
    torch.testing.assert_close(found, sum(batch.scores.values()), rtol=0, atol=1e-12)


def test_max_takes_each_outcomes_greatest_probability_and_normalises(distributions):
    found = Max(distributions.inputs, **distributions.options())(distributions.scores, distributions.present).scores
    np.testing.assert_allclose(found, by_row(distributions, lambda p, _: p.max(0)), atol=1e-12)


def test_weighted_renormalises_its_weights_over_the_parts_that_are_there(distributions):
    operator = Weighted(distributions.inputs, **distributions.options()).double()
    operator.logits.data = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    weights = np.exp(operator.logits.detach().numpy())

    def rule(probabilities, there):
        return sum(w * p for w, p in zip(weights[there], probabilities, strict=True)) / weights[there].sum()

    found = operator(distributions.scores, distributions.present).scores.detach()
    np.testing.assert_allclose(found, by_row(distributions, rule), atol=1e-12)


def test_weighted_starts_as_the_mean(distributions):
    mean = Mean(distributions.inputs, **distributions.options())(distributions.scores, distributions.present).scores
    operator = Weighted(distributions.inputs, **distributions.options())
    assert torch.equal(operator(distributions.scores, distributions.present).scores, mean)


@pytest.mark.parametrize("weights", [None, [0.3, -1.2, 0.8]])
def test_values_are_averaged(batch_of, weights):
    batch = batch_of("values")
    operator = (Mean if weights is None else Weighted)(batch.inputs, **batch.options()).double()
    if weights is not None:
        operator.logits.data = torch.tensor(weights, dtype=torch.float64)
    found = operator(batch.scores, batch.present).scores.detach()
    share = np.exp(weights or [0.0] * 3)
    for row in range(len(found)):
        there = np.flatnonzero(batch.present[row].numpy())
        values = np.stack([value[row].numpy() for value in batch.scores.values()])
        wanted = sum(share[m] * values[m] for m in there) / share[there].sum()
        np.testing.assert_allclose(found[row], wanted, atol=1e-12)


@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_mean_of_equal_models_is_each_of_them(batch_of, space):
    batch = batch_of(space)
    one = batch.scores["part.0"]
    found = Mean(batch.inputs, **batch.options())(dict.fromkeys(batch.inputs, one), batch.present).scores
    torch.testing.assert_close(found, one, rtol=0, atol=1e-12)


def test_product_of_one_model_is_itself(batch_of):
    for space in ("log_probabilities", "log_odds"):
        batch = batch_of(space, parts=1)
        found = Product(batch.inputs, **batch.options())(batch.scores, batch.present).scores
        torch.testing.assert_close(found, batch.scores["part.0"], rtol=0, atol=1e-12)


def test_weighted_learns_to_trust_the_better_model():
    torch.manual_seed(0)
    targets = torch.randint(3, (300,))
    good = (3 * torch.nn.functional.one_hot(targets, 3) + torch.randn(300, 3)).log_softmax(-1)
    bad = torch.randn(300, 3).log_softmax(-1)
    operator = Weighted({"good": 2, "bad": 2}, num_outputs=3, space="log_probabilities")
    optimiser = torch.optim.SGD(operator.parameters(), lr=5.0)
    for _ in range(50):
        optimiser.zero_grad()
        fused = operator({"good": good, "bad": bad}, torch.ones(300, 2, dtype=torch.bool)).scores
        torch.nn.functional.nll_loss(fused, targets).backward()
        optimiser.step()
    assert operator.logits.softmax(0)[0] > 0.9
