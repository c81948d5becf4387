import numpy as np
import pytest
import torch


def projections(kit, state, row, prefix="projections.maps"):
    """(index, projected) of the modalities that are there."""
    return [
        (index, kit.affine(state, f"{prefix}.{index}", vector))
        for index, vector in enumerate(row)
        if vector is not None
    ]


def relu(values):
    return np.maximum(values, 0)


def softmax(values):
    exponentials = np.exp(np.array(values) - np.max(values))
    return exponentials / exponentials.sum()


def test_concat_puts_features_side_by_side_with_zeros_for_absent_ones(kit):
    def reference(state, row, sizes):
        return np.concatenate([np.zeros(size) if x is None else x for x, size in zip(row, sizes, strict=True)])

    kit.check("concat", reference)


def test_concat_projects_and_applies_its_hidden_layers(kit):
    def reference(state, row, sizes):
        joined = np.zeros((len(row), 3))
        for index, projected in projections(kit, state, row):
            joined[index] = projected
        hidden = relu(kit.affine(state, "layers.0.0", joined.ravel()))
        return relu(kit.affine(state, "layers.0.3", hidden))

    kit.check("concat", reference, project=3, hidden=[5, 4])


def test_concat_of_one_modality_is_the_modality(kit):
    vectors = kit.batch([5], 4)
    assert torch.equal(kit.fuse(kit.build("concat", [5]), vectors), vectors[0])


@pytest.mark.parametrize("hidden", [[], [6]])
def test_concat_drops_out_in_training_only(kit, hidden):
    fusion = kit.build("concat", [50, 50], hidden=hidden, dropout=0.5)
    vectors = kit.batch([50, 50], 8)
    kept = kit.fuse(fusion.eval(), vectors)
    dropped = kit.fuse(fusion.train(), vectors)
    assert torch.equal(dropped[dropped != 0], 2 * kept[dropped != 0])
    assert ((dropped == 0) & (kept != 0)).any()


def test_sum_adds_the_projections_that_are_there(kit):
    def reference(state, row, sizes):
        return sum((projected for _, projected in projections(kit, state, row)), np.zeros(4))

    kit.check("sum", reference, features=4)


def test_average_is_over_the_projections_that_are_there(kit):
    def reference(state, row, sizes):
        found = [projected for _, projected in projections(kit, state, row)]
        return np.mean(found, 0) if found else np.zeros(4)

    kit.check("average", reference, features=4)


def test_maximum_is_over_the_projections_that_are_there(kit):
    def reference(state, row, sizes):
        found = [projected for _, projected in projections(kit, state, row)]
        return np.max(found, 0) if found else np.zeros(4)

    kit.check("maximum", reference, features=4)


def test_multiply_multiplies_the_projections_that_are_there(kit):
    def reference(state, row, sizes):
        result = np.ones(4)
        for _, projected in projections(kit, state, row):
            result = result * projected
        return result

    kit.check("multiply", reference, features=4)


def test_attention_weighs_the_projections_by_a_softmax_over_those_that_are_there(kit):
    def reference(state, row, sizes):
        found = [projected for _, projected in projections(kit, state, row)]
        if len(row) == 1 or not found:
            return sum(found, np.zeros(4))
        scores = [
            state["attention.score.weight"][0] @ np.tanh(kit.affine(state, "attention.project", p)) for p in found
        ]
        return sum(weight * p for weight, p in zip(softmax(scores), found, strict=True))

    kit.check("attention", reference, features=4)


def test_deepset_transforms_the_sum_of_transformed_projections(kit):
    def reference(state, row, sizes):
        total = np.zeros(4)
        for _, projected in projections(kit, state, row):
            total += relu(kit.affine(state, "phi.1", relu(projected)))
        return kit.affine(state, "rho.3", relu(kit.affine(state, "rho.0", total)))

    kit.check("deepset", reference, features=4, hidden=5)
