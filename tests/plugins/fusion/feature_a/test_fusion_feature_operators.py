"""What all operators of the elementary, gated, bilinear and tensor families have in common."""

import itertools
import re
import warnings

import pytest
import torch

from mmreg import registry
from mmreg.contract.signals import Features

SIZES = [3, 1, 4, 2, 3]


def counts(name):
    return range(2 if name == "multiplicative" else 1, 6)


def roomy(options):
    """The options with four times the widths, so that no ReLU happens to be zero everywhere."""
    widths = ("project", "features", "hidden", "width")
    wider = {
        key: [4 * size for size in value] if isinstance(value, list) else 4 * value
        for key, value in options.items()
        if key in widths
    }
    return {**options, **wider}


def with_garbage(vectors, present, garbage):
    return [
        torch.where(there[:, None], vector, garbage) for vector, there in zip(vectors, present.unbind(1), strict=True)
    ]


def gradients(fusion, vectors, present, seed=0):
    """The fused vectors, and the gradients of a loss with respect to parameters and vectors."""
    torch.manual_seed(seed)
    vectors = [vector.clone().requires_grad_() for vector in vectors]
    features = {f"m{index}": Features(vector) for index, vector in enumerate(vectors)}
    fused = fusion(features, present).pooled
    loss = (fused * torch.linspace(1, 2, fused.shape[1], dtype=fused.dtype)).square().sum()
    return fused.detach(), torch.autograd.grad(loss, [*fusion.parameters(), *vectors])


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_an_absent_modality_has_no_influence_whatever_its_values(kit, case, garbage):
    name, options = case
    for count in counts(name):
        fusion = kit.build(name, SIZES[:count], **options).train()
        present = kit.patterns(count)
        vectors = kit.batch(SIZES[:count], len(present))
        clean, clean_gradients = gradients(fusion, with_garbage(vectors, present, 0.0), present)
        dirty, dirty_gradients = gradients(fusion, with_garbage(vectors, present, garbage), present)
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, dirty)
        for first, second in zip(clean_gradients, dirty_gradients, strict=True):
            assert torch.isfinite(first).all()
            assert torch.equal(first, second)
        for gradient, there in zip(dirty_gradients[-count:], present.unbind(1), strict=True):
            assert not gradient[~there].any()


def test_a_modality_that_is_there_alone_still_tells(kit, case):
    name, options = case
    for count in counts(name):
        fusion = kit.build(name, SIZES[:count], **roomy(options)).eval()
        for index in range(count):
            present = (torch.arange(count) == index).expand(4, -1)
            fused = kit.fuse(fusion, kit.batch(SIZES[:count], 4), present)
            assert (fused.std(0) > 1e-3).any()


def test_gradients_are_those_of_finite_differences(kit, case):
    name, options = case
    sizes = [2, 1, 3]
    fusion = kit.build(name, sizes, **{**options, "dropout": 0.0} if "dropout" in options else options)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    parameters = dict(fusion.named_parameters())

    def function(*values):
        features = {f"m{index}": Features(vector) for index, vector in enumerate(values[:3])}
        state = dict(zip(parameters, values[3:], strict=True))
        return torch.func.functional_call(fusion, state, (features, present)).pooled

    # Away from the start, where signs of biases may cancel exactly, in the steepest point of a signed root.
    shifted = [parameter.detach() + 0.1 * torch.randn_like(parameter) for parameter in parameters.values()]
    values = [*kit.batch(sizes, 3), *shifted]
    assert torch.autograd.gradcheck(function, [value.clone().requires_grad_() for value in values], fast_mode=True)


def test_every_parameter_is_trained(kit, case):
    name, options = case
    for count in counts(name):
        fusion = kit.build(name, SIZES[:count], **roomy(options))
        vectors = kit.batch(SIZES[:count], 16)
        _, found = gradients(fusion, vectors, torch.ones(16, count, dtype=torch.bool))
        for (parameter, _), gradient in zip(fusion.named_parameters(), found, strict=False):
            assert torch.isfinite(gradient).all(), parameter
            assert gradient.any(), parameter


