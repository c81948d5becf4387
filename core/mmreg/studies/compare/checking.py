"""Checks of a whole grid before anything is trained: its recipes, what was trained before, and its data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmreg import runs
from mmreg.contract.callback import Callback
from mmreg.data.cache import cache_dir
from mmreg.errors import RecipeError, RunError, ValidationRowsError
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.model.build import build
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan, resolve
from mmreg.studies.compare.choices import GridVariant
from mmreg.studies.compare.running import Job
from mmreg.studies.compare.variants import differences, folder_names, recipe_data
from mmreg.training.train import check_validation

PlannedVariant = tuple[str, str, dict[int, Plan]]
"""A variant's name, its folder's name, and its plan for each seed."""


class Experiments:
    """Tables and fitted modalities of plans, read once for all that differ in nothing that concerns them."""

    def __init__(self) -> None:
        self.found: dict[str, Experiment] = {}

    def of(self, plan: Plan) -> Experiment:
        """The experiment of a plan; raises as `open_experiment` does."""
        data = plan.to_data()
        for given in data["modalities"].values():
            del given["encoder"]
        seed = None if isinstance(data["split"], str) else data["training"]["seed"]
        own = [data[key] for key in ("table", "split", "target", "modalities", "on_bad", "key")]
        key = json.dumps([own, seed], sort_keys=True)
        if key not in self.found:
            self.found[key] = open_experiment(plan)
        return self.found[key]


def check_grid(
    base: Recipe, variants: Sequence[GridVariant], seeds: Sequence[int], experiments: Experiments
) -> tuple[list[PlannedVariant], list[str]]:
    """Resolve every variant and build its model once, so that no wrong one is found hours later.

    Returns:
        The variants, and what was left out, and why, of those that were not asked for by name.

    Raises:
        RecipeError: names every problem of all variants.
        TableError, TargetError: the table is wrong.
    """
    found: list[PlannedVariant] = []
    skipped = []
    problems: dict[str, list[str]] = {}
    slugs = folder_names([variant.name for variant in variants])
    for variant in variants:
        try:
            plans = {seed: resolve(base.replace({**variant.changes, "training.seed": seed})) for seed in seeds}
            plan = plans[seeds[0]]
            experiment = experiments.of(plan)
            build(plan, experiment.specs, experiment.task)
            check_validation(plan, experiment)
        except (RecipeError, ValidationRowsError) as error:
            told = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
            if variant.optional:
                skipped.append(f"{variant.name} is left out: {'; '.join(told)}")
                continue
            for line in told:
                problems.setdefault(line, []).append(variant.name)
            continue
        found.append((variant.name, slugs[variant.name], plans))
    if problems:
        listed = "\n".join(f"  {_names(names, len(variants))}: {line}" for line, names in problems.items())
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(f"{base.name}: {count}\n{listed}")
    return found, skipped


def _names(names: Sequence[str], count: int) -> str:
    return "every variant" if len(names) == count else ", ".join(names)


def check_unchanged(folder: Path, jobs: Iterable[Job], experiments: Experiments) -> None:
    """Refuse to go on with trainings of another recipe or table, as their figures could not be compared.

    Raises:
        RunError: says what differs.
    """
    changed: dict[str, list[str]] = {}
    for job in jobs:
        if not runs.is_run(job.folder):
            continue
        before, now = read_recipe(job.folder / runs.RECIPE).to_data(), recipe_data(job.plan)
        for key, old, new in differences(before, now):
            if key.partition(".")[0] != "table":
                changed.setdefault(f"{key} was {_shown(old)} and is {_shown(new)}", []).append(job.title)
        table = experiments.of(job.plan).table
        if runs.read_facts(job.folder)["table"]["fingerprint"] != table.fingerprint():
            changed.setdefault(f"the rows of {table.name} have changed", []).append(job.title)
    if changed:
        listed = "\n".join(f"  {text} ({_few(titles)})" for text, titles in changed.items())
        raise RunError(
            f"the trainings in {str(folder)!r} were made with another recipe or table; use those, or name "
            f"another folder\n{listed}"
        )


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _few(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{len(titles)} trainings, such as {titles[0]}"


def prepare_grid(jobs: Iterable[Job], experiments: Experiments, callback: Callback) -> None:
    """Decode all data once, so that trainings side by side find them in the cache; and say what is odd about them.

    Raises:
        DataError: cells cannot be loaded and the policy is to stop.
    """

    def preparing(done: int, total: int, name: str) -> None:
        callback.on_progress(f"preparing {name}", done, total)

    told: set[str] = set()
    done: set[int] = set()
    for job in jobs:
        experiment = experiments.of(job.plan)
        if id(experiment) in done:
            continue
        done.add(id(experiment))
        for text in experiment.messages:
            if text not in told:
                callback.on_message(text)
                told.add(text)
        prepare_all(job.plan, experiment.table, experiment.modalities, cache_dir(), preparing)
