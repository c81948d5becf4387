"""Declares the encoders of sequences; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoders of sequences."""
    return [
        ComponentSpec(
            "encoder",
            "transformer",
            "mmreg_sequence.transformer:SequenceTransformer",
            "Transformer over tokens or vectors, with rotary positions.",
        ),
        ComponentSpec(
            "encoder",
            "text_cnn",
            "mmreg_sequence.text_cnn:TextCNN",
            "Convolutions of several widths over tokens or vectors (Kim 2014).",
        ),
        ComponentSpec(
            "encoder",
            "series_cnn",
            "mmreg_sequence.series_cnn:SeriesCNN",
            "Dilated residual convolutions over a series.",
        ),
        ComponentSpec(
            "encoder",
            "patch_transformer",
            "mmreg_sequence.patch_transformer:PatchTransformer",
            "Transformer over patches of a series (Nie 2023).",
        ),
    ]
