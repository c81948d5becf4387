import math
from functools import reduce

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from mmreg_fusion.model_level.evidential import Evidential, divergence_from_uniform


def build(parts=2, outputs=3, **options):
    inputs = {f"m{index}": 4 for index in range(parts)}
    return Evidential(inputs, num_outputs=outputs, space="log_probabilities", **options)


def logits_of(parts=2, outputs=3, rows=5, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, outputs, generator=generator, dtype=torch.float64) * scale for _ in range(parts)]


def fuse(operator, logits, present=None):
    scores = {f"m{index}": operator.part_scores(value) for index, value in enumerate(logits)}
    if present is None:
        present = torch.ones(len(logits[0]), len(logits), dtype=torch.bool)
    return operator(scores, present)


def opinion(logits):
    """Belief masses (K,) and uncertainty of one row."""
    evidence = np.log1p(np.exp(logits))
    strength = sum(evidence) + len(evidence)
    return evidence / strength, len(evidence) / strength


def dempster(first, second):
    """The reduced combination rule, belief by belief, with the conflict C of all unequal pairs."""
    (b1, u1), (b2, u2) = first, second
    conflict = sum(b1[i] * b2[j] for i in range(len(b1)) for j in range(len(b2)) if i != j)
    beliefs = np.array([b1[k] * b2[k] + b1[k] * u2 + b2[k] * u1 for k in range(len(b1))])
    return beliefs / (1 - conflict), u1 * u2 / (1 - conflict)


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_it_combines_belief_masses_by_dempsters_rule(parts):
    logits = logits_of(parts)
    found = fuse(build(parts), logits)
    for row in range(5):
        beliefs, uncertainty = reduce(dempster, [opinion(value[row].numpy()) for value in logits])
        assert sum(beliefs) + uncertainty == pytest.approx(1, abs=1e-12)
        # The expected probability of a Dirichlet: belief and an equal share of the uncertainty.
        np.testing.assert_allclose(found.scores[row].exp(), beliefs + uncertainty / 3, atol=1e-12)
        assert found.extras["uncertainty"][row].item() == pytest.approx(uncertainty, abs=1e-12)


def test_it_combines_only_the_parts_that_are_there():
    logits = logits_of(3)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    found = fuse(build(3), logits, present)
    for row in range(4):
        there = [opinion(logits[m][row].numpy()) for m in range(3) if present[row, m]]
        beliefs, uncertainty = reduce(dempster, there)
        np.testing.assert_allclose(found.scores[row].exp(), beliefs + uncertainty / 3, atol=1e-12)
    assert found.extras["uncertainty"][4].item() == pytest.approx(1)
    np.testing.assert_allclose(found.scores[4].exp(), [1 / 3] * 3, atol=1e-12)


def test_the_rule_is_associative():
    first, second, third = (opinion(value[0].numpy()) for value in logits_of(3))
    left, right = dempster(dempster(first, second), third), dempster(first, dempster(second, third))
    np.testing.assert_allclose(left[0], right[0], atol=1e-14)
    assert left[1] == pytest.approx(right[1], abs=1e-14)


def test_combining_in_steps_equals_combining_at_once():
    logits = logits_of(3)
    at_once = fuse(build(3), logits)
    pair = fuse(build(2), logits[:2])
    # A Dirichlet from the pair's expected probabilities and uncertainty: alpha = p S, S = K / u.
    log_alpha = pair.scores + (3 / pair.extras["uncertainty"]).log()[:, None]
    operator = build(2)
    in_steps = operator({"m0": log_alpha, "m1": operator.part_scores(logits[2])}, torch.ones(5, 2).bool())
    torch.testing.assert_close(in_steps.scores, at_once.scores, rtol=0, atol=1e-12)


def test_part_scores_are_the_logarithm_of_alpha_and_normalise_to_the_expected_probability():
    logits = logits_of(1)[0]
    alpha = np.log1p(np.exp(logits.numpy())) + 1
    found = build().part_scores(logits)
    np.testing.assert_allclose(found, np.log(alpha), atol=1e-12)
    np.testing.assert_allclose(found.softmax(-1), alpha / alpha.sum(-1, keepdims=True), atol=1e-12)


def test_agreement_lowers_the_uncertainty_and_a_vacuous_part_changes_nothing():
    certain, vacuous = torch.tensor([[4.0, 0.0, 0.0]]), torch.full((1, 3), -1e4)
    alone = fuse(build(1), [certain])
    agreed = fuse(build(2), [certain, certain])
    with_vacuous = fuse(build(2), [certain, vacuous])
    assert agreed.extras["uncertainty"] < alone.extras["uncertainty"]
    torch.testing.assert_close(with_vacuous.scores, alone.scores)
    torch.testing.assert_close(with_vacuous.extras["uncertainty"], alone.extras["uncertainty"])


