"""Restoring is not building: a run needs nothing but its folder, and says which versions do not go together."""

from __future__ import annotations

import json
import logging
import math
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
from mmreg.run_files.weights import read_weights, write_weights

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


class Reading(toys.Linear):
    """An encoder that reads its file whenever it is made.

    Args:
        weights: the file.
    """

    def __init__(self, spec: Spec, *, weights: Asset) -> None:
        READ.append(Path(weights).read_text())
        super().__init__(spec)


def test_a_run_can_be_trained_anew_in_its_place_from_its_own_recipe_and_assets(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toys.rows(60)))
    encoder = {"name": "pretrained", "weights": str(weights)}
    recipe = toys.recipe(str(tmp_path / "table.jsonl"), modalities=with_encoder(encoder))
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    weights.unlink()
    again = mmreg.train(run.folder / "recipe.yaml", tmp_path / "run", overwrite=True, device="cpu")
    assert again.predict(toys.rows()) == run.predict(toys.rows())
    with pytest.raises(RecipeError, match="there is no file"):
        mmreg.train(recipe, tmp_path / "run", overwrite=True, device="cpu")
    assert mmreg.load(tmp_path / "run", "cpu").predict(toys.rows()) == run.predict(toys.rows())


def test_an_asset_is_a_copy_of_the_file_behind_a_link_and_has_a_name_of_bearable_length(tmp_path: Path) -> None:
    registry.register("encoder", "reading", Reading)
    blob = tmp_path / "blob"
    blob.write_text("first")
    link = tmp_path / ("n" * 250)
    link.symlink_to(blob)
    run = train(tmp_path / "run", modalities=with_encoder({"name": "reading", "weights": str(link)}))
    (copy,) = (run.folder / "assets").iterdir()
    assert not copy.is_symlink()
    with blob.open("r+") as file:
        file.write("other")
    assert copy.read_text() == "first"
    mmreg.load(run.folder, "cpu")
    assert READ[-1] == "first"
    train(tmp_path / "run", overwrite=True)
    assert not list((run.folder / "assets").iterdir())


def test_a_run_is_used_without_what_only_its_training_needed(tmp_path: Path) -> None:
    class Following(mmreg.Callback):
        """Nothing."""

    class Own(mmreg.Optimizer):
        """Plain descent."""

        def build(self, groups: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD([{"params": list(group.parameters)} for group in groups], lr=0.1)

    registry.register("callback", "following", Following)
    registry.register("optimizer", "own", Own)
    run = train(tmp_path, callbacks=["following"], overrides=["training.optimizer=own"])
    before = run.predict(toys.rows())
    registry.unregister("callback", "following")
    registry.unregister("optimizer", "own")
    assert mmreg.load(tmp_path, "cpu").predict(toys.rows()) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("components", None),
        ("components", []),
        ("table", None),
        ("modalities", {"a": 1, "b": 2}),
        ("modalities", {"a": {"spec": {"axes": 3}, "state": {}}, "b": {"spec": {}, "state": {}}}),
    ],
)
def test_facts_that_were_edited_are_told_as_damaged(tmp_path: Path, key: str, value: Any) -> None:
    train(tmp_path)
    path = tmp_path / "components.json"
    facts = {**json.loads(path.read_text()), key: value}
    path.write_text(json.dumps(facts))
    with pytest.raises(RunError, match="does not fit its checksum"):
        mmreg.load(tmp_path, "cpu")
    del facts["checksum"]
    path.write_text(json.dumps(facts))
    with pytest.raises(RunError):
        mmreg.load(tmp_path, "cpu")


def test_an_encoder_s_state_that_does_not_fit_names_it_and_both_versions(tmp_path: Path, weights: Path) -> None:
    class Renamed(Pretrained):
        __doc__ = Pretrained.__doc__
        version = 2

        def load_state(self, state: Mapping[str, Any]) -> None:
            self._make(state["width"])

    train(tmp_path / "run", modalities=with_encoder({"name": "pretrained", "weights": str(weights)}))
    replace("encoder", "pretrained", Renamed)
    with pytest.raises(RunError) as caught:
        mmreg.load(tmp_path / "run", "cpu")
    assert "encoder/a of the run" in str(caught.value)
    assert "cannot be restored: KeyError: 'width'; it was saved by version 1 of pretrained" in str(caught.value)


def test_a_run_that_lost_its_weights_says_so_and_resuming_writes_them_anew(tmp_path: Path) -> None:
    run = train(tmp_path)
    before = run.predict(toys.rows())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RunError, match="has lost its weights; go on with"):
        mmreg.load(tmp_path, "cpu")
    assert train(tmp_path, resume=True).predict(toys.rows()) == before


class Inherited(Pretrained):
    """An encoder that leaves the options, and whether it is restored, to its base.

    Args:
        scale: by what features are multiplied.
    """

    def __init__(self, spec: Spec, *, scale: float = 1.0, **options: Any) -> None:
        super().__init__(spec, **options)
        self.scale = scale


def test_a_base_class_is_told_that_it_is_restored(tmp_path: Path) -> None:
    registry.register("encoder", "inherited", Inherited)
    (tmp_path / "weights.json").write_text(json.dumps({"size": 3}))
    encoder = {"name": "inherited", "weights": str(tmp_path / "weights.json")}
    run = train(tmp_path / "run", modalities={"a": {"type": "numbers", "encoder": encoder}}, fusion=None)
    READ.clear()
    assert mmreg.load(tmp_path / "run").predict(toys.rows()) == run.predict(toys.rows())
    built = registry.build("encoder", encoder, Spec("C", (4,)), restored=True)
    assert READ == []
    assert not hasattr(built, "layer")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_no_finite_numbers_are_refused_and_named(tmp_path: Path, number: float) -> None:
    table = [{**row, "a": [row["a"], row["a"]]} for row in toys.rows(40)]
    modalities = {"a": {"type": "vector", "many": "attention", "encoder": "linear"}}
    run = train(tmp_path / "run", table, modalities=modalities, fusion=None)
    path = tmp_path / "run/model.safetensors"
    weights = read_weights(path)
    weights["pooling.a.attention.score.weight"][0, 0] = number
    write_weights(path, weights)
    with pytest.raises(RunError, match=r"the weights of .* hold numbers that are not finite: pooling\.a\.attention"):
        mmreg.load(run.folder)
