"""A run's folder: what is in it, and how it is written and read.

Nothing in it can run code; it can be moved and renamed, and is read offline.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import specs_to_json
from mmreg.contract.task import Task
from mmreg.errors import RunError
from mmreg.files import remove_unfinished, replacing, write_json, write_text
from mmreg.messages import one_line
from mmreg.model.inference import Predicted
from mmreg.model.model import MultimodalModel
from mmreg.recipe.assets import digest
from mmreg.recipe.resolve import Plan
from mmreg.recipe.yaml import yaml_text
from mmreg.run_files.facts import (
    CHECKSUM,
    COMPONENTS,
    FORMAT,
    RECIPE,
    WEIGHTS,
    facts_checksum,
    is_run,
    run_file,
    text_hash,
)
from mmreg.run_files.figures import REPORT, TIMINGS, read_report
from mmreg.run_files.finished import refuse_going_on
from mmreg.run_files.lock import LOCK
from mmreg.runs.references import references

METRICS = "metrics.csv"
PREDICTIONS = "predictions"
OUT_OF_FOLD = "out_of_fold"
"""What the rows of a cross-validation are called, each predicted by the run that has not seen it."""
PROFILE = "profile"
"""Where its time went, of a training that was asked."""
ASSETS = "assets"
CHECKPOINTS = "checkpoints"
CHECKPOINT = f"{CHECKPOINTS}/last.pt"
EARLIER_CHECKPOINT = f"{CHECKPOINTS}/earlier.pt"
"""The one before the last, for the case that the last is damaged."""
BEST = f"{CHECKPOINTS}/best.safetensors"
EARLIER_BEST = f"{CHECKPOINTS}/earlier-best.safetensors"
"""Those before, which an earlier checkpoint speaks of."""
FROZEN = f"{CHECKPOINTS}/frozen.safetensors"
"""The weights of encoders that stay as they are, which no other file there has."""
OWN_ASSET = re.compile(r"[0-9a-f]{8}-")
"""How the names of assets in a run's folder begin."""
LONGEST_NAME = 100
"""Characters of an asset's own name that its copy keeps."""


def own_folder(folder: Path, name: str) -> Path:
    """A folder in a run's folder, made if it is not there, for writing; a link in its place goes."""
    path = folder / name
    if path.is_symlink():
        path.unlink()
    path.mkdir(exist_ok=True)
    return path


def _only_begun(folder: Path) -> bool:
    """Whether a folder holds nothing but the first files of a training that was killed while it wrote them."""
    there = [path for path in folder.rglob("*") if path.suffix != ".tmp" and not path.is_dir()]
    assets = {path for path in there if path.parent == folder / ASSETS and OWN_ASSET.match(path.name)}
    return set(there) <= {*assets, folder / COMPONENTS, folder / LOCK}


def claim(folder: Path, *, overwrite: bool, resumable: bool = True) -> Path:
    """Refuse a folder that a new run must not be written to.

    Args:
        folder: the folder.
        overwrite: whether a run that is there may be replaced.
        resumable: whether a run that was stopped there could be gone on with.

    Raises:
        RunError: it is a file, holds something else than a run, or holds a run and `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a folder for the run")
    if folder.is_dir() and any(folder.iterdir()):
        if _only_begun(folder):
            return folder
        if not is_run(folder):
            raise RunError(f"{str(folder)!r} holds something else than a run; name another folder")
        if not overwrite:
            go_on = ", go on with it by --resume," if resumable else ""
            raise RunError(
                f"there is a run in {str(folder)!r} already; name another folder{go_on} or replace it by --overwrite"
            )
    return folder


def keep_sources(folders: Iterable[Path], plan: Plan) -> None:
    """Refuse to replace a run that a recipe begins with.

    Args:
        folders: the runs that are to be replaced.
        plan: the recipe.

    Raises:
        RunError: an input has the encoder of one of them, or one of them is refitted.
    """
    replaced = {folder.resolve() for folder in folders}
    refitted = plan.recipe.refitted_run()
    if refitted is not None and refitted.resolve() in replaced:
        raise RunError(
            f"the run {refitted} is refitted, and --overwrite would replace it; name another folder by --out"
        )
    for name, given in plan.inputs.items():
        if given.earlier is not None and given.earlier.folder.resolve() in replaced:
            raise RunError(
                f"the encoder of {name!r} begins with that of the run {given.earlier.folder}, which --overwrite would "
                "replace; name another folder by --out"
            )


def remove_leftovers(folder: Path) -> None:
    """Remove what a writer that was killed left half written in a folder that is locked."""
    for place in (folder, *(folder / name for name in (PREDICTIONS, CHECKPOINTS, ASSETS, PROFILE))):
        if not place.is_symlink():
            remove_unfinished(place)


def clear(folder: Path) -> None:
    """Remove what an earlier run left in a folder that is locked, and nothing else.

    Its assets stay, as the next run may be built from them; `write_facts` removes those that it is not.
    """
    for name in (WEIGHTS, METRICS, TIMINGS, REPORT):
        (folder / name).unlink(missing_ok=True)
    for name in (PREDICTIONS, CHECKPOINTS, PROFILE):
        if (folder / name).exists():
            shutil.rmtree(own_folder(folder, name))


def keep_assets(folder: Path, plan: Plan) -> None:
    """Copy the files that a recipe's components are built from into a run's folder, before anything in it goes.

    Raises:
        RunError: one is gone.
        OSError: it cannot be copied.
    """
    plan.to_data(_Assets(folder, plan).keep)


def write_facts(
    folder: Path,
    plan: Plan,
    modalities: Mapping[str, Modality],
    task: Task,
    model: MultimodalModel,
    table: Mapping[str, Any],
    batch_size: int | None = None,
) -> None:
    """Write all but the weights: the resolved recipe with its assets, where components come from, and their states.

    Args:
        folder: the run's folder.
        plan: the resolved recipe.
        modalities: by name, fitted.
        task: fitted.
        model: whose components have states.
        table: plain data on what it was trained on, its `fingerprint` among them.
        batch_size: the rows a batch that were found, where the recipe leaves them open.
    """
    assets = _Assets(folder, plan)
    recipe = plan.to_data(assets.keep)
    assets.remove_others()
    states = {role: state for role, part in model.components().items() if (state := part.state())}
    facts = {
        "format": FORMAT,
        "mmreg": version("mmreg"),
        "torch": version("torch"),
        "components": component_facts(plan),
        "modalities": {
            name: {"spec": specs_to_json(modality.spec), "state": modality.state()}
            for name, modality in modalities.items()
        },
        "task": task.state(),
        "states": states,
        "assets": assets.kept,
        # What relative paths in the cells of scheme://... are relative to.
        "table": {**table, "folder": str((plan.recipe.folder or Path()).absolute())},
    }
    if referred := references(plan, model):
        facts["references"] = referred
    if batch_size is not None:
        facts["batch_size"] = batch_size
    text = yaml_text(recipe)
    facts["recipe"] = text_hash(text)
    # The recipe last: without it a killed training leaves a folder that is known as its own, and may be begun anew.
    write_json(folder / COMPONENTS, {**facts, CHECKSUM: facts_checksum(facts)})
    write_text(folder / RECIPE, text)


def component_facts(plan: Plan) -> dict[str, dict[str, Any]]:
    """Where each component of a recipe comes from, by its role; `code` is a hash of the file that its class is in.

    A script that is run holds more than its components, so that its hash says nothing of them.
    """
    facts = {}
    for role, component in plan.components().items():
        module = component.cls.__module__
        file = None if module == "__main__" else getattr(sys.modules.get(module), "__file__", None)
        facts[role] = {
            "name": component.name,
            "distribution": component.entry.distribution,
            "version": component.entry.version,
            "component_version": getattr(component.cls, "version", 1),
            "code": digest(file) if file else None,
        }
    return facts


def recipe_was_edited(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a run's recipe is another text than the one that was written with its facts."""
    text = run_file(folder, RECIPE).read_text(encoding="utf-8")
    return bool(facts.get("recipe", text_hash(text)) != text_hash(text))


