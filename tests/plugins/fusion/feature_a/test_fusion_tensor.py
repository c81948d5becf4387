from functools import reduce
from itertools import combinations

import numpy as np
import pytest
import torch

from mmreg.errors import OptionError


def filled(row, sizes):
    return [np.zeros(size) if vector is None else vector for vector, size in zip(row, sizes, strict=True)]


def outer(vectors):
    return reduce(np.multiply.outer, vectors)


def test_tensor_is_the_outer_product_with_ones_first(kit):
    def reference(state, row, sizes):
        return outer([np.append(1.0, vector) for vector in filled(row, sizes)]).ravel()

    kit.check("tensor", reference)


def test_tensor_projects_before_and_maps_after(kit):
    def reference(state, row, sizes):
        projected = [
            np.zeros(2) if vector is None else kit.affine(state, f"projections.maps.{index}", vector)
            for index, vector in enumerate(row)
        ]
        return kit.affine(state, "output", outer([np.append(1.0, vector) for vector in projected]).ravel())

    kit.check("tensor", reference, project=2, features=4)


def test_tensor_of_one_modality_is_a_one_and_the_modality(kit):
    vectors = kit.batch([5], 4)
    ones = torch.ones(4, 1, dtype=torch.float64)
    assert torch.equal(kit.fuse(kit.build("tensor", [5]), vectors), torch.cat([ones, vectors[0]], 1))


@pytest.mark.parametrize(("sizes", "options"), [([10_000] * 4, {}), ([80, 78, 78], {}), ([8] * 9, {"project": 5})])
def test_tensor_refuses_a_product_over_its_limit_before_allocating(kit, sizes, options):
    with pytest.raises(OptionError, match=r"more than the limit of 500,000.*low_rank"):
        kit.build("tensor", sizes, **options)


def test_tensor_takes_a_product_just_under_its_limit(kit):
    assert kit.build("tensor", [78, 78, 78]).out_features == 79**3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tensor_maps_large_products_in_full_precision_under_autocast(kit, dtype):
    fusion = kit.build("tensor", [3, 2], features=4)
    with torch.no_grad():
        fusion.output.weight.mul_(1e-8)
    vectors = kit.batch([3, 2], 5, scale=1e4)
    wanted = kit.fuse(fusion, vectors)
    with torch.autocast("cpu", dtype=dtype):
        found = kit.fuse(fusion.float(), [vector.float() for vector in vectors])
    assert torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-5)


def low_rank_tensor(state, features, rank, count):
    """The full tensor (D_1 + 1, ..., D_n + 1, features) of the factors [W_ri, b_ri] and the weights of the terms."""
    sides = [
        np.concatenate(
            [state[f"factors.maps.{index}.weight"], state[f"factors.maps.{index}.bias"][:, None]], 1
        ).reshape(rank, features, -1)
        for index in range(count)
    ]
    slices = [
        sum(state["weights"][r] * outer([side[r, k] for side in sides]) for r in range(rank)) for k in range(features)
    ]
    return np.stack(slices, -1)


def test_low_rank_is_the_full_tensor_of_its_factors(kit):
    def reference(state, row, sizes):
        full = low_rank_tensor(state, 4, 3, len(row))
        product = outer([np.append(vector, 1.0) for vector in filled(row, sizes)])
        return np.tensordot(product, full, axes=len(row)) + state["bias"]

    kit.check("low_rank", reference, features=4, rank=3)


def test_low_rank_of_enough_terms_is_any_map_of_the_tensor_product(kit):
    # Term (i, j) picks entry i of [1; x] and entry j of [1; y], and the third factor is the tensor's row for them.
    sizes, features = [3, 2, 4], 5
    full = kit.build("tensor", sizes, features=features)
    core = full.output.weight.detach().view(features, 4, 3, 5)
    low_rank = kit.build("low_rank", sizes, features=features, rank=12)
    with torch.no_grad():
        low_rank.weights.fill_(1)
        low_rank.bias.copy_(full.output.bias)
        for r in range(12):
            i, j = divmod(r, 3)
            rows = torch.eye(4)[i].expand(features, -1), torch.eye(3)[j].expand(features, -1), core[:, i, j]
            for layer, row in zip(low_rank.factors.maps, rows, strict=True):
                layer.bias[r * features : (r + 1) * features] = row[:, 0]
                layer.weight[r * features : (r + 1) * features] = row[:, 1:]
    present = kit.patterns(3)
    vectors = kit.batch(sizes, 8)
    assert torch.allclose(kit.fuse(low_rank, vectors, present), kit.fuse(full, vectors, present), atol=1e-12)


@pytest.mark.parametrize("form", ["matrix", "vector", "scalar"])
def test_multiplicative_maps_each_modality_with_what_the_others_determine(kit, form):
    def reference(state, row, sizes):
        vectors = filled(row, sizes)
        result = kit.affine(state, "linear", np.concatenate(vectors))
        if form == "matrix":
            for pair, (i, j) in enumerate(combinations(range(len(row)), 2)):
                result += np.einsum("kji,i,j->k", state[f"pairs.weights.{pair}"], vectors[i], vectors[j])
            return result
        for i, x in enumerate(vectors):
            for j, z in enumerate(vectors):
                if i != j:
                    generated = state[f"scales.maps.{j}.weight"] @ z
                    matrix = np.diag(generated) if form == "vector" else np.eye(4) * generated
                    result += matrix @ state[f"values.maps.{i}.weight"] @ x
        return result

    kit.check("multiplicative", reference, range(2, 6), features=4, form=form)


def test_multiplicative_needs_two_modalities_and_says_so(kit):
    assert type(kit.build("multiplicative", [2, 2], features=2)).min_inputs == 2
