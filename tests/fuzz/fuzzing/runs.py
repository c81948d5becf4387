"""Run folders, checkpoints and cache entries: every file in them, whatever a release keeps there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

from fuzzing.actions import DamagedFiles, in_place, json_damage, restored
from fuzzing.cases import Case, Kind
from fuzzing.formats import HARMFUL_PICKLE, safetensors, zipped
from fuzzing.oracle import command
from fuzzing.originals import ENTRIES
from fuzzing.recipes import yaml_damage
from fuzzing.texts import YAML

EXACT = (".safetensors", ".parquet", ".pt", ".bin")
"""Files of which damage must be noticed."""


class _Folder(DamagedFiles):
    """All files of some folders.

    Args:
        name: see `Kind`.
        share: see `Kind`.
        folders: where they are.
    """

    def __init__(self, name: str, share: int, *folders: str) -> None:
        super().__init__(name, share, folders, YAML, [_by_format])

    def files(self) -> list[str]:
        paths = (path for folder in self.originals for path in sorted(Path(folder).rglob("*")))
        found = [str(path) for path in paths if path.is_file() and path.suffix not in (".png", ".md", ".lock")]
        return [*found, *(name for name in found if self.exact(name))]

    def exact(self, original: str) -> bool:
        return original.endswith(EXACT)


class RunFiles(_Folder):
    """A finished run, which predicts, is combined with another one, or is compared with it."""

    def files(self) -> list[str]:
        return [name for name in super().files() if "checkpoints" not in name]  # which nothing here reads

    def act(self, case: Case, folder: Path) -> str | None:
        how = case.original if case.exact else str(case.number % 3)
        with restored(folder, "run", "fused"), in_place(folder / case.original, case.data):
            if "predictions" in how or how == "1":
                command(["fuse", "run", "second", "--fusion", "stacking", "--out", "fused", "-q"])
                return _written(folder / "fused")
            if how == "2":
                import mmreg

                mmreg.compare(["run", "second"], resamples=100).to_json()
                return None
            command(["predict", "run", "plain.csv", "-q", "--out", "predicted.csv"])
            return (folder / "predicted.csv").read_text()


class Checkpoints(_Folder):
    """A training that was stopped, and goes on."""

    def act(self, case: Case, folder: Path) -> str | None:
        with restored(folder, "stopped"), in_place(folder / case.original, case.data):
            command(["train", "recipe.yaml", "--out", "stopped", "--resume", "-q"])
            return _written(folder / "stopped")


class CacheEntries(_Folder):
    """Prepared columns, which a run predicts from."""

    def exact(self, original: str) -> bool:
        return True

    def references(self, folder: Path) -> dict[str, str]:
        found, before = super().references(folder), sorted(folder.glob("cache/*/*"))
        _predict_there(folder)
        assert sorted(folder.glob("cache/*/*")) == before, "the cases would not meet the entries that they damage"
        return found

    def act(self, case: Case, folder: Path) -> str | None:
        with restored(folder, "cache"), in_place(folder / case.original, case.data):
            return _predict_there(folder)


def _predict_there(folder: Path) -> str:
    """What a run predicts for the table where it is first, whose paths are part of the cache's keys."""
    command(["predict", "run", folder.parent / "ground" / "plain.csv", "-q", "--out", "predicted.csv"])
    return (folder / "predicted.csv").read_text()


def _written(run: Path) -> str:
    """What a training or a combination gives: weights and predictions."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256((run / "model.safetensors").read_bytes())
    for path in sorted((run / "predictions").iterdir()):
        digest.update(str(pq.read_table(path).to_pylist()).encode())
    return digest.hexdigest()


def _by_format(random: Random, data: bytes) -> bytes:
    """Damage behind what a format checks by itself; by its first bytes it is known."""
    if random.random() < 0.05:
        return HARMFUL_PICKLE
    if data[:2] == b"PK":
        return zipped(random, data)
    if data[8:9] == b"{":
        return safetensors(random, data)
    if data[:1] in b"{[":
        return json_damage(random, data)
    return yaml_damage(random, data) if data[:6] == b"table:" else data[::-1]


KINDS: list[Kind] = [
    RunFiles("run", 130, "run"),
    Checkpoints("checkpoint", 40, "stopped"),
    CacheEntries("cache", 50, *ENTRIES),
]
