"""What every model-level operator keeps to: absence, order, spaces, precision, state."""

import copy
from itertools import product

import pytest
import torch

from mmreg.contract.fusion import ModelFusion
from mmreg.errors import OptionError
from mmreg_fusion.model_level.averages import Max, Mean, Product, Weighted
from mmreg_fusion.model_level.calibrated import Calibrated
from mmreg_fusion.model_level.evidential import Evidential
from mmreg_fusion.model_level.gating import Gated
from mmreg_fusion.model_level.stacking import Stacking
from mmreg_fusion.model_level.votes import Borda, Vote
from mmreg_fusion.plugin import MODEL

VARIANTS = {
    "mean": (Mean, {}),
    "weighted": (Weighted, {}),
    "product": (Product, {}),
    "max": (Max, {}),
    "vote": (Vote, {}),
    "soft vote": (Vote, {"voting": "soft"}),
    "borda": (Borda, {}),
    "stacking": (Stacking, {}),
    "stacking mlp": (Stacking, {"hidden": 4}),
    "gated": (Gated, {}),
    "evidential": (Evidential, {}),
    "calibrated": (Calibrated, {}),
}
CASES = [
    pytest.param(operator, options, space, id=f"{name}-{space}")
    for name, (operator, options) in VARIANTS.items()
    for space in sorted(operator.spaces)
]
every = pytest.mark.parametrize(("operator", "options", "space"), CASES)


FITTED = {}
"""What was fitted, by what it was fitted on: many tests begin with the same, and a fit takes longer than they do."""


def built(operator, options, batch):
    """The operator with random parameters, fitted if it is to be."""
    tensors = [*batch.scores.values(), batch.present]
    content = tuple((str(each.dtype), tuple(each.shape), each.numpy().tobytes()) for each in tensors)
    key = (operator, str(options), batch.space, batch.num_outputs, tuple(batch.scores), content)
    if key not in FITTED:
        FITTED[key] = fitted(operator, options, batch)
    return copy.deepcopy(FITTED[key])


def fitted(operator, options, batch):
    torch.manual_seed(3)
    dtype = next(iter(batch.scores.values())).dtype
    dtype = dtype if dtype == torch.float64 else torch.float32
    module = operator(batch.inputs, **batch.options(), **options).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    if operator.fitted:
        rows = len(batch.present)
        if batch.space == "log_probabilities":
            targets = torch.arange(rows) % batch.num_outputs
        elif batch.space == "log_odds":
            targets = (torch.arange(rows * batch.num_outputs) % 3 == 0).view(rows, -1).float()
        else:
            targets = torch.randn(rows, batch.num_outputs)
        module.fit(batch.scores, batch.present, targets)
    return module


def as_parts(operator, batch):
    """Scores as the parts would give them: log alpha for the evidential operator."""
    if operator is Evidential:
        batch.scores = {name: value.sub(value.amin()).add(0.1).log1p() for name, value in batch.scores.items()}
    return batch


def outputs_of(fused):
    return [fused.scores, *fused.extras.values()]


@every
def test_absent_parts_have_no_influence_forward_or_backward(batch_of, operator, options, space):
    patterns = torch.tensor(list(product([True, False], repeat=3)))
    batch = as_parts(operator, batch_of(space, rows=len(patterns), dtype=torch.float32))
    module = built(operator, options, batch)
    results = []
    for garbage in (0.0, float("nan"), float("inf"), -float("inf"), 1e30):
        module.zero_grad()
        scores, features = {}, {}
        for index, name in enumerate(batch.inputs):
            there = patterns[:, index, None]
            scores[name] = torch.where(there, batch.scores[name], garbage).requires_grad_()
            features[name] = torch.where(there, batch.features[name], garbage).requires_grad_()
        found = outputs_of(module(scores, patterns, features))
        sum((value * torch.arange(1.0, value.numel() + 1).view_as(value)).sum() for value in found).backward()
        gradients = [value.grad for value in (*scores.values(), *module.parameters()) if value.grad is not None]
        if operator.uses_features:
            gradients += [value.grad for value in features.values() if value.numel()]
        for index, value in enumerate(scores.values()):
            assert not value.grad[~patterns[:, index]].any()
        results.append((found, gradients))
    for found, gradients in results:
        assert all(value.isfinite().all() for value in (*found, *gradients))
        for value, first in zip(found + gradients, results[0][0] + results[0][1], strict=True):
            assert torch.equal(value, first)


