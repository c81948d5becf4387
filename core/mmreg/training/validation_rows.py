"""What needs validation rows, and whether there are enough of them."""

from __future__ import annotations

import torch

from mmreg.errors import ValidationRowsError
from mmreg.experiment import Experiment
from mmreg.messages import listed, plural
from mmreg.recipe.resolve import Plan
from mmreg.recipe.training_form import Refit


def check_validation(plan: Plan, experiment: Experiment) -> None:
    """Refuse what needs validation rows where there are too few of them.

    Raises:
        ValidationRowsError: names what needs them, and how many there are.
    """
    count, refit = len(experiment.splits["validation"]), plan.recipe.form.training.refitted
    for node in plan.fusion.nodes() if plan.fusion else ():
        if getattr(node.fusion.cls, "fitted", False) and not count and not (refit and refit.run):
            raise _too_few(f"{node.name} is fitted on validation rows", refit)
    if (name := blending(plan)) and not count:
        raise _too_few(f"{name} blends its losses by what validation rows show", refit)
    training = plan.recipe.form.training
    for key in ("early_stopping", "metric"):
        if getattr(training, key) is not None and not count:
            raise _too_few(f"training.{key} is judged on validation rows", refit)
    if training.keep == "soup" and not count:
        raise _too_few("training.keep: soup is chosen by validation rows", refit)
    if count:
        _check_targets(plan, experiment)


def blending(plan: Plan) -> str:
    """What in a recipe weighs losses, while it is trained, by what validation rows show; empty if nothing does."""
    if plan.balance is not None and plan.balance.cls.blends:
        return plan.balance.name
    return next((node.name for node in (plan.fusion.nodes() if plan.fusion else ()) if node.gradient_blending), "")


def _check_targets(plan: Plan, experiment: Experiment) -> None:
    """Refuse that the weights are chosen by a target, of several, that no validation row has."""
    targets, metric = experiment.task.targets(), plan.metric or experiment.task.main_metric
    if "" in targets:
        return
    rows = torch.from_numpy(experiment.targets[experiment.splits["validation"]])
    known = [name for name, target in targets.items() if bool(target.has(rows).any())]
    name = metric.partition(".")[0]
    if name in targets and name not in known:
        others = f"choose them by a metric of {listed(known)}, or " if known else ""
        raise ValidationRowsError(
            f"the metric {metric!r} chooses the weights, but none of the {plural(len(rows), 'validation row')} has a "
            f"value of the target {name!r}; {others}give the table such rows"
        )
    weights = {name: given.loss_weight for name, given in (plan.recipe.form.targets or {}).items()}
    trained = [name for name in targets if weights[name] != 0]
    if name not in targets and not set(trained) & set(known):
        raise ValidationRowsError(
            f"the metric {metric!r} chooses the weights, but none of the {plural(len(rows), 'validation row')} has a "
            f"value of {listed(map(repr, trained))}; choose them by another metric, or give the table such rows"
        )


def _too_few(needs: str, refit: Refit | None) -> ValidationRowsError:
    if refit is None:
        return ValidationRowsError(
            f"{needs}; there are 0; give the table such rows, or a split with a validation share"
        )
    if refit.run:
        return ValidationRowsError(f"{needs}, and training.refit learns from these: such a run cannot be refitted")
    return ValidationRowsError(
        f"{needs}, and training.refit learns from these; leave one of the two out (what a run has fitted is taken over "
        "by: mmreg refit RUN)"
    )
