"""Weights that come from a file or have a name: what a run keeps of them, and what it refers to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import save_file
from torch import nn

import mmreg
from mmreg import Recipe, Spec, WeightsAsset, registry, runs
from mmreg.errors import MmregError, RecipeError, RunError
from mmreg.pretrained import load_weights, read_weights
from mmreg.recipe.resolve import missing_assets, resolve
from mmreg.training.checkpoint import read_state


class Trained(toys.Linear):
    """A linear encoder whose layer comes from a file; its norm is its own.

    Args:
        weights: the file, or "random".
    """

    def __init__(self, spec: Spec, *, weights: WeightsAsset = "random", restored: bool = False) -> None:
        super().__init__(spec)
        if weights != "random" and not restored:
            load_weights(self.layer, read_weights(weights), weights)


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toys.register()
    registry.register("encoder", "trained", Trained)
    monkeypatch.setenv("MMREG_WEIGHTS_DIR", str(tmp_path / "at_hand"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(nn.Linear(4, 8).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def modalities(**encoder: Any) -> dict[str, Any]:
    return {"a": {"type": "numbers", "encoder": {"name": "trained", **encoder}}, "b": {"type": "numbers"}}


def plan_of(folder: Path, weights: str) -> Any:
    return resolve(Recipe(toys.recipe(toys.rows(40), modalities=modalities(weights=weights)), folder=folder))


def test_a_text_is_a_path_or_a_name(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "model").mkdir()
    for text, path in [
        ("random", None),
        ("someone/model-base", None),
        ("w.safetensors", weights),
        ("model", tmp_path / "model"),
        ("./lost", tmp_path / "lost"),
        ("lost.PTH", tmp_path / "lost.PTH"),
        ("~/lost", Path("~/lost").expanduser()),
    ]:
        found = plan_of(tmp_path, text)
        encoder = found.inputs["a"].encoder
        assert encoder.options["weights"] == (text if path is None else str(path)), text
        problems = [problem.path for problem in missing_assets(found)]
        lost = path is not None and not path.exists()
        assert problems == ([("modalities", "a", "encoder", "weights")] if lost else []), text


def test_a_run_keeps_the_weights_and_no_copy_of_the_file(tmp_path: Path, weights: Path) -> None:
    run = toys.train(tmp_path / "run", modalities=modalities(weights=str(weights), freeze=True))
    assert not list((tmp_path / "run").rglob("*w.safetensors"))
    assert str(weights) in runs.read_facts(tmp_path / "run")["assets"]
    weights.unlink()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert mmreg.load(tmp_path / "moved").predict(toys.rows()) == run.predict(toys.rows())


def test_a_training_does_not_go_on_with_another_file(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"modalities": modalities(weights=str(weights))}
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "run", callback=toys.Listening(stop_after=12), **settings)
    save_file(nn.Linear(4, 8).state_dict(), weights)
    with pytest.raises(
        RunError, match=r"w\.safetensors, which the run in .* was started with, has changed; bring it back"
    ):
        toys.train(tmp_path / "run", resume=True, **settings)


def test_a_run_may_refer_to_frozen_weights(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"weights": str(weights), "freeze": True}
    copied = toys.train(tmp_path / "copied", modalities=modalities(**settings))
    run = toys.train(tmp_path / "run", modalities=modalities(**settings, weights_in_run="reference"))
    kept = runs.read_weights(tmp_path / "run" / runs.WEIGHTS)
    assert not any(name.startswith("encoders.a.") for name in kept)
    again = mmreg.load(tmp_path / "run")
    assert again.predict(toys.rows()) == run.predict(toys.rows()) == copied.predict(toys.rows())
    assert again.plan.inputs["a"].encoder.weights.in_run == "reference"


def test_its_file_is_found_in_the_folder_of_weights_else_it_is_asked_for(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"weights": str(weights), "freeze": True, "weights_in_run": "reference"}
    run = toys.train(tmp_path / "run", modalities=modalities(**settings))
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(RunError, match=r"weights of a in .*w\.safetensors, which is gone; bring the file back"):
        mmreg.load(tmp_path / "run")
    (tmp_path / "at_hand").mkdir()
    (tmp_path / "at_hand" / weights.name).write_bytes(content)
    assert mmreg.load(tmp_path / "run").predict(toys.rows()) == run.predict(toys.rows())
    save_file(nn.Linear(4, 8).state_dict(), weights)
    (tmp_path / "at_hand" / weights.name).unlink()
    with pytest.raises(RunError, match="which has changed"):
        mmreg.load(tmp_path / "run")


def _register_otherwise() -> None:
    class Other(Trained):
        def __init__(self, spec: Spec, *, weights: WeightsAsset = "random", restored: bool = False) -> None:
            super().__init__(spec, weights=weights, restored=restored)
            nn.init.constant_(self.norm.weight, 2.0)

    registry.register("encoder", "trained", Other)


def test_an_encoder_that_is_built_otherwise_by_now_is_refused(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"weights": str(weights), "freeze": True, "weights_in_run": "reference"}
    toys.train(tmp_path / "run", modalities=modalities(**settings))
    _register_otherwise()
    with pytest.raises(RunError, match="is not what it was: another release of a package builds it otherwise"):
        mmreg.load(tmp_path / "run")


def test_a_combination_of_such_runs_has_all_weights(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"weights": str(weights), "freeze": True, "weights_in_run": "reference"}
    for seed in (0, 1):
        toys.train(tmp_path / str(seed), modalities=modalities(**settings), overrides=[f"training.seed={seed}"])
    fused = mmreg.fuse([tmp_path / "0", tmp_path / "1"], "mean", tmp_path / "fused")
    weights.unlink()
    assert mmreg.load(tmp_path / "fused").predict(toys.rows()) == fused.predict(toys.rows())


KEPT = {
    "best": ["training.keep=best"],
    "last": ["training.keep=last", "training.average=0.9"],
    "soup": ["training.keep=soup"],
}


@pytest.mark.parametrize("keep", KEPT)
def test_such_a_training_goes_on_where_it_stopped_and_keeps_the_weights_nowhere(
    tmp_path: Path, weights: Path, keep: str
) -> None:
    given = {"weights": str(weights), "freeze": True}
    settings: dict[str, Any] = {"overrides": [*KEPT[keep], "training.epochs=4", "training.checkpoint={steps: 5}"]}
    refers: dict[str, Any] = {"modalities": modalities(**given, weights_in_run="reference"), **settings}
    copied = toys.train(tmp_path / "copied", modalities=modalities(**given), **settings)
    whole = toys.train(tmp_path / "whole", **refers)
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "stopped", callback=toys.Listening(stop_after=22), **refers)
    kept = [*_kept_names(tmp_path / "stopped")]
    toys.train(tmp_path / "stopped", resume=True, **refers)
    toys.assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert whole.predict(toys.rows()) == copied.predict(toys.rows())
    for names in (*kept, *_kept_names(tmp_path / "whole"), *_kept_names(tmp_path / "stopped")):
        assert not any(name.startswith("encoders.a.") for name in names)
        assert any(name.startswith("encoders.b.") for name in names)


def _kept_names(folder: Path) -> Iterator[list[str]]:
    """The names of the weights in each file of a run or a training."""
    for path in folder.rglob("*.safetensors"):
        yield list(runs.read_weights(path))
    for path in folder.rglob("*.pt"):
        state = read_state(path)
        yield list(state["model"])
        if state["average"] is not None:
            yield list(state["average"])


def test_such_a_training_does_not_go_on_with_an_encoder_that_is_built_otherwise(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"modalities": modalities(weights=str(weights), freeze=True, weights_in_run="reference")}
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "run", callback=toys.Listening(stop_after=12), **settings)
    _register_otherwise()
    with pytest.raises(RunError, match="is not what it was: another release of a package builds it otherwise"):
        toys.train(tmp_path / "run", resume=True, accept_changes=True, **settings)


def test_a_state_that_has_all_weights_is_gone_on_with(tmp_path: Path, weights: Path) -> None:
    settings: dict[str, Any] = {"modalities": modalities(weights=str(weights), freeze=True, weights_in_run="reference")}
    whole = toys.train(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "run", callback=toys.Listening(stop_after=12), **settings)
    path = tmp_path / "run" / runs.CHECKPOINT
    state = read_state(path)
    state["model"] |= {name: each for name, each in whole.model.state_dict().items() if name.startswith("encoders.a.")}
    torch.save(state, path)
    toys.train(tmp_path / "run", resume=True, **settings)
    toys.assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    "encoder", [{"freeze": False}, {"freeze": {"until_epoch": 1}}, {"freeze": True, "weights": "random"}]
)
def test_only_frozen_weights_of_a_file_can_be_referred_to(weights: Path, encoder: dict[str, Any]) -> None:
    given = modalities(**{"weights": str(weights), **encoder, "weights_in_run": "reference"})
    with pytest.raises(RecipeError, match=r"frozen for good \(freeze: true\) and come from a file"):
        resolve(Recipe(toys.recipe(toys.rows(40), modalities=given)))


def test_a_file_that_is_not_there_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(MmregError, match=r"modalities\.a\.encoder\.weights: there is no file .*lost\.pt"):
        toys.train(tmp_path / "run", modalities=modalities(weights=str(tmp_path / "lost.pt")))


def test_a_run_takes_the_encoder_of_one_that_refers_to_its_file_and_keeps_it(tmp_path: Path, weights: Path) -> None:
    given = modalities(weights=str(weights), freeze=True, weights_in_run="reference")
    first = toys.train(tmp_path / "first", modalities=given)
    begun = {"a": {"type": "numbers", "encoder": {"from": str(first.folder), "freeze": True}}, "b": {"type": "numbers"}}
    second = toys.train(tmp_path / "second", modalities=begun)
    shutil.rmtree(tmp_path / "first")
    weights.unlink()
    again = mmreg.load(second.folder, "cpu").model.encoder_of("a").state_dict()
    assert all(again[name].equal(tensor) for name, tensor in first.model.encoder_of("a").state_dict().items())


def test_what_is_taken_from_an_earlier_run_is_no_reference(tmp_path: Path, weights: Path) -> None:
    first = toys.train(tmp_path / "first", modalities=modalities(weights=str(weights)))
    encoder = {"from": str(first.folder), "freeze": True, "weights_in_run": "reference"}
    begun = {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}
    with pytest.raises(RecipeError, match="leave weights_in_run out"):
        toys.train(tmp_path / "second", modalities=begun)


@pytest.fixture
def moved(tmp_path: Path, weights: Path) -> Any:
    """Moves the file of weights into the folder of weights at hand, with other content if that is asked for."""

    def move(other: bool = False) -> Path:
        place = tmp_path / "at_hand" / weights.name
        place.parent.mkdir()
        weights.rename(place)
        if other:
            save_file(nn.Linear(4, 8).state_dict(), place)
        return place

    return move


@pytest.mark.parametrize("in_run", ["copy", "reference"])
def test_training_anew_and_going_on_find_the_file_at_hand(
    tmp_path: Path, weights: Path, moved: Any, in_run: str
) -> None:
    encoder = {"weights": str(weights), "freeze": True, "weights_in_run": in_run}
    settings: dict[str, Any] = {"modalities": modalities(**encoder)}
    toys.train(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "stopped", callback=toys.Listening(stop_after=12), **settings)
    place = moved()
    toys.train(tmp_path / "stopped", resume=True, **settings)
    again = toys.train(tmp_path / "again", **settings)
    for name in ("stopped", "again"):
        toys.assert_same(tmp_path / "whole", tmp_path / name)
    assert again.plan.inputs["a"].encoder.options["weights"] == str(place)


def test_a_training_does_not_go_on_with_another_file_at_hand(tmp_path: Path, weights: Path, moved: Any) -> None:
    settings: dict[str, Any] = {"modalities": modalities(weights=str(weights))}
    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path / "run", callback=toys.Listening(stop_after=12), **settings)
    place = moved(other=True)
    with pytest.raises(RunError) as error:
        toys.train(tmp_path / "run", resume=True, **settings)
    assert f"is gone, and {place} in the folder of weights at hand is another one" in str(error.value)


def test_a_run_that_refers_to_weights_says_that_the_file_at_hand_is_another(
    tmp_path: Path, weights: Path, moved: Any
) -> None:
    toys.train(tmp_path / "run", modalities=modalities(weights=str(weights), freeze=True, weights_in_run="reference"))
    place = moved(other=True)
    with pytest.raises(RunError) as error:
        mmreg.load(tmp_path / "run")
    assert f"is gone, and {place} in the folder of weights at hand is another one; bring the file" in str(error.value)


@pytest.mark.parametrize("in_run", ["copy", "reference"])
def test_the_encoder_of_a_run_is_taken_with_its_file_at_hand(
    tmp_path: Path, weights: Path, moved: Any, in_run: str
) -> None:
    given = modalities(weights=str(weights), freeze=True, weights_in_run=in_run)
    first = toys.train(tmp_path / "first", modalities=given)
    moved()
    begun = {"a": {"type": "numbers", "encoder": {"from": str(first.folder), "freeze": True}}, "b": {"type": "numbers"}}
    second = toys.train(tmp_path / "second", modalities=begun).model.encoder_of("a").state_dict()
    assert all(second[name].equal(tensor) for name, tensor in first.model.encoder_of("a").state_dict().items())


def test_what_is_in_the_place_of_a_file_is_told_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    for name, told in [
        ("lost.pt", f"there is no file {tmp_path / 'lost.pt'}; put it there, or into {tmp_path / 'at_hand'}"),
        ("loop.pt", f"{tmp_path / 'loop.pt'} is a link that leads to itself, not a file"),
        ("pipe.pt", f"{tmp_path / 'pipe.pt'} is a FIFO, not a file"),
    ]:
        (problem,) = missing_assets(plan_of(tmp_path, name))
        assert str(problem) == f"modalities.a.encoder.weights: {told}"


def test_the_encoder_of_a_run_that_has_the_weights_needs_no_file(tmp_path: Path, weights: Path) -> None:
    first = toys.train(tmp_path / "first", modalities=modalities(weights=str(weights), freeze=True))
    weights.unlink()
    begun = {"a": {"type": "numbers", "encoder": {"from": str(first.folder), "freeze": True}}, "b": {"type": "numbers"}}
    second = toys.train(tmp_path / "second", modalities=begun).model.encoder_of("a").state_dict()
    assert all(second[name].equal(tensor) for name, tensor in first.model.encoder_of("a").state_dict().items())


def test_the_encoder_of_a_run_that_refers_to_its_file_needs_it(tmp_path: Path, weights: Path) -> None:
    given = modalities(weights=str(weights), freeze=True, weights_in_run="reference")
    first = toys.train(tmp_path / "first", modalities=given)
    weights.unlink()
    begun = {"a": {"type": "numbers", "encoder": {"from": str(first.folder), "freeze": True}}, "b": {"type": "numbers"}}
    with pytest.raises(RecipeError, match=r"there is no file .*w\.safetensors; put it there, or into .*at_hand"):
        toys.train(tmp_path / "second", modalities=begun)
