"""A disk that is full at any moment of a training: one error, nothing half written, and a training that goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from kills.points import watching
from toys import NOISY, assert_same, train

from mmreg.run_files.weights import write_weights
from mmreg.training.checkpoint import has_checkpoint, load_checkpoint

SETTINGS: dict[str, Any] = {**NOISY, "fusion": "stacking", "overrides": ["training.epochs=2"]}
EVERY = 13
"""One in so many moments is tried in a test; the others in slow ones."""


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toys.register()
    return train(tmp_path_factory.mktemp("whole") / "run", **SETTINGS).folder


class Fails:
    """Fails at one moment of writing, counted from 0, and at all later ones."""

    def __init__(self, moment: int, code: int) -> None:
        self.moment, self.code, self.came = moment, code, False

    def __call__(self, number: int, what: str, path: Path) -> None:
        if number >= self.moment and what in ("sync", "rename"):
            self.came = True
            raise OSError(self.code, os.strerror(self.code), str(path))


FIRST = [
    (errno.ENOSPC, 1),
    (errno.EROFS, 7),
    *(pytest.param(errno.ENOSPC, first, marks=pytest.mark.slow) for first in range(EVERY) if first != 1),
]


@pytest.mark.parametrize(("code", "first"), FIRST)
def test_wherever_writing_fails_what_was_there_stays_and_the_training_goes_on(
    tmp_path: Path, whole: Path, code: int, first: int
) -> None:
    told: list[tuple[int | None, str]] = []
    for moment in range(first, 1000, EVERY):
        folder, fails = tmp_path / f"run{moment}", Fails(moment, code)
        try:
            with watching(fails):
                train(folder, **SETTINGS)
        except OSError as error:
            told.append((error.errno, str(error.filename)))
        assert not list(folder.rglob("*.tmp"))
        if has_checkpoint(folder):
            assert load_checkpoint(folder)[1] == ""
        train(folder, resume=True, **SETTINGS)
        assert_same(folder, whole)
        if not fails.came:
            break
    assert len(told) >= 3
    assert {number for number, _ in told} == {code}
    assert not [name for _, name in told if ".tmp" in name or not ("/run" in name or "mmreg-cache" in name)]


def test_weights_that_find_no_room_name_their_file_and_what_the_system_said(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    weights = {"w": torch.zeros(10_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as told:
            write_weights(tmp_path / "best.safetensors", weights)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(tmp_path / "best.safetensors"))
    assert not list(tmp_path.iterdir())
