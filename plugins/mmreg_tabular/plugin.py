"""Declares the tabular components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The tabular modality and its encoders."""
    return [
        ComponentSpec(
            "modality",
            "tabular",
            "mmreg_tabular.modality:Tabular",
            "Numbers, categories and dates of several columns together.",
        ),
        ComponentSpec(
            "encoder",
            "tabular_mlp",
            "mmreg_tabular.mlp:TabularMLP",
            "Embeddings of each column, then a multilayer perceptron (Gorishniy 2022).",
        ),
        ComponentSpec(
            "encoder",
            "ft_transformer",
            "mmreg_tabular.ft_transformer:FTTransformer",
            "A transformer over a token for each column (Gorishniy 2021).",
        ),
        ComponentSpec(
            "encoder",
            "tabm",
            "mmreg_tabular.tabm:TabM",
            "Many multilayer perceptrons that share most weights (Gorishniy 2025).",
        ),
    ]
