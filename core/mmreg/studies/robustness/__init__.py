"""How trained runs bear modalities that are missing, in training and in use, and signals that are corrupted."""

from mmreg.studies.robustness.cells import Cell
from mmreg.studies.robustness.matrix import run_matrix
from mmreg.studies.robustness.matrix_results import RobustnessMatrix
from mmreg.studies.robustness.measures import effective_robustness, evaluate_robustness, relative_robustness

__all__ = [
    "Cell",
    "RobustnessMatrix",
    "effective_robustness",
    "evaluate_robustness",
    "relative_robustness",
    "run_matrix",
]
