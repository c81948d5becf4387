"""The life of a modality: what the framework tells it and asks of it, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import toys
import yaml
from numpy.typing import NDArray
from small import Caller, call

import mmreg
from mmreg import Modality, Signal, Spec, registry
from mmreg.testing import run_checks


class Witness(Modality):
    """Two columns of numbers, of which it notes what it knows whenever it is called.

    `spec` and `stored` fail before `fit_values` or `load_state`, as they may.
    """

    multiple_columns = True
    default_encoder = "linear"
    calls: ClassVar[list[tuple[str, tuple[str, ...]]]] = []

    def __init__(self) -> None:
        self.size: int | None = None

    def note(self, call: str) -> None:
        Witness.calls.append((call, self.columns))

    @classmethod
    def suggest_columns(
        cls, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
        return [*columns], {}

    def fit_values(self, values: Iterator[Any]) -> None:
        self.note("fit_values")
        self.size = len(next(values, {}))

    @property
    def stored(self) -> Spec:
        self.note("stored")
        return Spec("C", (self._size(),))

    @property
    def spec(self) -> Spec:
        self.note("spec")
        return Spec("C", (self._size(),))

    def _size(self) -> int:
        if self.size is None:
            raise RuntimeError("asked too early")
        return self.size

    def load(self, value: Any) -> NDArray[Any]:
        self.note("load")
        return np.array([value[column] for column in self.columns], np.float32)

    def transform(self, signal: Signal, *, training: bool, generator: Any = None) -> Signal:
        self.note("transform")
        return signal

    def state(self) -> dict[str, Any]:
        return {"size": self.size}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.note("load_state")
        self.size = state["size"]


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    toys.register()
    registry.register("modality", "witness", Witness)
    monkeypatch.setattr(Witness, "calls", [])


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe over a table of two numbers, whose columns it names in another order than the table has them in."""
    random = np.random.default_rng(0)
    rows = [{"x": n % 2 + random.normal(0, 0.1), "y": random.random(), "label": "ab"[n % 2]} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    witness = {"type": "witness", "columns": ["y", "x"]}
    text = {"table": "rows.jsonl", "target": {"column": "label"}, "modalities": {"both": witness}}
    path.write_text(yaml.safe_dump({**text, "training": {"epochs": 1}}))
    return path


def calls() -> list[str]:
    """The names of what was called, in the order in which it first was."""
    return list(dict.fromkeys(name for name, _ in Witness.calls))


def test_it_knows_its_columns_in_every_call_of_a_training(recipe: Path, tmp_path: Path) -> None:
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    assert calls()[0] == "fit_values"
    assert {*calls()} == {"fit_values", "stored", "load", "spec", "transform"}
    assert {columns for _, columns in Witness.calls} == {("y", "x")}
    assert run.modalities["both"].columns == ("y", "x")


def test_a_panic_while_it_is_fitted_is_one_line_that_names_it(
    cli: Caller, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        """What a library in Rust raises: it is no `Exception`."""

    def panic(self: Witness, values: Iterator[Any]) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(Witness, "fit_values", panic)
    for command in ("validate", "train"):
        done = cli(command, recipe)
        assert done.code == 1
        assert done.err.splitlines() == [
            "mmreg: modality 'both' (column y, x) cannot learn from the training rows: PanicException: called "
            "`Option::unwrap()` on a `None` value; this is an error in the modality, or in a library that it uses "
            "(--debug shows where)"
        ]


def test_it_knows_its_columns_when_it_is_restored(recipe: Path, tmp_path: Path) -> None:
    mmreg.train(recipe, tmp_path / "run", device="cpu")
    Witness.calls.clear()
    run = mmreg.load(tmp_path / "run", device="cpu")
    (found,) = run.predict({"y": 0.5, "x": 1.0})
    assert found["modalities"] == "both"
    assert calls()[0] == "load_state"
    assert "fit_values" not in calls()
    assert {columns for _, columns in Witness.calls} == {("y", "x")}


def test_what_it_gives_is_not_asked_before_it_is_fitted(cli: Caller, recipe: Path, tmp_path: Path) -> None:
    for command in (
        ("info", "witness"),
        ("init", tmp_path / "rows.jsonl", "--target", "label", "--out", tmp_path / "drafted.yaml"),
        ("validate", recipe),
        ("train", recipe, "--dry-run"),
    ):
        done = cli(*command)
        assert done.code == 0, done.err
    mmreg.build_model(recipe)
    assert calls()[0] == "fit_values"


def test_the_conformance_checks_do_not_ask_either() -> None:
    rows = [{"p": float(number), "q": number / 2} for number in range(6)]
    report = run_checks(Witness, values=rows)
    asked_too_early = [result for result in report.of("failed") if "asked too early" in result.detail]
    assert asked_too_early == []
    assert ("load", ("p", "q")) in Witness.calls