def blocks(order, sizes):
    """The columns of a concatenation whose blocks are put in this order."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return torch.tensor([starts[index] + k for index in order for k in range(sizes[index])])


def products(order, sizes):
    """The places of a flattened outer product whose modalities are put in this order."""
    full = torch.arange(int(torch.tensor(sizes).add(1).prod())).view([size + 1 for size in sizes])
    return full.permute(order).flatten()


def permuted_state(name, options, state, order, sizes):
    """The state of the same operator on modalities in another order."""
    pairs = list(itertools.combinations(range(len(order)), 2))
    widths = [options["project"]] * len(order) if options.get("project") else sizes
    result = {}
    for key, value in state.items():
        if found := re.fullmatch(r"(.*maps)\.(\d+)\.(.*)", key):
            value = state[f"{found[1]}.{order[int(found[2])]}.{found[3]}"]
        elif found := re.fullmatch(r"(places|signs)_(\d+)", key):
            value = state[f"{found[1]}_{order[int(found[2])]}"]
        elif found := re.fullmatch(r"pairs\.weights\.(\d+)", key):
            left, right = (order[index] for index in pairs[int(found[1])])
            value = state[f"pairs.weights.{pairs.index((min(left, right), max(left, right)))}"]
            value = value.transpose(1, 2) if left > right else value
        elif key in ("linear.weight", "layers.0.0.weight"):
            value = value[:, blocks(order, widths)]
        elif name == "tensor" and key == "output.weight":
            value = value[:, products(order, widths)]
        elif name == "gmu" and key.startswith("gates"):
            value = value[blocks(order, [4] * len(order))]
            value = value[:, blocks(order, sizes)] if key == "gates.weight" else value
        elif name == "highway":
            columns = blocks(order, [2] * len(order))
            value = value[columns][:, columns] if key.endswith("weight") else value[columns]
        elif name == "block" and key in ("weight", "bias"):
            value = value[order]
        result[key] = value
    return result


def test_a_permutation_of_the_modalities_changes_nothing(kit, case):
    name, options = case
    sizes, order = SIZES[:4], [2, 0, 3, 1]
    first = kit.build(name, sizes, **options).eval()
    if first.ordered:
        assert name == "film"
        return
    second = kit.build(name, [sizes[index] for index in order], seed=1, **options).eval()
    second.load_state_dict(permuted_state(name, options, first.state_dict(), order, sizes))
    present, vectors = kit.patterns(4), kit.batch(sizes, 16)
    wanted = kit.fuse(first, vectors, present)
    found = kit.fuse(second, [vectors[index] for index in order], present[:, order])
    if name == "concat" and not options:
        wanted = wanted[:, blocks(order, sizes)]
    if name == "highway":
        wanted = wanted[:, blocks(order, [2] * 4)]
    if name == "tensor" and not options:
        wanted = wanted[:, products(order, sizes)]
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_it_compiles_as_one_graph(kit, case):
    name, options = case
    fusion = kit.build(name, SIZES[:3], **options).eval()
    present, vectors = kit.patterns(3), kit.batch(SIZES[:3], 8)
    torch.compiler.reset()
    compiled = torch.compile(fusion, fullgraph=True, backend="eager")
    for first, second in zip(gradients(fusion, vectors, present), gradients(compiled, vectors, present), strict=True):
        for wanted, found in zip(first, second, strict=True):
            assert torch.allclose(wanted, found, rtol=1e-12, atol=0, equal_nan=True)


def test_its_state_gives_the_same_operator(kit, case):
    name, options = case
    first, second = (kit.build(name, SIZES[:3], seed=seed, **options).eval() for seed in (0, 1))
    second.load_state_dict(first.state_dict(), strict=True)
    vectors = kit.batch(SIZES[:3], 4)
    assert torch.equal(kit.fuse(first, vectors), kit.fuse(second, vectors))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_features_stay_finite_in_reduced_precision(kit, case, dtype):
    name, options = case
    for count in counts(name):
        fusion = kit.build(name, SIZES[:count], **options)
        vectors = [vector.to(dtype) for vector in kit.batch(SIZES[:count], 8, scale=1e4)]
        with torch.autocast("cpu", dtype=dtype):
            mixed = kit.fuse(fusion.float(), [vector.float() for vector in vectors])
        assert torch.isfinite(mixed).all()
        pure = kit.fuse(fusion.to(dtype), vectors)
        assert pure.dtype == dtype
        assert torch.isfinite(pure).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_close_to_full(kit, case, dtype):
    name, options = case
    fusion = kit.build(name, SIZES[:3], **options).eval()
    vectors = [vector.to(dtype) for vector in kit.batch(SIZES[:3], 16)]
    wanted = kit.fuse(fusion, [vector.double() for vector in vectors])
    with torch.autocast("cpu", dtype=dtype):
        found = kit.fuse(fusion.float(), [vector.float() for vector in vectors])
    error = (found.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert error < (0.005 if dtype == torch.float16 else 0.03)


def test_one_row_in_training_mode_and_sizes_from_1_to_257(kit, case):
    name, options = case
    sizes = [257, 1] if name == "tensor" else [257, 1, 64]
    fusion = kit.build(name, sizes, **options).train()
    fused, found = gradients(fusion, kit.batch(sizes, 1), torch.ones(1, len(sizes), dtype=torch.bool))
    assert fused.shape == (1, fusion.out_features)
    assert all(torch.isfinite(gradient).all() for gradient in found)


def test_it_starts_with_values_of_the_order_of_its_inputs(kit, case):
    name, options = case
    for count in counts(name):
        fusion = kit.build(name, SIZES[:count], **roomy(options)).eval()
        assert 0.02 < kit.fuse(fusion, kit.batch(SIZES[:count], 64)).std(0).mean() < 4


def test_every_option_is_described_and_has_a_default(case, kit):
    name, _ = case
    rows = registry.describe("fusion", name)["options"]
    assert [row["name"] for row in rows if not row["description"] or row["required"]] == []
    with warnings.catch_warnings(action="error"):
        assert kit.build(name, [2, 3]).out_features > 0