def test_loss_is_the_expected_cross_entropy_under_the_dirichlet():
    logits, targets = logits_of(1, rows=4, scale=1.5)[0], torch.tensor([0, 1, 2, 1])
    found = build(kl_weight=0.0).part_loss(logits, targets, 1.0)
    alpha = torch.nn.functional.softplus(logits) + 1
    wanted = [torch.digamma(a.sum()) - torch.digamma(a[y]) for a, y in zip(alpha, targets, strict=True)]
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-12)
    torch.manual_seed(0)
    drawn = Dirichlet(alpha).sample((200_000,))
    sampled = torch.stack([-drawn[:, row, y].log().mean() for row, y in enumerate(targets)])
    torch.testing.assert_close(found, sampled, rtol=0, atol=0.01)


def test_loss_adds_the_divergence_of_the_wrong_classes_evidence():
    logits, targets = logits_of(1, rows=4)[0], torch.tensor([0, 1, 2, 1])
    plain = build(kl_weight=0.0).part_loss(logits, targets, 1.0)
    found = build(kl_weight=0.7).part_loss(logits, targets, 1.0)
    alpha = torch.nn.functional.softplus(logits) + 1
    for row, target in enumerate(targets):
        alpha[row, target] = 1.0
    wanted = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))
    torch.testing.assert_close(found - plain, 0.7 * wanted, rtol=0, atol=1e-10)


def test_the_divergence_is_annealed():
    logits, targets = logits_of(1)[0], torch.tensor([0, 1, 2, 1, 0])
    operator = build(annealing=0.4, kl_weight=2.0)
    start, quarter, full, end = (operator.part_loss(logits, targets, p) for p in (0.0, 0.1, 0.4, 1.0))
    assert torch.equal(start, build(kl_weight=0.0).part_loss(logits, targets, 0.0))
    torch.testing.assert_close(quarter - start, (full - start) / 4)
    assert torch.equal(full, end)


def test_divergence_from_uniform_is_torchs():
    alpha = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20 + 0.1
    wanted = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))
    torch.testing.assert_close(divergence_from_uniform(alpha), wanted, rtol=0, atol=1e-10)
    assert divergence_from_uniform(torch.ones(1, 5)).item() == pytest.approx(0, abs=1e-6)


def test_gradients_agree_with_finite_differences():
    operator, logits = build(3), logits_of(3)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)

    def run(*values):
        fused = fuse(operator, values, present)
        return fused.scores, fused.extras["uncertainty"]

    assert torch.autograd.gradcheck(run, [value.requires_grad_() for value in logits])
    targets = torch.tensor([0, 1, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda value: operator.part_loss(value, targets, 0.3), logits[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite_forward_and_backward(dtype, size):
    operator = build(12)
    logits = [torch.tensor([[size, 0.0, -size]], dtype=dtype, requires_grad=True) for _ in range(12)]
    found = fuse(operator, logits)
    assert found.scores.dtype == torch.float32
    assert found.scores.isfinite().all()
    assert found.extras["uncertainty"].isfinite().all()
    loss = operator.part_loss(logits[0], torch.tensor([1]), 1.0)
    assert loss.dtype == torch.float32
    (loss.sum() + found.scores.sum()).backward()
    assert loss.isfinite().all()
    assert all(value.grad.isfinite().all() for value in logits)


def test_uncertainty_stays_within_zero_and_one():
    found = fuse(build(3, outputs=5), logits_of(3, 5, rows=200, scale=10))
    assert ((found.extras["uncertainty"] > 0) & (found.extras["uncertainty"] <= 1)).all()
    assert found.extras["uncertainty"].shape == (200,)


def test_training_by_the_part_loss_learns_and_is_unsure_of_what_it_never_saw():
    torch.manual_seed(0)
    targets = torch.randint(3, (300,))
    centres = torch.tensor([[4.0, 0.0], [-2.0, 3.5], [-2.0, -3.5]])
    inputs = centres[targets] + torch.randn(300, 2)
    model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    operator = build(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(200):
        optimiser.zero_grad()
        operator.part_loss(model(inputs), targets, step / 200).mean().backward()
        optimiser.step()
    fused = fuse(operator, [model(inputs)])
    assert (fused.scores.argmax(-1) == targets).float().mean() > 0.95
    between = fuse(operator, [model(torch.zeros(1, 2))]).extras["uncertainty"]
    assert between.item() > fused.extras["uncertainty"].mean().item() * 1.2


def test_log_gamma_of_the_number_of_classes_is_in_the_divergence():
    alpha = torch.tensor([[2.0, 1.0]])
    # Beta(2, 1) has density 2 x: KL = integral of 2 x log(2 x) over [0, 1] = log 2 - 1/2.
    assert divergence_from_uniform(alpha).item() == pytest.approx(math.log(2) - 0.5, abs=1e-6)