class _Assets:
    """Copies of a recipe's assets in a run's folder.

    Args:
        folder: the run's.
        plan: the recipe.

    Attributes:
        kept: what identifies the contents of each, by its path: relative to the folder, or of one without a copy as it
            is.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.kept: dict[str, str] = {}
        self._uncopied = {path for component in plan.components().values() for path in component.uncopied}

    def keep(self, path: str) -> str:
        """Copy a file that is to be copied, if it is not there yet; where it is then, relative to the run's folder.

        Raises:
            RunError: there is no such file.
        """
        content = digest(path)
        if path in self._uncopied:
            if content is not None:  # runs are combined without the files that their encoders were built from
                self.kept[path] = content
            return path
        if content is None:
            raise RunError(f"the file {path} of the recipe is gone")
        name = f"{ASSETS}/{content[:8]}-{Path(path).name[-LONGEST_NAME:]}"
        copy = own_folder(self.folder, ASSETS) / Path(name).name
        self.kept[name] = content
        if copy.is_symlink() or digest(copy) != content:
            with replacing(copy) as temporary:
                shutil.copyfile(path, temporary)
        return name

    def remove_others(self) -> None:
        """Remove what an earlier run kept."""
        folder = self.folder / ASSETS
        if folder.is_symlink():
            folder.unlink()
        for path in folder.glob("*"):
            if f"{ASSETS}/{path.name}" not in self.kept and OWN_ASSET.match(path.name):
                path.unlink()


def write_predictions(
    folder: Path, split: str, columns: Mapping[str, list[Any]], targets: list[Any] | None, predicted: Predicted
) -> None:
    """Write a split's predictions as Parquet: what people read, any targets, and all scores at full precision.

    The scores of a part stand in a column "scores/NAME", null where a row lacks it; those of the whole in "scores".
    """
    predictions = own_folder(folder, PREDICTIONS)
    everywhere = np.ones(len(predicted.scores), bool)
    scores: dict[str, Any] = {} if targets is None else {"target": targets}
    scores["scores"] = _lists(predicted.scores, everywhere)
    scores |= {f"scores/{name}": _lists(part.scores, part.present.numpy()) for name, part in predicted.parts.items()}
    with replacing(predictions / f"{split}.parquet") as temporary:
        pq.write_table(pa.table({**columns, **scores}), temporary, write_page_checksum=True)


def _lists(scores: Tensor, present: NDArray[np.bool_]) -> pa.ListArray:
    """Scores (N, K) as a column of lists, null where they are not present (N,)."""
    offsets = np.concatenate([[0], np.cumsum(present * scores.shape[1])]).astype(np.int32)
    values = scores[torch.from_numpy(present)].double().numpy().reshape(-1)
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~present))


def read_predictions(folder: Path, split: str) -> pa.Table | None:
    """What `write_predictions` wrote; None if the run has no such split.

    Raises:
        RunError: the file is damaged, or the training goes on, so that it may be of other weights.
    """
    path = run_file(folder, f"{PREDICTIONS}/{split}.parquet")
    report: Any = {}
    with suppress(OSError, ValueError, RecursionError):  # there is none yet, or it is damaged
        report = read_report(folder)
    if not isinstance(report, dict):
        report = {}
    refuse_going_on(folder, report)
    if not path.is_file():
        if split in report:
            raise RunError(f"{path} is gone, of which the run's report tells the figures; train again")
        return None
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged: {one_line(error)}") from error