# The regression of stacking has a coefficient for the indicator of every part that it was built for.
@pytest.mark.parametrize(("operator", "options", "space"), [case for case in CASES if case.values[0] is not Stacking])
def test_a_part_that_is_absent_everywhere_might_as_well_not_be_there(batch_of, operator, options, space):
    batch = as_parts(operator, batch_of(space, absent=0.0))
    module = built(operator, options, batch)
    batch.present[:, 2] = False
    found = module(batch.scores, batch.present, batch.features).scores
    fewer = {name: size for name, size in batch.inputs.items() if name != "part.2"}
    smaller = operator(fewer, **batch.options(), **options).double()
    state = module.state_dict()
    smaller.load_state_dict(
        {name: state[name] if name.startswith("weights.") else state[name][:2] for name in smaller.state_dict()}
    )
    wanted = smaller(
        {name: batch.scores[name] for name in fewer},
        batch.present[:, :2],
        {name: batch.features[name] for name in fewer},
    ).scores
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@every
def test_the_order_of_the_parts_does_not_matter(batch_of, operator, options, space):
    batch = as_parts(operator, batch_of(space, rows=40))
    module = built(operator, options, batch)
    order = [2, 0, 1]
    names = list(batch.inputs)
    permuted = copy.copy(batch)
    permuted.inputs = {names[index]: batch.inputs[names[index]] for index in order}
    permuted.scores = {name: batch.scores[name] for name in permuted.inputs}
    permuted.present = batch.present[:, order]
    # With no hidden layer a fit finds the same optimum; what is drawn at random is moved along by hand.
    other = built(operator, options, permuted)
    for name in ("logits", "bias"):
        if operator in (Weighted, Gated) and hasattr(module, name):
            getattr(other, name).data = getattr(module, name).data[order]
    if operator is Gated:
        for new, old in enumerate(order):
            if str(old) in module.weights:
                other.weights[str(new)].data = module.weights[str(old)].data
    if options.get("hidden"):
        columns = [index * 4 + k for index in order for k in range(4)] + [12 + index for index in order]
        other.load_state_dict(module.state_dict())
        other.hidden_weight.copy_(module.hidden_weight[:, columns])
    found = module(batch.scores, batch.present, batch.features).scores
    wanted = other(permuted.scores, permuted.present, batch.features).scores
    # Only a fit ends elsewhere than by rounding.
    torch.testing.assert_close(wanted, found, rtol=0, atol=1e-4 if operator is Stacking else 1e-10)


@every
@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 6])
def test_it_takes_any_number_of_parts_and_rows(batch_of, operator, options, space, parts, rows):
    batch = as_parts(operator, batch_of(space, parts=parts, rows=rows, dtype=torch.float32))
    module = built(operator, options, batch).train()
    found = module(batch.scores, batch.present, batch.features)
    assert found.scores.shape == (rows, 4)
    assert all(value.shape == (rows,) for value in found.extras.values())
    assert all(value.isfinite().all() for value in outputs_of(found))


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_it_gives_finite_float32_distributions(batch_of, operator, options, space, dtype, size):
    batch = as_parts(operator, batch_of(space, rows=30, dtype=torch.float32))
    module = built(operator, options, batch)
    if operator is Evidential:
        scores = {name: (value * size).to(dtype).float().log1p() for name, value in batch.scores.items()}
    else:
        scores = {name: (value * size).clamp(-6e4, 6e4).to(dtype) for name, value in batch.scores.items()}
        if space == "log_probabilities":
            scores = {name: value.log_softmax(-1) for name, value in scores.items()}
    scores = {name: value.requires_grad_() for name, value in scores.items()}
    features = {name: value.to(dtype) for name, value in batch.features.items()}
    found = module(scores, batch.present, features).scores
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    if space == "log_probabilities":
        assert found.logsumexp(-1).abs().max() < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(scores, batch.present, features).scores, found)
    found.sum().backward()
    assert all(value.grad.isfinite().all() for value in scores.values())


