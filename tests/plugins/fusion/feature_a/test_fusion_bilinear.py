from itertools import combinations

import numpy as np
import pytest
import torch

from mmreg.errors import OptionError


def filled(row, sizes):
    """The vectors, zeros for absent ones."""
    return [np.zeros(size) if vector is None else vector for vector, size in zip(row, sizes, strict=True)]


def counted_pairs(row):
    """The pairs of which at least one is there."""
    return [(i, j) for i, j in combinations(range(len(row)), 2) if row[i] is not None or row[j] is not None]


def sum_over_pairs(row, product, alone):
    """What the family's operators are made of: `product(i, j)` summed, `alone` for one modality."""
    if len(row) == 1:
        return alone
    return sum((product(i, j) for i, j in counted_pairs(row)), np.zeros_like(alone))


def normalized(values):
    roots = values / np.sqrt(np.abs(values) + 1e-4)
    return roots / np.sqrt(np.mean(roots**2) + 1e-6)


def appended(vector):
    return np.append(vector, 1.0)


def full_bilinear(kit, state, vectors):
    """x_i^T W x_j over pairs in loops, plus the linear terms."""
    result = kit.affine(state, "linear", np.concatenate(vectors))
    for pair, (i, j) in enumerate(combinations(range(len(vectors)), 2)):
        for k, weight in enumerate(state[f"pairs.weights.{pair}"]):
            for b, right in enumerate(vectors[j]):
                for a, left in enumerate(vectors[i]):
                    result[k] += left * weight[b, a] * right
    return result


def test_bilinear_is_a_full_map_of_every_pair_and_of_each_modality(kit):
    kit.check("bilinear", lambda state, row, sizes: full_bilinear(kit, state, filled(row, sizes)), features=4)


def test_bilinear_projects_before(kit):
    def reference(state, row, sizes):
        projected = [
            np.zeros(3) if vector is None else kit.affine(state, f"projections.maps.{index}", vector)
            for index, vector in enumerate(row)
        ]
        return full_bilinear(kit, state, projected)

    kit.check("bilinear", reference, features=4, project=3)


@pytest.mark.parametrize("name", ["bilinear", "multiplicative"])
def test_a_full_bilinear_map_that_is_too_large_is_refused_before_allocating(kit, name):
    with pytest.raises(OptionError, match=r"268,435,456 numbers, more than the limit of 134,217,728.*mlb"):
        kit.build(name, [2048, 1024], features=128)


@pytest.mark.parametrize("features", [16, 7, 1])
def test_mcb_is_the_count_sketch_of_every_outer_product(kit, features):
    def reference(state, row, sizes):
        vectors = [np.append(1.0, vector) for vector in filled(row, sizes)]
        places = [np.append(0, state[f"places_{index}"]) for index in range(len(row))]
        signs = [np.append(1.0, state[f"signs_{index}"]) for index in range(len(row))]

        def sketch_of_outer_product(i, j):
            sketch = np.zeros(features)
            for a in range(len(vectors[i])):
                for b in range(len(vectors[j])):
                    place = (places[i][a] + places[j][b]) % features
                    sketch[place] += signs[i][a] * signs[j][b] * vectors[i][a] * vectors[j][b]
            return sketch

        alone = np.zeros(features)
        for place, sign, value in zip(places[0], signs[0], vectors[0], strict=True):
            alone[place] += sign * value
        return normalized(sum_over_pairs(row, sketch_of_outer_product, alone))

    kit.check("mcb", reference, features=features)


def test_mcb_has_a_vector_of_root_mean_square_one(kit):
    fused = kit.fuse(kit.build("mcb", [30, 40], features=64), kit.batch([30, 40], 5))
    assert torch.allclose(fused.square().mean(1), torch.ones(5, dtype=torch.float64), atol=1e-5)


