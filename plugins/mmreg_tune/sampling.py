"""What Optuna is asked: for a value of each range and choice, and whether a trial is to end early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmreg.errors import OptionError

if TYPE_CHECKING:
    import optuna

PRUNERS = ("hyperband", "median", "none")


def sampler(seed: int, number: int, at_once: bool = False) -> optuna.samplers.BaseSampler:
    """What draws the values of one trial (TPE, Bergstra et al. 2011).

    Each trial has one of its own, so that what is drawn hangs on the trials before it and the seed alone: a search that
    was stopped goes on as if it had not been, and processes side by side do not draw the same.

    Args:
        seed: of the search.
        number: of the trial.
        at_once: whether trials are under way side by side, near which nothing more is drawn until they have ended.
    """
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, constant_liar=at_once)


def pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """What ends trials early, by how they compare with others after as many epochs.

    Args:
        name: hyperband (Li et al. 2018), median, or none.
        epochs: the most that a trial has.

    Raises:
        OptionError: there is none of that name.
    """
    import optuna

    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    if name == "median":
        return optuna.pruners.MedianPruner()
    if name == "none":
        return optuna.pruners.NopPruner()
    raise OptionError(f"pruner must be one of {', '.join(PRUNERS)}, found {name!r}")


def suggested(trial: optuna.trial.Trial, key: str, what: Any) -> Any:
    """The value that a trial has for a range or choice of `mmreg.SearchedRecipe.ranges`."""
    if hasattr(what, "values"):
        return trial.suggest_categorical(key, list(what.values))
    low, high = what.ends
    if what.search == "int":
        return trial.suggest_int(key, low, high, step=int(what.step or 1), log=what.log)
    return trial.suggest_float(key, low, high, step=what.step, log=what.search == "log")
