import numpy as np
import pytest
import torch

from mmreg_fusion.model_level.averages import Mean
from mmreg_fusion.model_level.votes import Borda, Vote


def scores_of(*parts):
    return {f"m{index}": torch.tensor([part], dtype=torch.float64).log() for index, part in enumerate(parts)}


def fuse(operator, scores, **options):
    outputs = next(iter(scores.values())).shape[1]
    built = operator(dict.fromkeys(scores, 0), num_outputs=outputs, space="log_probabilities", **options)
    return built(scores, torch.ones(1, len(scores), dtype=torch.bool)).scores[0].exp().numpy()


def votes(p):
    """One vote for the greatest of (K,), split among equals."""
    return [(value == max(p)) / sum(value == max(p) for value in p) for value in p]


def ranks(p):
    """For each of (K,) how many are lower, equal ones counting half."""
    return [
        sum(1.0 if other < p[k] else 0.5 if other == p[k] and j != k else 0.0 for j, other in enumerate(p))
        for k in range(len(p))
    ]


@pytest.mark.parametrize(("operator", "ballot"), [(Vote, votes), (Borda, ranks)])
def test_points_and_the_mean_probability_make_up_the_result(distributions, operator, ballot):
    found = operator(distributions.inputs, **distributions.options())(distributions.scores, distributions.present)
    probabilities = distributions.probabilities()
    for row, present in enumerate(distributions.present.numpy()):
        there = np.flatnonzero(present)

        def share(parts):
            masses = np.sum([ballot(p) for p in parts], axis=0) + np.mean(parts, axis=0)
            return masses / masses.sum()

        if distributions.space == "log_probabilities":
            wanted = np.log(share(probabilities[row, there]))
        else:
            shares = [share(probabilities[row, there, label]) for label in range(distributions.num_outputs)]
            wanted = [np.log(on) - np.log(off) for on, off in shares]
        np.testing.assert_allclose(found.scores[row], wanted, atol=1e-12)


def test_majority_wins_against_a_greater_summed_probability():
    parts = scores_of([0.51, 0.49, 0.0], [0.51, 0.49, 0.0], [0.0, 0.98, 0.02])
    assert fuse(Vote, parts).argmax() == 0
    assert fuse(Vote, parts, voting="soft").argmax() == 1


def test_a_tie_of_votes_goes_to_the_greater_summed_probability():
    assert fuse(Vote, scores_of([0.6, 0.4], [0.1, 0.9])).argmax() == 1
    assert fuse(Vote, scores_of([0.9, 0.1], [0.4, 0.6])).argmax() == 0


def test_votes_give_the_shares_of_the_documented_formula():
    np.testing.assert_allclose(fuse(Vote, scores_of([0.6, 0.4], [0.8, 0.2])), [2.7 / 3, 0.3 / 3], atol=1e-12)
    np.testing.assert_allclose(fuse(Borda, scores_of([0.5, 0.3, 0.2])), [2.5 / 4, 1.3 / 4, 0.2 / 4], atol=1e-12)


def test_borda_prefers_what_all_rank_high_to_what_half_rank_first():
    parts = scores_of([0.5, 0.4, 0.06, 0.04], [0.5, 0.4, 0.06, 0.04], [0.1, 0.4, 0.2, 0.3], [0.1, 0.4, 0.2, 0.3])
    assert fuse(Borda, parts).argmax() == 1


def test_soft_voting_is_the_mean(distributions):
    soft = Vote(distributions.inputs, **distributions.options(), voting="soft")
    mean = Mean(distributions.inputs, **distributions.options())
    args = distributions.scores, distributions.present
    assert torch.equal(soft(*args).scores, mean(*args).scores)


@pytest.mark.parametrize("operator", [Vote, Borda])
def test_classes_that_nobody_votes_for_keep_a_finite_score(operator):
    parts = {"a": torch.tensor([[0.0, -1e4, -2e4]]), "b": torch.tensor([[0.0, -1e4, -2e4]])}
    found = operator({"a": 1, "b": 1}, num_outputs=3, space="log_probabilities")(parts, torch.ones(1, 2).bool())
    assert found.scores.isfinite().all()
    assert found.scores.argmax() == 0


@pytest.mark.parametrize("operator", [Vote, Borda])
def test_parts_learn_through_the_mean_probability(distributions, operator):
    scores = {name: value.clone().requires_grad_() for name, value in distributions.scores.items()}
    operator(distributions.inputs, **distributions.options())(
        scores, distributions.present
    ).scores.square().sum().backward()
    for index, value in enumerate(scores.values()):
        assert (value.grad.abs().sum(1) > 0).equal(distributions.present[:, index])