@pytest.mark.parametrize("name", [name for name, (operator, _) in VARIANTS.items() if operator is not Evidential])
def test_a_log_probability_of_minus_infinity_leads_to_no_nan(name):
    operator, options = VARIANTS[name]
    module = operator({"a": 1, "b": 1}, num_outputs=3, space="log_probabilities", **options)
    scores = {name: torch.tensor([[0.0, -float("inf"), -float("inf")]], requires_grad=True) for name in "ab"}
    found = module(scores, torch.ones(1, 2).bool(), {name: torch.ones(1, 1) for name in "ab"}).scores
    assert found.isfinite().all()
    found[0, 0].backward()
    assert all(value.grad.isfinite().all() for value in scores.values())


@every
def test_every_parameter_is_trained_and_what_is_fitted_is_not(batch_of, operator, options, space):
    batch = as_parts(operator, batch_of(space))
    module = operator(batch.inputs, **batch.options(), **options).double()
    fused = module(batch.scores, batch.present, batch.features).scores
    if fused.requires_grad:
        fused.square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())
    assert not (operator.fitted and list(module.parameters()))
    assert bool(list(module.parameters())) == (operator in (Weighted, Gated))


@every
def test_gradients_agree_with_finite_differences(batch_of, operator, options, space):
    batch = as_parts(operator, batch_of(space, rows=3))
    module = built(operator, options, batch)

    def run(*values):
        return module(dict(zip(batch.scores, values, strict=True)), batch.present, batch.features).scores

    assert torch.autograd.gradcheck(run, [value.clone().requires_grad_() for value in batch.scores.values()])


@every
def test_its_state_restores_it(batch_of, operator, options, space):
    batch = as_parts(operator, batch_of(space))
    module = built(operator, options, batch)
    other = operator(batch.inputs, **batch.options(), **options).double()
    other.load_state_dict(module.state_dict())
    args = batch.scores, batch.present, batch.features
    assert torch.equal(other(*args).scores, module(*args).scores)


@pytest.mark.parametrize("name", [name for name, (operator, _) in VARIANTS.items() if not operator.fitted])
def test_it_compiles_without_graph_breaks(batch_of, name):
    operator, options = VARIANTS[name]
    batch = as_parts(operator, batch_of(dtype=torch.float32))
    module = built(operator, options, batch)
    args = batch.scores, batch.present, batch.features
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*args).scores, module(*args).scores)


@pytest.mark.parametrize(("operator", "options"), VARIANTS.values(), ids=VARIANTS)
def test_a_space_without_meaning_is_refused_with_what_would_fit(operator, options):
    for space in ("log_probabilities", "log_odds", "values"):
        if space in operator.spaces:
            operator({"a": 2}, num_outputs=3, space=space, **options)
            continue
        with pytest.raises(OptionError, match=f"{operator.__name__} combines .*, found {space}; use mean, weighted"):
            operator({"a": 2}, num_outputs=3, space=space, **options)


def test_no_part_at_all_is_refused():
    with pytest.raises(OptionError, match="found none"):
        Mean({}, num_outputs=3, space="values")


def test_values_are_combined_where_that_has_a_meaning():
    assert {operator for operator, _ in VARIANTS.values() if "values" in operator.spaces} == {
        Mean,
        Weighted,
        Gated,
        Stacking,
    }


def test_every_declared_operator_is_tested_here():
    declared = {cls for operators in MODEL.values() for cls, _ in operators.values()}
    assert declared == {operator.__name__ for operator, _ in VARIANTS.values()}
    assert all(issubclass(operator, ModelFusion) and operator.__doc__ for operator, _ in VARIANTS.values())
