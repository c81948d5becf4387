"""Comparing models honestly: the grid of trainings, paired tests on the same test rows, and what they allow to say."""

from mmreg.comparing.comparison import compare
from mmreg.comparing.grid import run_grid
from mmreg.comparing.results import Comparison, Pair, Variant

__all__ = ["Comparison", "Pair", "Variant", "compare", "run_grid"]
