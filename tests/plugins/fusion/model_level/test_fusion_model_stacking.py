import warnings

import numpy as np
import pytest
import torch

from mmreg.errors import TrainingError
from mmreg_fusion.model_level.averages import Mean, Product
from mmreg_fusion.model_level.stacking import Stacking

sklearn_linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is the reference")


def noisy(space, parts=3, outputs=4, rows=300, seed=0, absent=0.2):
    """Parts of unequal quality, float64, and targets."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    present = torch.rand((rows, parts), generator=generator) >= absent
    present[:, 0] |= ~present.any(1)
    if space == "log_probabilities":
        targets = torch.randint(outputs, (rows,), generator=generator)
        signal = torch.nn.functional.one_hot(targets, outputs).double() * 2
    elif space == "log_odds":
        targets = (draw(rows, outputs) > 0.3).float()
        signal = targets.double() * 2 - 1
    else:
        targets = (draw(rows, outputs) * torch.tensor([1e-3, 1.0, 50.0, 1e3][:outputs]) + 5).float()
        signal = targets.double()
    scale = signal.std(0) if space == "values" else 1.0
    scores = {f"m{m}": signal + draw(rows, outputs) * (m + 1) * 0.6 * scale for m in range(parts)}
    if space == "log_probabilities":
        scores = {name: value.log_softmax(-1) for name, value in scores.items()}
    return scores, present, targets


def design(scores, present, centred=False):
    """The documented inputs, built by hand: scores or zeros, then the indicators."""
    columns = []
    for m, value in enumerate(scores.values()):
        clipped = value.clamp(-30, 30).numpy()
        if centred:
            clipped = clipped - clipped.mean(1, keepdims=True)
        columns.append(np.where(present[:, [m]], clipped, 0.0))
    return np.concatenate([*columns, present.double().numpy()], 1)


def copies(present):
    """The documented copies of the rows: (row, the parts that the copy has, its weight), built by hand."""
    found = []
    for row, has in enumerate(present.tolist()):
        patterns = [has]
        if sum(has) > 1:
            patterns += [[m == only for m in range(len(has))] for only, there in enumerate(has) if there]
        found += [(row, pattern, 1 / len(patterns)) for pattern in patterns]
    rows, patterns, weights = zip(*found, strict=True)
    return list(rows), torch.tensor(patterns), np.array(weights)


def reference_fit(model, scores, present, targets, centred=False):
    """scikit-learn's fit on the copies."""
    rows, patterns, weights = copies(present)
    inputs = design({name: value[rows] for name, value in scores.items()}, patterns, centred)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(inputs, targets[rows].numpy(), sample_weight=weights)


def build(scores, space, **options):
    outputs = next(iter(scores.values())).shape[1]
    return Stacking(dict.fromkeys(scores, 4), num_outputs=outputs, space=space, **options).double()


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("outputs", [2, 3, 6])
def test_classes_are_scikit_learns_multinomial_regression(c, outputs):
    scores, present, targets = noisy("log_probabilities", outputs=outputs)
    operator = build(scores, "log_probabilities", l2=1 / c)
    operator.fit(scores, present, targets)
    reference = sklearn_linear.LogisticRegression(C=c, tol=1e-9, max_iter=500, solver="newton-cg")
    reference_fit(reference, scores, present, targets, centred=True)
    wanted = reference.predict_log_proba(design(scores, present, centred=True))
    np.testing.assert_allclose(operator(scores, present).scores, wanted, atol=1e-4)
    if outputs > 2:
        np.testing.assert_allclose(operator.weight, reference.coef_, atol=1e-4)


def test_labels_are_scikit_learns_logistic_regressions():
    scores, present, targets = noisy("log_odds")
    operator = build(scores, "log_odds", l2=0.5)
    operator.fit(scores, present, targets)
    for label in range(4):
        reference = sklearn_linear.LogisticRegression(C=2.0, tol=1e-9, max_iter=500, solver="newton-cg")
        reference_fit(reference, scores, present, targets[:, label])
        wanted = reference.decision_function(design(scores, present))
        np.testing.assert_allclose(operator(scores, present).scores[:, label], wanted, atol=1e-4)


