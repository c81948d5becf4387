"""Declares the vector components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The modalities of vectors and of series, and the encoder of vectors."""
    return [
        ComponentSpec(
            "modality",
            "vector",
            "mmreg_vector.modality:Vector",
            "Vectors, or sequences of them, from lists, arrays and .npy files.",
        ),
        ComponentSpec(
            "modality",
            "series",
            "mmreg_vector.series:Series",
            "Series of measurements, of any length, from lists, CSV, Parquet and .npy files.",
        ),
        ComponentSpec("encoder", "mlp", "mmreg_vector.mlp:VectorMLP", "Multilayer perceptron for vectors."),
    ]
