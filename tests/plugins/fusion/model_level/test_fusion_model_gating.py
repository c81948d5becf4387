import numpy as np
import pytest
import torch

from mmreg.errors import OptionError
from mmreg_fusion.model_level.averages import Mean
from mmreg_fusion.model_level.gating import Gated


def trained(batch):
    operator = Gated(batch.inputs, **batch.options()).double()
    torch.manual_seed(1)
    for parameter in operator.parameters():
        torch.nn.init.normal_(parameter)
    return operator


@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_weights_are_a_softmax_of_linear_gates_over_the_parts_that_are_there(batch_of, space):
    batch = batch_of(space)
    operator = trained(batch)
    found = operator(batch.scores, batch.present, batch.features).scores.detach()
    weights = {int(key): value.detach().numpy() for key, value in operator.weights.items()}
    for row in range(len(found)):
        there = [m for m in range(3) if batch.present[row, m]]
        gates = {}
        for m in there:
            feature = batch.features[f"part.{m}"][row].numpy()
            linear = sum(w * f for w, f in zip(weights[m], feature, strict=True)) if m in weights else 0.0
            gates[m] = np.exp(linear + operator.bias[m].item())
        share = {m: gates[m] / sum(gates.values()) for m in there}
        if space == "values":
            wanted = sum(share[m] * batch.scores[f"part.{m}"][row].numpy() for m in there)
        else:
            mixed = sum(share[m] * batch.probabilities()[row, m] for m in there)
            wanted = np.log(mixed) if space == "log_probabilities" else np.log(mixed[:, 0] / mixed[:, 1])
        np.testing.assert_allclose(found[row], wanted, atol=1e-12)


def test_it_starts_as_the_mean(distributions):
    gated = Gated(distributions.inputs, **distributions.options())
    mean = Mean(distributions.inputs, **distributions.options())
    found = gated(distributions.scores, distributions.present, distributions.features).scores
    assert torch.equal(found, mean(distributions.scores, distributions.present).scores)


def test_a_part_without_features_has_a_learned_scalar_only(batch_of):
    batch = batch_of()
    operator = Gated(batch.inputs, **batch.options())
    assert {name: tuple(value.shape) for name, value in operator.named_parameters()} == {
        "bias": (3,),
        "weights.0": (3,),
        "weights.2": (5,),
    }
    del batch.features["part.1"]
    assert operator(batch.scores, batch.present, batch.features).scores.isfinite().all()


def test_missing_features_are_named(batch_of):
    batch = batch_of()
    with pytest.raises(OptionError, match=r"part\.0"):
        Gated(batch.inputs, **batch.options())(batch.scores, batch.present)


@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_gradients_agree_with_finite_differences(batch_of, space):
    batch = batch_of(space, rows=3)
    operator = trained(batch)
    names = list(batch.scores)

    def run(bias, first, *values):
        parameters = {"bias": bias, "weights.0": first, "weights.2": operator.weights["2"]}
        args = dict(zip(names, values[:3], strict=True)), batch.present, dict(zip(names, values[3:], strict=True))
        return torch.func.functional_call(operator, parameters, args).scores

    values = [operator.bias, operator.weights["0"], *batch.scores.values(), *batch.features.values()]
    assert torch.autograd.gradcheck(run, [value.detach().requires_grad_() for value in values])


def test_it_learns_which_model_to_trust_in_which_row():
    torch.manual_seed(0)
    targets, which = torch.randint(3, (400,)), torch.rand(400) < 0.5
    right = torch.nn.functional.one_hot(targets, 3) * 4.0
    wrong = torch.nn.functional.one_hot((targets + 1) % 3, 3) * 4.0
    scores = {
        "a": torch.where(which[:, None], right, wrong).log_softmax(-1),
        "b": torch.where(which[:, None], wrong, right).log_softmax(-1),
    }
    features = {"a": which[:, None].float(), "b": torch.randn(400, 2)}
    operator = Gated({"a": 1, "b": 2}, num_outputs=3, space="log_probabilities")
    present = torch.ones(400, 2, dtype=torch.bool)
    optimiser = torch.optim.Adam(operator.parameters(), lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(operator(scores, present, features).scores, targets).backward()
        optimiser.step()
    assert (operator(scores, present, features).scores.argmax(-1) == targets).float().mean() > 0.98
    assert all((parameter != 0).any() for parameter in operator.parameters())
