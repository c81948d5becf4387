"""Comparing models honestly: the grid of trainings, paired tests on the same test rows, and what they allow to say."""

from mmreg.comparing.comparison import Comparison, Pair, Variant, compare
from mmreg.comparing.grid import run_grid

__all__ = ["Comparison", "Pair", "Variant", "compare", "run_grid"]
