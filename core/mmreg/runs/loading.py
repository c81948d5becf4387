"""Loading a run from its folder alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from mmreg.data.prepared import OnBad
from mmreg.errors import MmregError, OptionError, RecipeError, RunError
from mmreg.files import as_path
from mmreg.messages import one_line
from mmreg.model.devices import resolve_device
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import Plan, find_problems, resolve
from mmreg.run_files.facts import COMPONENTS, RECIPE, WEIGHTS, run_file
from mmreg.run_files.finished import finished_facts
from mmreg.run_files.weights import read_weights
from mmreg.runs.folder import recipe_was_edited
from mmreg.runs.hub import fetch, is_on_hub
from mmreg.runs.references import with_files_at_hand
from mmreg.runs.restoring import Restoring
from mmreg.runs.run import Run

logger = logging.getLogger("mmreg")


def load(
    folder: str | Path,
    device: str | torch.device | None = None,
    precision: str | None = None,
    on_bad: str | None = None,
) -> Run:
    """Load a run from its folder.

    Args:
        folder: where training wrote it; or `hf://USER/NAME` (with `@REVISION`) for one on the Hugging Face hub, which
            is downloaded to the cache folder.
        device: where to compute; the best one there is if it is not given.
        precision: "auto", "float32", "bfloat16" or "float16"; the recipe's if it is not given.
        on_bad: what to do about cells that cannot be loaded: "error", "absent" or "skip"; what the recipe says if it is
            not given.

    Raises:
        ArgumentError: `folder` is no path.
        OptionError: there is no such `on_bad`.
        MissingPackageError: it is on the hub, and huggingface_hub is not installed.
        RunError: the folder is no run, cannot be downloaded, is incomplete, or needs a component that is not installed
            or registered.
    """
    policy: OnBad | None = next((each for each in get_args(OnBad) if each == on_bad), None)
    if policy is None and on_bad is not None:
        raise OptionError(f"on_bad is one of {', '.join(get_args(OnBad))}, found {on_bad!r}")
    path = as_path(folder, "folder", "a run's folder, or hf://USER/NAME")
    folder = fetch(folder) if is_on_hub(folder) else path
    facts = finished_facts(folder)
    try:
        run = _loaded(folder, facts, resolve_device(device), precision)
    except MmregError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:  # all else names its component
        raise RunError(f"{folder / COMPONENTS} is damaged, or was edited: {one_line(error)}; train again") from error
    run.on_bad = policy
    return run


def _loaded(folder: Path, facts: Mapping[str, Any], device: torch.device, precision: str | None) -> Run:
    """A run by what its folder says of its components."""
    try:
        plan = _resolved_for_use(with_files_at_hand(read_recipe(run_file(folder, RECIPE)), folder, facts))
    except MmregError as error:
        came = ", ".join(
            f"{role} from {c['distribution']} {c['version']}".rstrip()
            for role, c in facts["components"].items()
            if c["distribution"] != "mmreg"
        )
        local = any(c["distribution"] == "local" for c in facts["components"].values())
        hint = f"; it was trained with {came}" if came else ""
        hint += "; register the local ones with mmreg.registry.register before loading" if local else ""
        raise RunError(f"the run {folder} cannot be loaded{hint}: {error}") from error
    if recipe_was_edited(folder, facts):
        logger.warning("mmreg: %s was edited after the training; it is used as it stands", folder / RECIPE)
    # What a cell of scheme://... names is relative to where the recipe was; all else in it is absolute by now.
    trained_in = Path(facts["table"].get("folder", folder))
    plan.recipe.folder = trained_in if trained_in.is_dir() else None
    restoring = Restoring(folder, plan, facts)
    modalities, task = restoring.modalities(), restoring.task()
    model = restoring.model(task)
    restoring.load_weights(model, read_weights(run_file(folder, WEIGHTS)))
    restoring.tell_versions()
    table = facts["table"]
    fingerprint, split, fused = table["fingerprint"], table.get("split", ""), bool(table.get("fused"))
    rows, inputs = facts.get("batch_size"), table.get("inputs")
    return Run(folder, plan, modalities, task, model, fingerprint, device, precision, fused, split, rows, inputs)


def _resolved_for_use(recipe: Recipe) -> Plan:
    """A recipe with its components; what only a training needs may be missing."""
    try:
        return resolve(recipe, trains=False)
    except RecipeError:
        keys = {problem.path[:2] for problem in find_problems(recipe)}
        spared: dict[str, Any] = {}
        if any(key[0] == "callbacks" for key in keys):
            spared["callbacks"] = []
        if ("training", "optimizer") in keys or ("training", "schedule") in keys:
            spared |= {"training.optimizer": "AdamW", "training.schedule": None}
        if not spared:
            raise
        return resolve(recipe.replace(spared), trains=False)
