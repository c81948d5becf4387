"""Declares the metrics; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1

_METRICS = {
    "fbeta": ("decisions:FBeta", "Precision and recall in one, with recall counting beta times as much."),
    "specificity": ("decisions:Specificity", "The share of the rows without a class that are not taken for it."),
    "jaccard": ("decisions:Jaccard", "Intersection over union of predicted and true rows of a class."),
    "weighted_kappa": ("decisions:WeightedKappa", "Agreement beyond chance, of classes that have an order."),
    "brier": ("probabilities:Brier", "The squared error of the probabilities."),
    "calibration": ("probabilities:Calibration", "How far probabilities are from the frequencies that they promise."),
    "hinge": ("probabilities:Hinge", "By how much the true class or label misses a margin of one."),
    "exact_match": ("labels:ExactMatch", "The share of rows all of whose labels are right."),
    "ranking_loss": ("labels:RankingLoss", "The share of a row's pairs of labels that are in the wrong order."),
    "coverage_error": ("labels:CoverageError", "How many of the first labels hold all true ones of a row."),
    "kendall": ("values:Kendall", "Rank correlation by pairs of rows (tau-b)."),
    "concordance": ("values:Concordance", "Correlation about the line of equality (Lin)."),
}


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The metrics."""
    return [
        ComponentSpec("metric", name, f"mmreg_metrics.{target}", summary)
        for name, (target, summary) in _METRICS.items()
    ]
