"""The original files that cases are made from: a table, pictures, sounds, runs, a checkpoint and a cache."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from small import RECIPE, make_folder

TOKENIZER = "tokenizer.json"
MADE = RECIPE.replace("{type: text,", f"{{type: text, tokenizer_file: {TOKENIZER},")
ROWS = "rows.csv"
"""A part of the table, for what need not see all of it."""


@dataclass(frozen=True)
class Ground:
    """A folder with the original files, and what exact cases give for them."""

    folder: Path
    references: dict[str, str]

    def copy(self, folder: Path) -> None:
        """The same files in another folder; what is many and never changed is linked."""
        linked = ("images", "sounds")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(*linked))
        for name in linked:
            (folder / name).symlink_to(self.folder / name)


def prepare(folder: Path) -> Ground:
    """Make the files in a process of its own, so that this one starts no thread and can be forked; import what it did.

    Raises:
        RuntimeError: it failed; what it printed tells why.
    """
    import torch  # what takes longest to import, once for both processes

    from mmreg_report import callback

    torch.set_num_threads(1)
    callback.draw_curves = lambda *_: None  # takes longer than to train
    pid = os.fork()
    if not pid:
        try:
            _make(folder)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the original files cannot be made")
    facts = json.loads((folder.parent / "facts.json").read_text())
    for module in facts["modules"]:
        with suppress(Exception):
            importlib.import_module(module)
    gc.freeze()  # what is here by now is never collected, so that the processes share it
    return Ground(folder, facts["references"])


def _make(folder: Path) -> None:
    from fuzzing.kinds import KINDS
    from fuzzing.originals import write_originals

    folder.mkdir()
    make_folder(folder)
    (folder / "recipe.yaml").write_text(MADE, encoding="utf-8")
    os.chdir(folder)
    write_originals(folder)
    references = {}
    for kind in KINDS:
        scratch = shutil.copytree(folder, folder.parent / f"first-{kind.name}", symlinks=True)
        os.chdir(scratch)
        for original, result in kind.references(scratch).items():
            references[f"{kind.name}/{original}"] = result
        os.chdir(folder)
        shutil.rmtree(scratch)
    modules = sorted(name for name in sys.modules if not name.startswith("__"))
    (folder.parent / "facts.json").write_text(json.dumps({"modules": modules, "references": references}))
