"""How much each open value matters: PED-ANOVA (Watanabe et al. 2023), as Optuna computes it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

FEWEST = 4
"""Finished trials without which nothing can be told."""


def importance(study: optuna.Study) -> dict[str, float]:
    """Of each open key the share that it has in which trials are the best; they add up to 1.

    Returns:
        The greatest first; nothing where too few trials have finished, or they are all alike.
    """
    import optuna

    finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if len(finished) < FEWEST or len({trial.value for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        shares = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return {} if any("will be equal" in str(each.message) for each in told) else shares
