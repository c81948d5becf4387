"""Declares the trackers and the statistics; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """Callbacks that a recipe names."""
    return [
        ComponentSpec(
            "callback",
            "statistics",
            "mmreg_track.statistics:Statistics",
            "Norms of gradients, weights and updates, and how active each component is, into statistics.csv.",
        ),
        ComponentSpec(
            "callback",
            "tensorboard",
            "mmreg_track.tensorboard:TensorBoard",
            "Figures as TensorBoard's event files.",
            install_hint="pip install 'mmreg[tensorboard]'",
            requires=("tensorboard",),
        ),
        ComponentSpec(
            "callback",
            "mlflow",
            "mmreg_track.mlflow:MLflow",
            "Figures into an experiment of MLflow.",
            install_hint="pip install 'mmreg[mlflow]'",
            requires=("mlflow",),
        ),
        ComponentSpec(
            "callback",
            "wandb",
            "mmreg_track.wandb:WandB",
            "Figures into a project of Weights & Biases.",
            install_hint="pip install 'mmreg[wandb]'",
            requires=("wandb",),
        ),
        ComponentSpec(
            "callback",
            "trackio",
            "mmreg_track.wandb:Trackio",
            "Figures into a project of Trackio, on this machine.",
            install_hint="pip install 'mmreg[trackio]'",
            requires=("trackio",),
        ),
    ]
