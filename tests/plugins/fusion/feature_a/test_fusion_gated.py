import numpy as np


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def zero_filled(row, sizes):
    return np.concatenate([np.zeros(size) if x is None else x for x, size in zip(row, sizes, strict=True)])


def test_gmu_gates_each_modality_by_all_of_them(kit):
    def reference(state, row, sizes):
        gates = sigmoid(kit.affine(state, "gates", zero_filled(row, sizes))).reshape(len(row), 4)
        total = np.zeros(4)
        for index, vector in enumerate(row):
            if vector is not None:
                total += gates[index] * np.tanh(kit.affine(state, f"projections.maps.{index}", vector))
        return total

    kit.check("gmu", reference, features=4)


def test_film_scales_and_shifts_the_first_modality_by_the_others(kit):
    def reference(state, row, sizes):
        content = np.zeros(4) if row[0] is None else kit.affine(state, "content.maps.0", row[0])
        scale, shift = np.ones(4), np.zeros(4)
        for index, vector in enumerate(row[1:]):
            if vector is not None:
                scale += kit.affine(state, f"scale.maps.{index}", vector)
                shift += kit.affine(state, f"shift.maps.{index}", vector)
        return scale * content + shift

    kit.check("film", reference, features=4)


def test_highway_carries_what_its_gates_do_not_transform(kit):
    def reference(state, row, sizes):
        blocks = [
            np.zeros(2) if vector is None else kit.affine(state, f"projections.maps.{index}", vector)
            for index, vector in enumerate(row)
        ]
        hidden = np.concatenate(blocks)
        for layer in range(3):
            gate = sigmoid(kit.affine(state, f"gates.{layer}", hidden))
            hidden = gate * np.maximum(kit.affine(state, f"transforms.{layer}", hidden), 0) + (1 - gate) * hidden
        return hidden

    kit.check("highway", reference, features=2, num_layers=3)


def test_highway_starts_by_carrying_most_of_its_input(kit):
    fusion = kit.build("highway", [3, 2], features=4)
    assert all((gate.bias == -1).all() for gate in fusion.gates)
