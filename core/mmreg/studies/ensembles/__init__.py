"""Several trainings of one recipe as one run: cross-validation by folds, and several seeds."""

from mmreg.studies.ensembles.folds import cross_validate
from mmreg.studies.ensembles.members import Ensemble
from mmreg.studies.ensembles.seeds import train_seeds

__all__ = ["Ensemble", "cross_validate", "train_seeds"]