def test_mcb_sketches_keep_inner_products_of_outer_products(kit):
    # Pham and Pagh 2013: unbiased, with a variance that falls with the sketch's size.
    (x, y), (u, v) = kit.batch([6, 5], 1, seed=1), kit.batch([6, 5], 1, seed=2)
    estimates = []
    for seed in range(300):
        fusion = kit.build("mcb", [6, 5], seed=seed, features=64)
        spectra = [
            (1 + torch.fft.rfft(fusion.sketch(0, a))) * (1 + torch.fft.rfft(fusion.sketch(1, b)))
            for a, b in ((x, y), (u, v))
        ]
        first, second = (torch.fft.irfft(spectrum, n=64) for spectrum in spectra)
        estimates.append(float((first * second).sum()))
    wanted = float((x @ u.T + 1) * (y @ v.T + 1))
    assert abs(np.mean(estimates) - wanted) < 4 * np.std(estimates) / np.sqrt(len(estimates))


def test_mcb_of_a_modality_that_is_there_alone_is_that_of_one_modality(kit):
    fusion, single = kit.build("mcb", [6, 1, 4], features=16), kit.build("mcb", [6], features=16)
    vectors = kit.batch([6, 1, 4], 5)
    present = torch.tensor([True, False, False]).expand(5, 3)
    state = {key: value for key, value in fusion.state_dict().items() if key.endswith("_0")}
    single.load_state_dict(state)
    assert torch.allclose(kit.fuse(fusion, vectors, present), kit.fuse(single, vectors[:1]), rtol=1e-2, atol=1e-3)


def test_mcb_hashes_are_buffers_that_the_state_keeps(kit):
    first, second = (kit.build("mcb", [20, 20], seed=seed, features=32) for seed in (0, 1))
    vectors = kit.batch([20, 20], 3)
    assert not list(first.parameters())
    assert not torch.equal(kit.fuse(first, vectors), kit.fuse(second, vectors))
    second.load_state_dict(first.state_dict())
    assert torch.equal(kit.fuse(first, vectors), kit.fuse(second, vectors))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_mcb_of_large_half_precision_features_is_that_of_full_precision(kit, dtype, autocast):
    fusion = kit.build("mcb", [64, 48], features=100)
    vectors = [vector.to(dtype) for vector in kit.batch([64, 48], 4, scale=1e4)]
    wanted = kit.fuse(fusion, [vector.double() for vector in vectors])
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        found = kit.fuse(fusion.float() if autocast else fusion.to(dtype), vectors)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), wanted, atol=2e-2)


def factors(kit, state, row, sizes, prefix="factors.maps"):
    """W x + b of each modality; b alone where it is absent."""
    return [kit.affine(state, f"{prefix}.{index}", vector) for index, vector in enumerate(filled(row, sizes))]


def test_mlb_maps_products_of_squashed_factors(kit):
    def reference(state, row, sizes):
        squashed = [np.tanh(factor) for factor in factors(kit, state, row, sizes)]
        return kit.affine(state, "output", sum_over_pairs(row, lambda i, j: squashed[i] * squashed[j], squashed[0]))

    kit.check("mlb", reference, features=4, rank=5)


def test_mfb_sums_products_of_factors_in_groups_and_normalizes(kit):
    def reference(state, row, sizes):
        parts = factors(kit, state, row, sizes)
        products = sum_over_pairs(row, lambda i, j: parts[i] * parts[j], parts[0])
        return normalized(np.array([products[3 * k : 3 * k + 3].sum() for k in range(4)]))

    kit.check("mfb", reference, features=4, rank=3)


def test_mfb_is_a_bilinear_form_with_a_matrix_of_rank_k_for_each_feature(kit):
    fusion = kit.build("mfb", [3, 2], features=4, rank=2).eval()
    state = kit.weights(fusion)
    left, right = (
        np.concatenate([state[f"factors.maps.{i}.weight"], state[f"factors.maps.{i}.bias"][:, None]], 1) for i in (0, 1)
    )
    x, y = (vector[0].numpy() for vector in kit.batch([3, 2], 1))
    forms = []
    for k in range(4):
        matrix = sum(np.outer(left[2 * k + r], right[2 * k + r]) for r in range(2))
        forms.append(appended(x) @ matrix @ appended(y))
    found = kit.fuse(fusion, kit.batch([3, 2], 1)).detach().numpy()[0]
    np.testing.assert_allclose(found, normalized(np.array(forms)), rtol=1e-9)


