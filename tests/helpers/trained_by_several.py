"""Trainings by any number of processes: `python trained_by_several.py FOLDER OUT TASK ...`, once for each process."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trained_together import CASES, CNN, IMAGE, TEXT, recipe, start, stopped_recipe, train_and_stop

ONE_LEFT = 43
"""Rows of a batch, of which 44 training rows leave one for the last."""
QUICK = "absent, a last batch of one row"
RECIPES: Mapping[str, tuple[str, dict[str, Any]]] = {
    QUICK: ("three modalities, some absent", {"training": {"batch_size": ONE_LEFT}}),
    "absent, eleven batches": ("three modalities, some absent", {}),
    "a batch of fewer rows than processes": ("a batch of fewer rows than processes", {}),
    "batch norms, a last batch of one row": ("batch norms", {"training": {"batch_size": ONE_LEFT}}),
    "batch norms, many absent": (
        "three modalities, some absent",
        {"modalities": {"image": {**IMAGE, "encoder": CNN}, "text": TEXT}},
    ),
    "gradients added up over batches": ("gradients added up over batches", {}),
    "rows that are compared": ("rows that are compared", {}),
}
"""By name, a case of `trained_together` and what is other in it. Texts are of one to six words."""
assert all(case in CASES for case, _ in RECIPES.values())


def recipe_of(folder: Path, name: str) -> dict[str, Any]:
    """The recipe of that name, over the table in a folder."""
    case, others = RECIPES[name]
    data = recipe(folder, case)
    return {**data, **others, "training": {**data["training"], **others.get("training", {})}}


def train_recipe(folder: Path, out: Path, name: str, device: str = "cpu", shard: str = "") -> None:
    """Train a recipe, and write down which rows this process had a loss of, in their order."""
    import mmreg

    with _losses_of() as rows:
        mmreg.train(recipe_of(folder, name), out / name, device=device, shard=bool(shard))
    (out / f"{name}, {os.environ['RANK']}.json").write_text(json.dumps(rows))


def begin(folder: Path, out: Path, name: str) -> None:
    """Begin a training with shared out weights, and stop it."""
    train_and_stop(folder, out / name)


def go_on(folder: Path, out: Path, name: str, to: str) -> None:
    """Go on in another folder with what was stopped; of what has been read, gather it all once more."""
    import mmreg

    if os.environ["RANK"] == "0":
        shutil.copytree(out / name, out / to)
    with _gathered(out / f"{to}, as read.pt"):
        mmreg.train(stopped_recipe(folder), out / to, device="cpu", shard=True, resume=True)


@contextmanager
def _losses_of() -> Iterator[list[int]]:
    """The rows, of the training rows, whose losses a process adds up."""
    from mmreg.training.step import TrainingStep

    gradients, rows = TrainingStep.gradients, list[int]()

    def watched(self: Any, group: Any, draws: Any, weight: Any, progress: Any, parts: Any = None) -> Any:
        for batch, part in zip(group, parts, strict=True):
            rows.extend(batch.index[: part.own].tolist())
        return gradients(self, group, draws, weight, progress, parts)

    TrainingStep.gradients = watched  # type: ignore[method-assign]
    try:
        yield rows
    finally:
        TrainingStep.gradients = gradients  # type: ignore[method-assign]


@contextmanager
def _gathered(path: Path) -> Iterator[None]:
    """Write the state of a training of which each process has just read its share."""
    import torch

    from mmreg.training.loop import Trainer

    load = Trainer.load_state

    def loaded(self: Trainer, state: Mapping[str, Any]) -> None:
        load(self, state)
        found = self.state()
        if os.environ["RANK"] == "0":
            torch.save(found, path)

    Trainer.load_state = loaded  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.load_state = load  # type: ignore[method-assign]


def by_processes(size: int, folder: Path, out: Path, *tasks: list[str]) -> None:
    """Have so many processes do tasks together, each a function of this file with its arguments.

    Raises:
        AssertionError: one has failed, or they have not ended after two minutes.
    """
    out.mkdir(exist_ok=True)
    env = {"MMREG_CACHE_DIR": str(folder / "cache"), "MMREG_DISABLE_PLUGINS": "report"}
    (process,) = start(1, [__file__, str(size), str(folder), str(out), json.dumps(tasks)], env)
    try:
        said = process.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired as hung:
        raise AssertionError("they wait for each other") from hung
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said


def main(size: int, folder: Path, out: Path, tasks: list[list[str]]) -> None:
    """Become so many processes, once what all need has been imported, and do the tasks."""
    for name in ("mmreg.training.sharding", "mmreg.training.train", "mmreg_image.cnn", "mmreg_text.rnn"):
        importlib.import_module(name)
    os.environ["WORLD_SIZE"] = os.environ["LOCAL_WORLD_SIZE"] = str(size)
    others = [child for rank in range(1, size) if (child := _forked(rank, folder, out, tasks))]
    _do(folder, out, tasks)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in others]
    sys.exit(max(codes, key=abs, default=0))


def _forked(rank: int, folder: Path, out: Path, tasks: list[list[str]]) -> int:
    """The number of another process, which does the tasks as well."""
    if child := os.fork():
        return child
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    try:
        _do(folder, out, tasks)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def _do(folder: Path, out: Path, tasks: list[list[str]]) -> None:
    for task, *arguments in tasks:
        {"train": train_recipe, "begin": begin, "go on": go_on}[task](folder, out, *arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
