"""Whether a recipe is right, with its table, before anything is decoded or trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from mmreg.errors import MmregError, RecipeError
from mmreg.experiment import Experiment, checked_plan, open_experiment
from mmreg.messages import plural
from mmreg.model.build import build
from mmreg.model.devices import resolve_device, resolve_precision
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.recipe.search import SearchedRecipe
from mmreg.training.validation_rows import check_validation


def validate(
    recipe: Recipe | SearchedRecipe | Mapping[str, Any] | str | Path,
    overrides: Iterable[str] = (),
    *,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Check a recipe and its table, as `mmreg validate` does; decodes no file and trains nothing.

    A `SearchedRecipe` is checked at the ends of each of its ranges and at every choice, the others at their first
    value; with its table at the first and at every choice.

    Args:
        recipe: a recipe, its keys as a dict, or the path of a YAML file.
        overrides: keys to change, such as "training.epochs=3".
        device: where it is to compute; the best one there is if it is not given.

    Returns:
        `rows`: how many of each split; `metric`: by which the best weights are chosen, `more_is_better`: its
        direction; `epochs`: how many, the most of a searched recipe; `recipe`: all of it, every default spelled out
        and every path absolute, of a searched recipe with the first values.

    Raises:
        RecipeError: the recipe is wrong; names every problem.
        TableError, TargetError: the data are wrong.
    """
    if not isinstance(recipe, SearchedRecipe):
        experiment = checked_experiment(read_recipe(recipe, overrides), device)
        return _facts(experiment.plan, experiment)
    return _validate_searched(SearchedRecipe.read(recipe, overrides), device)


def checked_experiment(recipe: Recipe, device: str | torch.device | None = None) -> Experiment:
    """A recipe with its table, both checked, and its model built once; raises as `validate`."""
    plan = checked_plan(recipe)
    resolve_precision(plan.recipe.form.training.precision, resolve_device(device))
    experiment = open_experiment(plan)
    check_validation(plan, experiment)
    build(plan, experiment.specs, experiment.task)
    return experiment


def _validate_searched(searched: SearchedRecipe, device: str | torch.device | None) -> dict[str, Any]:
    problems: dict[str, str] = {}
    plans: list[Plan] = []
    first: Experiment | None = None
    for told, made in searched.corners():
        try:
            recipe = made()
            plans.append(resolve(recipe))
            if first is None and not told:
                first = checked_experiment(recipe, device)
            elif told.partition(": ")[0] in searched.choices:
                checked_experiment(recipe, device)
        except MmregError as wrong:
            if not told and not isinstance(wrong, RecipeError):
                raise  # of the table, which all have in common
            for text in getattr(wrong, "problems", None) or [str(wrong)]:
                problems.setdefault(text, told)
    if problems:
        texts = [text + _where(told, text) for text, told in problems.items()]
        raise RecipeError("\n  ".join([f"{searched.name}: {plural(len(texts), 'problem')}", *texts]), texts)
    assert first is not None
    facts = _facts(first.plan, first)
    facts["epochs"] = max(plan.recipe.form.training.last_epoch for plan in plans)
    return facts


def _where(told: str, problem: str) -> str:
    """At which corner a problem is, unless it names the key itself."""
    return "" if told.partition(": ")[0] in problem else f" (where {told})"


def _facts(plan: Plan, experiment: Experiment) -> dict[str, Any]:
    metric = plan.metric or plan.task.cls.main_metric
    return {
        "rows": {split: len(rows) for split, rows in experiment.splits.items()},
        "metric": metric,
        "more_is_better": plan.metric_directions.get(metric, False),
        "epochs": plan.recipe.form.training.last_epoch,
        "recipe": plan.to_data(),
    }
