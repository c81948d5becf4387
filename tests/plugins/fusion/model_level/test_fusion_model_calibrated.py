import numpy as np
import pytest
import torch

from mmreg.errors import TrainingError
from mmreg_fusion.model_level.averages import Product
from mmreg_fusion.model_level.calibrated import Calibrated, best_temperature


def overconfident(temperature, rows=40_000, outputs=4, seed=0):
    """Log-probabilities that are too sharp by a temperature, and classes drawn from the true ones."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(rows, outputs, generator=generator, dtype=torch.float64).mul(1.5).log_softmax(-1)
    targets = torch.multinomial(true.exp(), 1, generator=generator).squeeze(1)
    return (true * temperature).log_softmax(-1), targets


def everywhere(rows, parts=1):
    return torch.ones(rows, parts, dtype=torch.bool)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_recovers_a_known_temperature(temperature):
    scores, targets = overconfident(temperature)
    operator = Calibrated({"a": 4}, num_outputs=4, space="log_probabilities")
    operator.fit({"a": scores}, everywhere(len(scores)), targets)
    assert operator.temperature.item() == pytest.approx(temperature, rel=0.03)


def test_fit_recovers_the_temperature_of_labels():
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(20_000, 3, generator=generator, dtype=torch.float64) * 1.5
    labels = torch.bernoulli(true.sigmoid(), generator=generator)
    operator = Calibrated({"a": 4}, num_outputs=3, space="log_odds")
    operator.fit({"a": true * 2.5}, everywhere(len(true)), labels)
    assert operator.temperature.item() == pytest.approx(2.5, rel=0.03)


def test_the_temperature_is_where_the_likelihood_is_greatest():
    scores, targets = overconfident(2.0, rows=500)
    truth = torch.nn.functional.one_hot(targets, 4).double()
    found = best_temperature(scores, truth)

    def loss(temperature):
        return torch.nn.functional.nll_loss((scores / temperature).log_softmax(-1), targets).item()

    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 400))
    assert loss(found) <= min(map(loss, grid)) + 1e-15
    variable = torch.tensor(found, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.nll_loss((scores / variable).log_softmax(-1), targets).backward()
    assert variable.grad.item() == pytest.approx(0, abs=1e-10)


def test_it_is_the_product_of_the_sharpened_models(distributions):
    operator = Calibrated(distributions.inputs, **distributions.options()).double()
    temperatures = [0.5, 2.0, 3.5]
    operator.temperature.copy_(torch.tensor(temperatures))
    found = operator(distributions.scores, distributions.present).scores
    for row, present in enumerate(distributions.present):
        there = [m for m in range(3) if present[m]]
        wanted = sum(distributions.scores[f"part.{m}"][row] / temperatures[m] for m in there)
        if distributions.space == "log_probabilities":
            wanted = wanted.log_softmax(-1)
        torch.testing.assert_close(found[row], wanted, rtol=0, atol=1e-12)


def test_before_the_fit_it_is_the_product(distributions):
    args = distributions.scores, distributions.present
    found = Calibrated(distributions.inputs, **distributions.options())(*args).scores
    assert torch.equal(found, Product(distributions.inputs, **distributions.options())(*args).scores)


def test_fit_leaves_out_absent_rows_and_parts_that_are_never_there():
    scores, targets = overconfident(3.0, rows=600)
    present = everywhere(600, 3)
    present[300:, 0] = False
    present[:, 2] = False
    garbage = scores.clone()
    garbage[300:] = float("nan")
    never = torch.full_like(scores, float("inf"))
    operator = Calibrated({"a": 1, "b": 1, "c": 1}, num_outputs=4, space="log_probabilities")
    operator.fit({"a": garbage, "b": scores, "c": never}, present, targets)
    half = best_temperature(scores[:300], torch.nn.functional.one_hot(targets[:300], 4).double())
    whole = best_temperature(scores, torch.nn.functional.one_hot(targets, 4).double())
    assert operator.temperature.tolist() == pytest.approx([half, whole, 1.0], rel=1e-6)


def test_a_model_that_is_always_right_ends_at_the_lower_bound():
    targets = torch.arange(30) % 3
    scores = (torch.nn.functional.one_hot(targets, 3) * 2.0).log_softmax(-1)
    operator = Calibrated({"a": 1}, num_outputs=3, space="log_probabilities")
    operator.fit({"a": scores}, everywhere(30), targets)
    assert operator.temperature.item() == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize("broken", [False, True])
def test_a_fit_without_usable_rows_says_so(broken):
    operator = Calibrated({"a": 1}, num_outputs=2, space="log_probabilities")
    scores = torch.full((3, 2), float("nan") if broken else -0.7)
    with pytest.raises(TrainingError, match="not numbers" if broken else "found none in 3 rows"):
        operator.fit({"a": scores}, torch.full((3, 1), broken), torch.tensor([0, 1, 0]))


def test_fit_works_in_inference_mode():
    scores, targets = overconfident(2.0, rows=500)
    operators = [Calibrated({"a": 1}, num_outputs=4, space="log_probabilities") for _ in range(2)]
    operators[0].fit({"a": scores}, everywhere(500), targets)
    with torch.inference_mode():
        operators[1].fit({"a": scores.clone()}, everywhere(500), targets)
    assert torch.equal(operators[0].temperature, operators[1].temperature)
