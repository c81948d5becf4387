"""What kinds of input have in common: damaged files, put in the place of the originals while a case runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from fuzzing.cases import Case, Kind
from fuzzing.mutators import damaged
from fuzzing.trees import damaged_tree

Damage = Callable[[Random, bytes], bytes]
"""Another way to damage a file than byte by byte."""


class DamagedFiles(Kind):
    """Files of which most cases damage bytes, and some what the format makes of them.

    Args:
        name: what the kind is called.
        share: see `Kind`.
        originals: the files, relative to the folder; more often used are those that stand there more than once.
        texts: what means something in them.
        damages: other ways to damage them, for a third of the cases.
    """

    def __init__(
        self,
        name: str,
        share: int,
        originals: Sequence[str],
        texts: Sequence[bytes] = (),
        damages: Sequence[Damage] = (),
    ) -> None:
        self.name, self.share = name, share
        self.originals, self.texts, self.damages = originals, texts, damages

    def files(self) -> Sequence[str]:
        """The originals, as far as they are known beforehand or are there."""
        return self.originals

    def exact(self, original: str) -> bool:
        """Whether a result from a damaged file has to be the original's."""
        return False

    def references(self, folder: Path) -> dict[str, str]:
        """What each original of exact cases gives, by its name."""
        exact = dict.fromkeys(name for name in self.files() if self.exact(name))
        given = {name: self.act(Case(self.name, 0, name, Path(name).read_bytes(), True), folder) for name in exact}
        return {name: result for name, result in given.items() if result is not None}

    def cases(self, numbers: range, seed: int) -> Iterator[Case]:
        files = self.files()
        contents = {name: Path(name).read_bytes() for name in files}
        for number in numbers:
            random = self.random(number, seed)
            original = random.choice(files)
            deeper = bool(self.damages) and random.random() < 1 / 3
            if deeper:
                data = random.choice(self.damages)(random, contents[original])
            else:
                data = damaged(random, contents[original], list(contents.values()), self.texts)
            yield Case(self.name, number, original, data, self.exact(original) and not deeper)


def json_damage(random: Random, data: bytes) -> bytes:
    """JSON with nodes changed."""
    return json.dumps(damaged_tree(random, json.loads(data))).encode()


@contextmanager
def in_place(path: Path, data: bytes) -> Iterator[None]:
    """A file with other content, for the time of the block."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        yield
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)


@contextmanager
def restored(folder: Path, *names: str) -> Iterator[None]:
    """Some folders inside this one, as they were before the block; what there was not is gone again."""
    kept = folder.with_name(f"{folder.name}.kept")
    for name in names:
        if (folder / name).exists():
            shutil.copytree(folder / name, kept / name)
    try:
        yield
    finally:
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
            if (kept / name).exists():
                shutil.copytree(kept / name, folder / name)
        shutil.rmtree(kept, ignore_errors=True)
