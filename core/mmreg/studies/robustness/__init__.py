"""How a trained run bears modalities that are missing, and signals that are corrupted."""

from mmreg.studies.robustness.measures import effective_robustness, evaluate_robustness, relative_robustness

__all__ = ["effective_robustness", "evaluate_robustness", "relative_robustness"]
