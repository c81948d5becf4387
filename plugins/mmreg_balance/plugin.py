"""Declares the balances; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1

_BALANCES = {
    "own_losses": ("own_losses:OwnLosses", "A head and a loss of its own for each modality."),
    "gradient_blending": ("gradient_blending:GradientBlending", "Own losses, weighed anew by how much each overfits."),
    "ogm_ge": ("ogm_ge:OgmGe", "Smaller gradients for the encoder of the stronger modality, with noise."),
    "agm": ("agm:Agm", "Gradients of encoders by the modalities' Shapley values."),
    "mmpareto": ("mmpareto:MmPareto", "A direction for each encoder that suits the joint and its own loss."),
    "opm": ("opm:Opm", "Rows that do without the stronger modality."),
    "mla": ("mla:Mla", "Each modality alone through the head of all, which keeps what it learned of the others."),
    "pmr": ("pmr:Pmr", "A pull towards the prototypes of classes, for the weaker modality."),
    "reconboost": ("reconboost:ReconBoost", "One modality at a time, by what the others do not tell."),
}


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The balances."""
    return [
        ComponentSpec("balance", name, f"mmreg_balance.{target}", summary)
        for name, (target, summary) in _BALANCES.items()
    ]
