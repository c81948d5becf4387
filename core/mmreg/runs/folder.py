"""A run's folder: what is in it, and how it is written and read.

Nothing in it can run code; it can be moved and renamed, and is read offline.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import specs_to_json
from mmreg.contract.task import Task
from mmreg.errors import RunError
from mmreg.files import replacing, write_json, write_text
from mmreg.messages import one_line
from mmreg.model.inference import Predicted
from mmreg.model.model import MultimodalModel
from mmreg.recipe.assets import digest
from mmreg.recipe.resolve import Plan
from mmreg.recipe.yaml import yaml_text

RECIPE = "recipe.yaml"
COMPONENTS = "components.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.csv"
TIMINGS = "timings.csv"
REPORT = "report.json"
PREDICTIONS = "predictions"
ASSETS = "assets"
CHECKPOINT = "checkpoints/last.pt"
BEST = "checkpoints/best.safetensors"
OWN_ASSET = re.compile(r"[0-9a-f]{8}-")
"""How the names of assets in a run's folder begin."""
LONGEST_NAME = 100
"""Characters of an asset's own name that its copy keeps."""
FORMAT = 1
"""The version of the folder's layout."""


def is_run(folder: Path) -> bool:
    """Whether a folder was written by a training."""
    return (folder / COMPONENTS).is_file() and (folder / RECIPE).is_file()


def _only_begun(folder: Path) -> bool:
    """Whether a folder holds nothing but the first files of a training that was killed while it wrote them."""
    there = [path for path in folder.rglob("*") if path.suffix != ".tmp" and path.is_file()]
    assets = {path for path in there if path.parent == folder / ASSETS and OWN_ASSET.match(path.name)}
    return set(there) <= {*assets, folder / COMPONENTS}


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


def clear(folder: Path) -> None:
    """Make the folder if it is not there, and remove what an earlier run left in it, and nothing else.

    Its assets stay, as the next run may be built from them; `write_facts` removes those that it is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, METRICS, TIMINGS, REPORT):
        (folder / name).unlink(missing_ok=True)
    for name in (PREDICTIONS, "checkpoints"):
        shutil.rmtree(folder / name, ignore_errors=True)


def read_facts(folder: Path) -> dict[str, Any]:
    """What a run folder says of its components.

    Raises:
        RunError: it is no run folder, or of another format.
    """
    if not folder.is_dir():
        near = sorted(p.name for p in folder.parent.iterdir() if is_run(p)) if folder.parent.is_dir() else []
        there = f"; there are {', '.join(near[:10])}" if near else ""
        raise RunError(f"there is no run folder {str(folder)!r}{there}")
    try:
        facts: dict[str, Any] = json.loads((folder / COMPONENTS).read_text(encoding="utf-8"))
        found = facts["format"]
    except FileNotFoundError as error:
        raise RunError(f"{str(folder)!r} is no run folder: it has no {COMPONENTS}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / COMPONENTS} is damaged: {error}") from error
    if found != FORMAT:
        raise RunError(f"{str(folder)!r} is a run of format {found!r}, this mmreg reads format {FORMAT}")
    return facts


def keep_assets(folder: Path, plan: Plan) -> None:
    """Copy the files that a recipe's components are built from into a run's folder, before anything in it goes.

    Raises:
        RunError: one is gone.
        OSError: it cannot be copied.
    """
    plan.to_data(_Assets(folder).keep)


def write_facts(
    folder: Path,
    plan: Plan,
    modalities: Mapping[str, Modality],
    task: Task,
    model: MultimodalModel,
    table: Mapping[str, Any],
) -> None:
    """Write all but the weights: the resolved recipe with its assets, where components come from, and their states.

    Args:
        folder: the run's folder.
        plan: the resolved recipe.
        modalities: by name, fitted.
        task: fitted.
        model: whose components have states.
        table: plain data on what it was trained on, its `fingerprint` among them.
    """
    assets = _Assets(folder)
    recipe = plan.to_data(assets.keep)
    assets.remove_others()
    states = {role: state for role, part in model.components().items() if (state := part.state())}
    components = {}
    for role, component in plan.components().items():
        components[role] = {
            "name": component.name,
            "distribution": component.entry.distribution,
            "version": component.entry.version,
            "component_version": getattr(component.cls, "version", 1),
        }
    facts = {
        "format": FORMAT,
        "mmreg": version("mmreg"),
        "components": components,
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
    # The recipe last: without it a killed training leaves a folder that is known as its own, and may be begun anew.
    write_json(folder / COMPONENTS, facts)
    write_text(folder / RECIPE, yaml_text(recipe))


class _Assets:
    """Copies of a recipe's assets in a run's folder.

    Attributes:
        kept: what identifies the contents of each, by its path relative to the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, str] = {}

    def keep(self, path: str) -> str:
        """Copy a file, if it is not there yet; its path relative to the run's folder.

        Raises:
            RunError: there is no such file.
        """
        content = digest(path)
        if content is None:
            raise RunError(f"the file {path} of the recipe is gone")
        name = f"{ASSETS}/{content[:8]}-{Path(path).name[-LONGEST_NAME:]}"
        copy = self.folder / name
        self.kept[name] = content
        if digest(copy) != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as temporary:
                shutil.copyfile(path, temporary)
        return name

    def remove_others(self) -> None:
        """Remove what an earlier run kept."""
        for path in (self.folder / ASSETS).glob("*"):
            if f"{ASSETS}/{path.name}" not in self.kept and OWN_ASSET.match(path.name):
                path.unlink()


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors, whole or not at all.

    Raises:
        OSError: they cannot be written, as on a full disk.
    """
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files that nobody else can read
        try:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, temporary)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        temporary.chmod(mode)


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `write_weights` wrote, in host memory.

    Raises:
        RunError: the file is damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises several kinds
        raise RunError(f"the weights of {path.parent} are damaged: {one_line(error)}") from error


def write_predictions(
    folder: Path, split: str, columns: Mapping[str, list[Any]], targets: list[Any], predicted: Predicted
) -> None:
    """Write a split's predictions as Parquet: what people read, the targets, and all scores at full precision.

    The scores of a part stand in a column "scores/NAME", null where a row lacks it; those of the whole in "scores".
    """
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    scores = {"target": targets, "scores": predicted.scores.tolist()}
    for name, part in predicted.parts.items():
        rows = zip(part.scores.tolist(), part.present.tolist(), strict=True)
        scores[f"scores/{name}"] = [values if there else None for values, there in rows]
    with replacing(folder / PREDICTIONS / f"{split}.parquet") as temporary:
        pq.write_table(pa.table({**columns, **scores}), temporary)


def read_predictions(folder: Path, split: str) -> pa.Table | None:
    """What `write_predictions` wrote; None if the run has no such split.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / PREDICTIONS / f"{split}.parquet"
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged: {one_line(error)}") from error
