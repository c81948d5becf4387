"""The figures that a report has of its own, by what `mmreg plot` calls them."""

OWN = ("curves", "confusion", "calibration", "roc", "precision-recall", "values", "subsets")
