"""Declares the tasks; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """Classification, multilabel classification, regression, and contrastive learning."""
    return [
        ComponentSpec(
            "task", "classification", "mmreg_tasks.classification:Classification", "One of several exclusive classes."
        ),
        ComponentSpec("task", "multilabel", "mmreg_tasks.multilabel:Multilabel", "Any number of labels a row."),
        ComponentSpec("task", "regression", "mmreg_tasks.regression:Regression", "One or more numbers."),
        ComponentSpec(
            "task",
            "contrastive",
            "mmreg_tasks.contrastive:Contrastive",
            "Modalities of a row near each other; no target.",
        ),
    ]