def test_values_are_scikit_learns_ridge_in_units_of_the_targets():
    scores, present, targets = noisy("values")
    operator = build(scores, "values", l2=3.0)
    operator.fit(scores, present, targets)
    mean, deviation = targets.double().mean(0), targets.double().std(0, correction=0)
    units = {name: (value - mean) / deviation for name, value in scores.items()}
    reference = sklearn_linear.Ridge(alpha=3.0, solver="cholesky")
    reference_fit(reference, units, present, (targets.double() - mean) / deviation)
    wanted = reference.predict(design(units, present)) * deviation.numpy() + mean.numpy()
    found = operator(scores, present).scores
    np.testing.assert_allclose((found - mean) / deviation, (torch.tensor(wanted) - mean) / deviation, atol=1e-5)


@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_models_that_agree_wholly_are_no_trouble(space):
    scores, present, targets = noisy(space, absent=0.0)
    equal = dict.fromkeys(scores, scores["m0"])
    operator = build(equal, space, l2=1.0)
    operator.fit(equal, present, targets)
    assert operator(equal, present).scores.isfinite().all()
    assert torch.allclose(operator.weight[:, :4], operator.weight[:, 4:8], atol=1e-4)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_it_beats_the_fixed_rule_on_new_rows(space, hidden):
    scores, present, targets = noisy(space, rows=1200)
    torch.manual_seed(0)
    operator = build(scores, space, hidden=hidden)

    def loss(rows):
        found = operator({name: value[rows] for name, value in scores.items()}, present[rows]).scores
        if space == "log_probabilities":
            return torch.nn.functional.nll_loss(found, targets[rows])
        if space == "log_odds":
            return torch.nn.functional.binary_cross_entropy_with_logits(found, targets[rows].double())
        return ((found - targets[rows]) / targets.double().std(0)).square().mean()

    before = loss(slice(600, None))
    first = slice(0, 600)
    operator.fit({name: value[first] for name, value in scores.items()}, present[first], targets[first])
    assert loss(slice(600, None)) < before * 0.97


@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_fitted_on_whole_rows_it_still_knows_each_part_alone(space):
    scores, present, targets = noisy(space, rows=1200, absent=0.0)
    first, rest = slice(0, 600), slice(600, None)
    operator = build(scores, space)
    operator.fit({name: value[first] for name, value in scores.items()}, present[first], targets[first])
    new = {name: value[rest] for name, value in scores.items()}

    def error(found):
        if space == "log_probabilities":
            return (found.argmax(1) != targets[rest]).double().mean()
        if space == "log_odds":
            return ((found > 0) != targets[rest].bool()).double().mean()
        return ((found - targets[rest]) / targets.double().std(0)).abs().mean()

    for m, value in enumerate(new.values()):
        only = torch.zeros_like(present[rest])
        only[:, m] = True
        assert error(operator(new, only).scores) < error(value) + 0.03


def test_a_hidden_layer_learns_what_a_linear_model_cannot():
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    targets = ((signs[:, 0] > 0) ^ (signs[:, 1] > 0)).long()
    scores = {f"m{m}": torch.stack([signs[:, m], -signs[:, m]], 1).log_softmax(-1) for m in range(2)}
    present = torch.ones(400, 2, dtype=torch.bool)
    torch.manual_seed(0)
    found = {}
    for hidden in (0, 8):
        operator = build(scores, "log_probabilities", hidden=hidden, l2=0.1)
        operator.fit(scores, present, targets)
        found[hidden] = (operator(scores, present).scores.argmax(1) == targets).double().mean().item()
    assert found[0] < 0.7
    assert found[8] > 0.95


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_before_the_fit_it_is_the_product_or_the_mean(batch_of, space, hidden):
    batch = batch_of(space)
    fixed = Mean if space == "values" else Product
    found = Stacking(batch.inputs, **batch.options(), hidden=hidden)(batch.scores, batch.present).scores
    assert torch.equal(found, fixed(batch.inputs, **batch.options())(batch.scores, batch.present).scores)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("space", ["log_probabilities", "log_odds", "values"])
