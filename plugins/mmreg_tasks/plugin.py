"""Declares the tasks; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """What is predicted: classes, labels, ordered classes, numbers, quantiles, survival; or nothing, to learn pairs."""
    return [
        ComponentSpec(
            "task", "classification", "mmreg_tasks.classification:Classification", "One of several exclusive classes."
        ),
        ComponentSpec("task", "multilabel", "mmreg_tasks.multilabel:Multilabel", "Any number of labels a row."),
        ComponentSpec("task", "regression", "mmreg_tasks.regression:Regression", "One or more numbers."),
        ComponentSpec("task", "ordinal", "mmreg_tasks.ordinal:Ordinal", "One of several classes that have an order."),
        ComponentSpec("task", "quantile", "mmreg_tasks.quantile:Quantile", "Quantiles of a number, such as a range."),
        ComponentSpec("task", "survival", "mmreg_tasks.survival:Survival", "How soon an event is to be expected."),
        ComponentSpec(
            "task",
            "contrastive",
            "mmreg_tasks.contrastive:Contrastive",
            "Modalities of a row near each other; no target.",
        ),
    ]