def test_mfh_cascades_the_products_of_each_pair(kit):
    features, rank, order = 4, 2, 3

    def reference(state, row, sizes):
        parts = [part.reshape(order, features, rank) for part in factors(kit, state, row, sizes)]
        result = []
        for block in range(order):

            def cascade(i, j, block=block):
                expanded = np.ones((features, rank))
                for step in range(block + 1):
                    expanded = expanded * parts[i][step] * (parts[j][step] if j is not None else 1)
                return expanded

            result.append(normalized(sum_over_pairs(row, cascade, cascade(0, None)).sum(1)))
        return np.concatenate(result)

    kit.check("mfh", reference, features=features, rank=rank, order=order)


def test_mfh_of_one_block_is_mfb(kit):
    vectors = kit.batch([3, 2, 4], 5)
    first = kit.build("mfh", [3, 2, 4], features=4, rank=3, order=1).eval()
    second = kit.build("mfb", [3, 2, 4], features=4, rank=3).eval()
    assert torch.equal(kit.fuse(first, vectors), kit.fuse(second, vectors))


def test_mutan_is_its_tucker_core(kit):
    width, rank = 5, 2

    def reference(state, row, sizes):
        reduced = [
            np.zeros(width) if vector is None else np.tanh(kit.affine(state, f"projections.maps.{index}", vector))
            for index, vector in enumerate(row)
        ]
        sides = []  # [M_ri; m_ri], (rank, width, width + 1)
        for index in range(len(row)):
            weight, bias = state[f"factors.maps.{index}.weight"], state[f"factors.maps.{index}.bias"]
            sides.append(np.concatenate([weight, bias[:, None]], 1).reshape(rank, width, width + 1))

        def through_the_core(i, j):
            core = np.einsum("rka,rkb->abk", sides[i], sides[j])
            return np.einsum("abk,a,b->k", core, appended(reduced[i]), appended(reduced[j]))

        alone = np.einsum("rka,a->k", sides[0], appended(reduced[0]))
        return kit.affine(state, "output", sum_over_pairs(row, through_the_core, alone) / np.sqrt(rank))

    kit.check("mutan", reference, features=4, width=width, rank=rank)


def test_block_is_its_block_diagonal_tucker_core(kit):
    width, chunks, rank, size = 6, 2, 4, 3

    def reference(state, row, sizes):
        # With a one appended to every chunk, a core of (width + chunks, width + chunks, width) with blocks on its
        # superdiagonal and zeros elsewhere.
        reduced = []
        for index, vector in enumerate(row):
            projected = np.zeros(width) if vector is None else kit.affine(state, f"projections.maps.{index}", vector)
            reduced.append(np.concatenate([appended(chunk) for chunk in projected.reshape(chunks, size)]))
        sides = []  # (chunks, rank, size, size + 1)
        for index in range(len(row)):
            weight = state["weight"][index].transpose(0, 2, 1).reshape(chunks, rank, size, size)
            bias = state["bias"][index].reshape(chunks, rank, size, 1)
            sides.append(np.concatenate([weight, bias], -1))

        def through_the_core(i, j):
            core = np.zeros((width + chunks, width + chunks, width))
            for c in range(chunks):
                inner, outer = slice(c * (size + 1), (c + 1) * (size + 1)), slice(c * size, (c + 1) * size)
                core[inner, inner, outer] = np.einsum("rka,rkb->abk", sides[i][c], sides[j][c])
            return np.einsum("abk,a,b->k", core, reduced[i], reduced[j])

        alone = np.einsum("crka,ca->ck", sides[0], reduced[0].reshape(chunks, size + 1)).ravel()
        z = sum_over_pairs(row, through_the_core, alone).reshape(chunks, size)
        return kit.affine(state, "output", np.concatenate([normalized(chunk) for chunk in z]))

    kit.check("block", reference, features=4, width=width, chunks=chunks, rank=rank)


def test_block_refuses_a_width_that_its_chunks_do_not_divide(kit):
    with pytest.raises(OptionError, match="width 10 cannot be cut into 4 chunks"):
        kit.build("block", [3, 2], width=10, chunks=4)
