"""Arguments of another kind than a function takes: an error that names them, and is the built-in one expects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys

import mmreg
from mmreg.errors import ArgumentError, OptionError

CALLS: tuple[tuple[str, Callable[[Any], object]], ...] = (
    ("folder", mmreg.load),
    ("folder", mmreg.finish),
    ("run", lambda run: mmreg.refit(run, "again")),
    ("out", lambda out: mmreg.refit("run", out)),
    ("recipe", mmreg.validate),
    ("out", lambda out: mmreg.train(toys.recipe(toys.rows(20)), out)),
    ("out", lambda out: mmreg.cross_validate(toys.recipe(toys.rows(20)), out, folds=2)),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.register()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("given", [None, 5, [], b"bytes"])
@pytest.mark.parametrize(("name", "call"), CALLS)
def test_what_is_no_path_is_named(name: str, call: Callable[[Any], object], given: Any) -> None:
    with pytest.raises(ArgumentError, match=f"^{name} is a .*; found ") as told:
        call(given)
    assert isinstance(told.value, TypeError)


@pytest.mark.parametrize(("given", "why"), [("x" * 5000, "name too long"), ("a\0b", "null byte")])
@pytest.mark.parametrize(("name", "call"), CALLS)
def test_what_can_be_no_path_is_named(name: str, call: Callable[[Any], object], given: str, why: str) -> None:
    with pytest.raises(OptionError, match=rf"^{name}: '.*' can be no path: .*{why}") as told:
        call(given)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("overrides", [5, None, [5], "training.epochs=3", b"bytes"])
def test_overrides_are_texts(overrides: Any) -> None:
    with pytest.raises(ArgumentError, match=r'^overrides are texts such as \["training.epochs=3"\]; found '):
        mmreg.validate(toys.recipe(toys.rows(20)), overrides)


@pytest.mark.parametrize("callback", [5, print, mmreg.Callback])
def test_a_callback_is_an_object_of_that_class(tmp_path: Path, callback: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^callback is a mmreg.Callback; found "):
        mmreg.train(toys.recipe(toys.rows(40)), tmp_path / "run", callback=callback, device="cpu")
