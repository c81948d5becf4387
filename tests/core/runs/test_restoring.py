"""Restoring is not building: a run needs nothing but its folder, and says which versions do not go together."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import toys
from torch import nn
from toys import train

import mmreg
from mmreg import Asset, ComponentOf, Features, Signal, Spec, registry
from mmreg.errors import RecipeError, RunError

READ: list[str] = []
"""The files that `Pretrained` has read."""


class Pretrained(toys.Linear):
    """An encoder whose first weights, and size, come from a file.

    Args:
        weights: the file.
    """

    def __init__(self, spec: Spec, *, weights: Asset, restored: bool = False) -> None:
        nn.Module.__init__(self)
        self.spec = spec
        if not restored:
            READ.append(weights)
            self._make(json.loads(Path(weights).read_text())["size"])

    def _make(self, size: int) -> None:
        toys.Linear.__init__(self, self.spec, features=size)

    def state(self) -> dict[str, Any]:
        return {"size": self.out_features}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._make(state["size"])


class Wrapped(mmreg.Encoder):
    """An encoder within another one.

    Args:
        inner: what encodes.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        inner: Annotated[dict[str, Any] | str, ComponentOf("encoder")] = "linear",
        restored: bool = False,
    ) -> None:
        super().__init__()
        named = {"name": inner} if isinstance(inner, str) else inner
        self.inner = registry.build("encoder", named, spec, restored=restored)
        if not restored:
            self.out_features = self.inner.out_features

    def state(self) -> dict[str, Any]:
        return {"inner": self.inner.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state(state["inner"])
        self.out_features = self.inner.out_features

    def forward(self, signal: Signal) -> Features:
        features: Features = self.inner(signal)
        return features


@pytest.fixture(autouse=True)
def _registered() -> None:
    READ.clear()
    toys.register()
    registry.register("encoder", "pretrained", Pretrained)
    registry.register("encoder", "wrapped", Wrapped)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights" / "size.json"
    path.parent.mkdir()
    path.write_text('{"size": 5}')
    return path


def replace(kind: str, name: str, cls: type) -> None:
    """Another release of a component."""
    registry.unregister(kind, name)
    registry.register(kind, name, cls)


def with_encoder(encoder: Any) -> dict[str, Any]:
    return {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}


@pytest.mark.parametrize("wrapped", [False, True])
def test_pretrained_weights_are_read_once_and_the_run_is_enough_afterwards(
    tmp_path: Path, weights: Path, wrapped: bool
) -> None:
    encoder: Any = {"name": "pretrained", "weights": str(weights)}
    modalities = with_encoder({"name": "wrapped", "inner": encoder} if wrapped else encoder)
    run = train(tmp_path / "run", modalities=modalities)
    assert [str(weights)] == READ
    before = run.evaluate()["metrics"]
    weights.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    for copy in (tmp_path / "moved/assets").iterdir():
        copy.unlink()
    again = mmreg.load(tmp_path / "moved", "cpu")
    assert [str(weights)] == READ
    rows = toys.rows()
    assert again.predict(rows) == run.predict(rows)
    assert before["accuracy"] > 0.7
    assert again.model.encoder_of("a").out_features == 5


def test_an_asset_is_relative_to_the_recipe_and_copied_into_the_run(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toys.rows(60)))
    recipe = toys.recipe("table.jsonl", modalities=with_encoder({"name": "pretrained", "weights": "weights/size.json"}))
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = mmreg.train(tmp_path / "recipe.yaml", tmp_path / "run", device="cpu")
    assert [str(weights)] == READ
    facts = json.loads((run.folder / "components.json").read_text())
    (name,) = facts["assets"]
    assert (run.folder / name).read_text() == weights.read_text()
    assert name in (run.folder / "recipe.yaml").read_text()
    mmreg.train(run.folder / "recipe.yaml", tmp_path / "again", device="cpu")
    assert [str(weights), str(run.folder / name)] == READ


def test_a_training_with_an_asset_resumes_unless_the_file_has_changed(tmp_path: Path, weights: Path) -> None:
    modalities = with_encoder({"name": "pretrained", "weights": str(weights)})
    whole = train(tmp_path / "whole", modalities=modalities)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", modalities=modalities, callback=toys.Listening(stop_after=12))
    resumed = train(tmp_path / "run", modalities=modalities, resume=True)
    assert [str(weights)] * 2 == READ
    state = resumed.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.model.state_dict().items())
    weights.write_text('{"size": 6}')
    with pytest.raises(RunError, match="was started with another recipe"):
        train(tmp_path / "run", modalities=modalities, resume=True)


def test_a_missing_asset_is_told_with_its_path(tmp_path: Path) -> None:
    modalities = with_encoder({"name": "pretrained", "weights": str(tmp_path / "none.json")})
    with pytest.raises(RecipeError, match=r"modalities\.a\.encoder\.weights: there is no file .*none\.json"):
        train(tmp_path / "run", modalities=modalities)


class Versioned(toys.Numbers):
    """Numbers of another release: what its state called mean is called centre.

    Args:
        size: how many.
        noise: the deviation of noise.
    """

    version = 2

    def state(self) -> dict[str, Any]:
        return {"centre": self.mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.mean = state["centre"]


class Migrating(Versioned):
    __doc__ = Versioned.__doc__

    @classmethod
    def migrate(cls, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        assert version == 1
        return {"centre": state["mean"]}


def test_an_unchanged_contract_loads_without_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        mmreg.load(tmp_path / "run", "cpu")
    assert not caplog.records


def test_an_earlier_state_is_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(tmp_path / "run")
    replace("modality", "numbers", Migrating)
    with caplog.at_level(logging.WARNING):
        again = mmreg.load(tmp_path / "run", "cpu")
    assert not caplog.records
    assert again.predict(toys.rows()) == run.predict(toys.rows())


def test_a_state_that_does_not_fit_names_the_plugin_and_both_versions(tmp_path: Path) -> None:
    train(tmp_path / "run")
    replace("modality", "numbers", Versioned)
    with pytest.raises(RunError) as caught:
        mmreg.load(tmp_path / "run", "cpu")
    text = str(caught.value)
    assert "modality/a of the run" in text
    assert "KeyError: 'centre'" in text
    assert "was saved by version 1 of numbers (local )" in text
    assert "installed is version 2" in text


def test_another_version_that_loads_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Newer(toys.Linear):
        __doc__ = toys.Linear.__doc__
        version = 3

    train(tmp_path / "run", modalities=with_encoder("linear"))
    replace("encoder", "linear", Newer)
    with caplog.at_level(logging.WARNING):
        mmreg.load(tmp_path / "run", "cpu")
    assert [record.message.count("encoder/a") for record in caplog.records].count(1) == 1
    assert "installed is version 3" in caplog.text


def test_weights_that_do_not_fit_name_the_component_and_both_versions(tmp_path: Path) -> None:
    class Wider(toys.Linear):
        __doc__ = toys.Linear.__doc__
        version = 2

        def __init__(self, spec: Spec, *, features: int = 8, dropout: float = 0.0) -> None:
            super().__init__(spec, features=features, dropout=dropout)
            self.more = nn.Linear(1, 1)

    train(tmp_path / "run")
    replace("encoder", "linear", Wider)
    with pytest.raises(RunError) as caught:
        mmreg.load(tmp_path / "run", "cpu")
    assert "encoder/a (encoders.a.more.weight, encoders.a.more.bias) was saved by version 1" in str(caught.value)
