"""Declares the optimizers and schedules; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1

_TORCH_OPTIMIZERS = {
    "ASGD": "Stochastic gradient descent whose iterates are averaged.",
    "Adadelta": "Steps by the ratio of past updates to past gradients.",
    "Adafactor": "Second moments kept as rows and columns, for large models.",
    "Adagrad": "Steps that shrink with the sum of squared gradients.",
    "Adam": "Steps by the first and second moments of the gradient.",
    "AdamW": "Adam with weight decay apart from the gradient.",
    "Adamax": "Adam with the infinity norm for the second moment.",
    "NAdam": "Adam with Nesterov momentum.",
    "RAdam": "Adam whose first steps are corrected for their variance.",
    "RMSprop": "Steps by the root of a running mean of squared gradients.",
    "Rprop": "Steps by the sign of the gradient alone, for full batches.",
    "SGD": "Stochastic gradient descent, with momentum if asked for.",
}
_TORCH_SCHEDULES = {
    "ConstantLR": "A smaller rate for the first epochs.",
    "CosineAnnealingLR": "Along half a cosine, by epoch.",
    "CosineAnnealingWarmRestarts": "Along half a cosine again and again, by epoch.",
    "CyclicLR": "Up and down between two rates, by epoch.",
    "ExponentialLR": "A constant factor every epoch.",
    "LinearLR": "Along a line over the first epochs.",
    "MultiStepLR": "A factor at given epochs.",
    "OneCycleLR": "Up to a greatest rate and down again, by epoch.",
    "PolynomialLR": "Along a polynomial down to zero, by epoch.",
    "ReduceLROnPlateau": "A factor whenever the validation loss no longer falls.",
    "StepLR": "A factor every so many epochs.",
}
_WARM_UP_SCHEDULES = {
    "cosine": ("Cosine", "Along half a cosine after a warm-up, by step."),
    "linear": ("Linear", "Along a line after a warm-up, by step."),
    "one_cycle": ("OneCycle", "Up over the first part of the steps, down along half a cosine over the rest."),
}


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The optimizers and schedules."""
    return [
        *(
            ComponentSpec("optimizer", name, f"mmreg_optim.optimizers:{name}", summary)
            for name, summary in _TORCH_OPTIMIZERS.items()
        ),
        ComponentSpec("optimizer", "Muon", "mmreg_optim.muon:Muon", "Matrices by orthogonal steps, all else by AdamW."),
        *(
            ComponentSpec("schedule", name, f"mmreg_optim.warm_up:{cls}", summary)
            for name, (cls, summary) in _WARM_UP_SCHEDULES.items()
        ),
        *(
            ComponentSpec("schedule", name, f"mmreg_optim.schedules:{name}", summary)
            for name, summary in _TORCH_SCHEDULES.items()
        ),
    ]