def test_the_fit_does_not_see_what_absent_parts_hold_nor_rows_without_any(space, hidden):
    scores, present, targets = noisy(space, rows=40)
    states = []
    for garbage in (float("nan"), float("inf"), 7.0):
        dirty = {n: torch.where(present[:, [m]], value, garbage) for m, (n, value) in enumerate(scores.items())}
        extra = {name: torch.cat([value, value[:9]]) for name, value in dirty.items()}
        torch.manual_seed(0)
        operator = build(scores, space, hidden=hidden)
        with_empty = torch.cat([present, torch.zeros(9, 3, dtype=torch.bool)])
        if garbage == 7.0:
            operator.fit(dirty, present, targets)
        elif space == "values":
            operator.fit(extra, with_empty, torch.cat([targets, targets[:9] * 0 + 1e6]))
        else:
            operator.fit(extra, with_empty, torch.cat([targets, 1 - targets[:9].clamp(max=1)]))
        states.append(operator.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, state[name]) for name, value in states[0].items())


def test_the_fit_gives_the_same_whatever_the_threads_and_whatever_came_before():
    scores, present, targets = noisy("log_probabilities", rows=60)
    operator = build(scores, "log_probabilities")
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            operator.fit(scores, present, targets)
            results.append(operator(scores, present).scores)
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fit_works_where_gradients_are_off(mode):
    scores, present, targets = noisy("log_probabilities")
    outside, inside = build(scores, "log_probabilities"), build(scores, "log_probabilities")
    outside.fit(scores, present, targets)
    with mode():
        inside.fit({name: value.clone() for name, value in scores.items()}, present, targets)
    assert torch.equal(outside.weight, inside.weight)


def test_fit_takes_scores_that_are_part_of_a_graph_and_leaves_no_trace():
    scores, present, targets = noisy("log_probabilities")
    attached = {name: value.clone().requires_grad_() for name, value in scores.items()}
    operator = build(scores, "log_probabilities")
    operator.fit({name: value * 1 for name, value in attached.items()}, present, targets)
    assert all(value.grad is None for value in attached.values())
    assert not list(operator.parameters())
    assert not any(value.requires_grad for value in operator.buffers())


def test_a_score_of_minus_infinity_is_clipped():
    scores, present, targets = noisy("log_probabilities")
    scores["m1"][::7] = torch.tensor([0.0, *[-float("inf")] * 3], dtype=torch.float64)
    operator = build(scores, "log_probabilities")
    operator.fit(scores, present, targets)
    assert operator(scores, present).scores.isfinite().all()


def test_an_infinite_value_is_refused():
    scores, present, targets = noisy("values")
    scores["m1"][present[:, 1].nonzero()[0]] = float("inf")
    with pytest.raises(TrainingError, match="m1 gave scores that are not numbers or are infinite"):
        build(scores, "values").fit(scores, present, targets)


@pytest.mark.parametrize("broken", [False, True])
def test_a_fit_without_usable_rows_says_so(broken):
    scores, present, targets = noisy("log_probabilities", rows=9)
    if broken:
        scores["m0"][present[:, 0].nonzero()[0]] = float("nan")
    else:
        present = torch.zeros_like(present)
    with pytest.raises(TrainingError, match="m0 gave scores that are not numbers" if broken else "none in 9 rows"):
        build(scores, "log_probabilities").fit(scores, present, targets)


def test_a_class_that_no_held_out_row_has_stays_finite_and_unlikely():
    scores, present, targets = noisy("log_probabilities")
    operator = build(scores, "log_probabilities")
    operator.fit(scores, present, targets.clamp(max=2))
    found = operator(scores, present).scores
    assert found.isfinite().all()
    assert not (found.argmax(1) == 3).any()
