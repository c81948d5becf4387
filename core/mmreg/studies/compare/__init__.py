"""Comparing models honestly: the grid of trainings, paired tests on the same test rows, and what they allow to say."""

from mmreg.studies.compare.analysis import compare
from mmreg.studies.compare.comparison import Comparison
from mmreg.studies.compare.grid import run_grid
from mmreg.studies.compare.results import Pair, Variant

__all__ = ["Comparison", "Pair", "Variant", "compare", "run_grid"]
