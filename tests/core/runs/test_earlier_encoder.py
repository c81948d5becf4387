"""An input begins with the encoder of an earlier run: its component, options, state and weights, and its modality."""

from __future__ import annotations

import csv
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from small import make_folder, write_table
from toys import train

import mmreg
from mmreg import runs
from mmreg.errors import RecipeError, RunError
from mmreg.experiment import checked_plan, open_experiment
from mmreg.recipe.recipe import read_recipe
from mmreg.studies.compare.grid import run_grid
from mmreg.studies.ensembles import cross_validate, train_seeds


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose encoder is none of the default one, on rows of its own."""
    toys.register()
    folder = tmp_path_factory.mktemp("earlier") / "run"
    modalities = {name: {"type": "numbers", "encoder": {"name": "linear", "features": 5}} for name in "ab"}
    train(folder, toys.rows(seed=5), modalities=modalities)
    return folder


def begun(folder: Path, **further: Any) -> dict[str, Any]:
    return {"a": {"type": "numbers", "encoder": {"from": str(folder), **further}}, "b": {"type": "numbers"}}


def encoder_weights(folder: Path, name: str = "a") -> dict[str, torch.Tensor]:
    state = runs.read_weights(folder / runs.WEIGHTS)
    return {key: tensor for key, tensor in state.items() if key.startswith(f"encoders.{name}.")}


def test_a_frozen_encoder_stays_what_it_was_and_so_does_what_its_modality_learned(before: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", modalities=begun(before, freeze=True))
    own, earlier = encoder_weights(tmp_path / "run"), encoder_weights(before)
    assert own.keys() == earlier.keys()
    assert all(torch.equal(own[key], earlier[key]) for key in own)
    assert run.modalities["a"].state() == mmreg.load(before, "cpu").modalities["a"].state()
    assert run.modalities["b"].state() != mmreg.load(before, "cpu").modalities["b"].state()
    assert run.model.encoder_of("a").out_features == 5
    assert run.model.encoder_of("b").out_features == 8


def test_an_encoder_that_is_not_frozen_learns_from_where_it_was(before: Path) -> None:
    plan = checked_plan(read_recipe(toys.recipe(toys.rows(), modalities=begun(before))))
    model = open_experiment(plan).build_model()
    earlier = encoder_weights(before)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in earlier.items())
    assert all(parameter.requires_grad for parameter in model.encoder_of("a").parameters())


def test_another_input_of_the_run_is_named_by_input(before: Path, tmp_path: Path) -> None:
    modalities = {
        "x": {"type": "numbers", "column": "a", "encoder": {"from": str(before), "input": "b", "freeze": True}}
    }
    train(tmp_path / "run", modalities=modalities, fusion=None)
    own, earlier = encoder_weights(tmp_path / "run", "x"), encoder_weights(before, "b")
    assert [tensor.tolist() for tensor in own.values()] == [tensor.tolist() for tensor in earlier.values()]
    del modalities["x"]["encoder"]["input"]
    with pytest.raises(
        RecipeError, match=r"modalities.x.encoder.from: .*has the inputs a, b; name one of them by input"
    ):
        train(tmp_path / "other", modalities=modalities, fusion=None)


def test_the_new_run_needs_the_earlier_one_no_more(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "before")
    modalities = begun(tmp_path / "before", lr=0.1)
    whole = train(tmp_path / "whole", modalities=modalities)
    toys.stopped_at(tmp_path / "run", 12, modalities=modalities)
    shutil.rmtree(tmp_path / "before")
    rows = toys.rows(seed=9)
    assert mmreg.load(tmp_path / "whole", "cpu").predict(rows) == whole.predict(rows)
    recipe = read_recipe(tmp_path / "run" / runs.RECIPE).replace({"table": toys.rows()})
    mmreg.train(recipe, tmp_path / "run", resume=True, device="cpu")
    toys.assert_same(tmp_path / "whole", tmp_path / "run")


def test_its_recipe_trains_again_or_says_what_is_missing(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "before")
    first = train(tmp_path / "first", modalities=begun(tmp_path / "before"))
    encoder = first.recipe["modalities"]["a"]["encoder"]
    assert encoder["name"].endswith("linear")
    assert (encoder["features"], encoder["from"], encoder["input"]) == (5, str(tmp_path / "before"), "a")
    recipe = read_recipe(tmp_path / "first" / runs.RECIPE).replace({"table": toys.rows()})
    mmreg.train(recipe, tmp_path / "again", device="cpu")
    toys.assert_same(tmp_path / "first", tmp_path / "again")
    shutil.rmtree(tmp_path / "before")
    with pytest.raises(RecipeError, match=r"modalities\.a\.encoder\.from: there is no run folder"):
        mmreg.train(recipe, tmp_path / "third", device="cpu")


def test_a_training_goes_on_by_its_own_recipe_where_the_earlier_run_has_moved(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "before")
    settings: dict[str, Any] = {"modalities": begun(tmp_path / "before")}
    whole = train(tmp_path / "whole", **settings)
    toys.stopped_at(tmp_path / "run", 5, **settings)
    (tmp_path / "before").rename(tmp_path / "moved")
    told = r"a training that has begun goes on by its own recipe: mmreg train OUT/recipe\.yaml --out OUT --resume"
    with pytest.raises(RecipeError, match=told):
        train(tmp_path / "run", resume=True, **settings)
    own = read_recipe(tmp_path / "run" / runs.RECIPE).replace({"table": toys.rows()})
    mmreg.train(own, tmp_path / "run", device="cpu", resume=True)
    toys.assert_same(whole.folder, tmp_path / "run")


def test_options_that_only_transform_reads_may_be_others(before: Path, tmp_path: Path) -> None:
    modalities = begun(before)
    modalities["a"]["noise"] = 0.5
    assert train(tmp_path / "run", modalities=modalities).recipe["modalities"]["a"]["noise"] == 0.5
    modalities["a"]["size"] = 3
    with pytest.raises(RecipeError, match=r"modalities\.a\.size: must be 4, as the encoder of .* was trained with it"):
        train(tmp_path / "other", modalities=modalities)


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        ({"from": "none"}, "there is no run folder"),
        ({"from": "{run}", "input": "c"}, r"has no input 'c'; it has a, b"),
        ({"from": "{run}", "features": 3}, "features: from takes the encoder as it is; beside it go freeze,"),
        ({"from": "{run}", "share": "b"}, "give one of name"),
        ({"name": "linear", "input": "b"}, "input names one of an earlier run"),
        ({"name": "linear", "from": "{run}"}, r"the weights of encoder/a of the run .* do not fit: layer.weight"),
        ({"from": "{stopped}"}, "has no weights: its training has not ended"),
        ({"from": "{damaged}"}, "damaged"),
        ({"from": "{hollow}"}, "damaged"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(before: Path, tmp_path: Path, encoder: dict[str, Any], told: str) -> None:
    places = {"{run}": before}
    for name in ("stopped", "damaged", "hollow"):
        places[f"{{{name}}}"] = tmp_path / name
        shutil.copytree(before, tmp_path / name)
    (tmp_path / "stopped" / runs.WEIGHTS).unlink()
    (tmp_path / "damaged" / runs.COMPONENTS).write_text("{}")
    weights = tmp_path / "hollow" / runs.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    encoder = {key: str(places.get(value, value)) if key == "from" else value for key, value in encoder.items()}
    modalities = {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}
    with pytest.raises(RecipeError, match=rf"(?s)modalities\.a\.encoder.*{told}"):
        train(tmp_path / "run", modalities=modalities)
    assert not (tmp_path / "run" / runs.RECIPE).exists()


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": {"type": "toys:numbers", "encoder": "linear"}},
        {"a": {"type": "toys:numbers", "encoder": {"share": "nope"}}},
        {"a": {"type": "toys:numbers", "encoder": {"share": ["b"]}}},
        {"a": {"type": "toys:numbers", "encoder": {"x": 1}}},
        {"a": {"type": "toys:numbers", "encoder": {"name": [7]}}},
        {"a": {"encoder": {"name": "linear"}}},
        {"a": "numbers"},
        {},
        [],
        None,
    ],
)
def test_a_damaged_recipe_of_the_run_is_told_with_its_file(before: Path, tmp_path: Path, inputs: Any) -> None:
    shutil.copytree(before, tmp_path / "before")
    (tmp_path / "before" / runs.RECIPE).write_text(json.dumps({"modalities": inputs}))
    path = re.escape(str(tmp_path / "before" / runs.RECIPE))
    told = rf"modalities\.a\.encoder\.from: {path} is damaged, or was edited: it does not spell out .* of 'a'"
    with pytest.raises(RecipeError, match=told):
        train(tmp_path / "run", modalities=begun(tmp_path / "before"))


def test_components_that_are_no_mapping_are_told_as_such(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "before")
    for text in ("[]", "{}", "null", "1"):
        (tmp_path / "before" / runs.COMPONENTS).write_text(text)
        with pytest.raises(RunError, match=r"components\.json is damaged: it holds no mapping with a format$"):
            mmreg.load(tmp_path / "before", "cpu")


class Six(toys.Numbers):
    __doc__ = toys.Numbers.__doc__

    @property
    def spec(self) -> mmreg.Spec:
        return mmreg.Spec("C", (self.size + 2,))


class Whole(toys.Numbers):
    __doc__ = toys.Numbers.__doc__


def test_another_modality_goes_where_it_gives_the_same(before: Path, tmp_path: Path) -> None:
    mmreg.registry.register("modality", "six", Six)
    mmreg.registry.register("modality", "whole", Whole)
    modalities = begun(before, freeze=True)
    modalities["a"]["type"] = "whole"
    run = train(tmp_path / "run", modalities=modalities)
    assert run.modalities["a"].state() != mmreg.load(before, "cpu").modalities["a"].state()
    modalities["a"]["type"] = "six"
    with pytest.raises(RecipeError, match=r"encoder\.from: 'a' of that run gave C \(4\) .*, this input gives C \(6\)"):
        train(tmp_path / "other", modalities=modalities)


def test_a_shared_encoder_is_taken_by_both(before: Path, tmp_path: Path) -> None:
    shared = {"a": {"type": "numbers"}, "b": {"type": "numbers", "encoder": {"share": "a"}}}
    train(tmp_path / "first", modalities=shared)
    modalities = {"b": {"type": "numbers", "encoder": {"from": str(tmp_path / "first"), "freeze": True}}}
    modalities["a"] = {"type": "numbers", "encoder": {"share": "b"}}
    run = train(tmp_path / "second", modalities=modalities)
    assert torch.equal(
        run.model.encoder_of("a").state_dict()["layer.weight"],
        encoder_weights(tmp_path / "first")["encoders.a.layer.weight"],
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real pictures and texts, and a run of both."""
    folder = make_folder(tmp_path_factory.mktemp("pictures"))
    recipe = read_recipe(folder / "recipe.yaml").replace({"fusion": "concat", "training.epochs": 1})
    data = {**recipe.data, "modalities": {name: recipe.data["modalities"][name] for name in ("image", "title")}}
    data["table"] = str(folder / "table.csv")
    mmreg.train(data, folder / "run", device="cpu")
    return folder


def test_a_text_keeps_the_token_numbers_that_its_encoder_was_trained_with(pictures: Path, tmp_path: Path) -> None:
    with (pictures / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["title"] = f"a thing seen anew {row['title']}"
    write_table(pictures / "other.csv", rows)  # a vocabulary fitted on these would be another
    recipe = {
        "table": "other.csv",
        "split": "split",
        "target": {"column": "label"},
        "modalities": {
            "words": {"type": "text", "column": "title", "encoder": {"from": "run", "input": "title", "freeze": True}},
            "image": {"encoder": {"from": "run"}},
        },
        "training": {"epochs": 1, "batch_size": 16},
    }
    (pictures / "warm.yaml").write_text(json.dumps(recipe))
    run = mmreg.train(pictures / "warm.yaml", tmp_path / "run", device="cpu")
    earlier = mmreg.load(pictures / "run", "cpu")
    assert run.modalities["words"].state() == earlier.modalities["title"].state()
    assert run.recipe["modalities"]["image"]["size"] == 16
    assert earlier.recipe["modalities"]["title"]["token_dropout"] > 0
    assert run.recipe["modalities"]["words"]["token_dropout"] == 0  # beside a frozen encoder nothing is augmented
    own, before = encoder_weights(tmp_path / "run", "words"), encoder_weights(pictures / "run", "title")
    assert all(torch.equal(a, b) for a, b in zip(own.values(), before.values(), strict=True))


class Shifted(toys.Numbers):
    """Numbers of which a file says by how much they are shifted.

    Args:
        size: how many.
        noise: the deviation of noise that training adds.
        shift: the file.
    """

    def __init__(self, *, size: int = 4, noise: float = 0.0, shift: mmreg.Asset) -> None:
        super().__init__(size=size, noise=noise)
        self.shift = float(Path(shift).read_text()) if Path(shift).is_file() else 0.0


def test_files_of_the_modality_are_those_that_the_run_keeps(tmp_path: Path) -> None:
    mmreg.registry.register("modality", "shifted", Shifted)
    (tmp_path / "shift.txt").write_text("0.5")
    given = {"a": {"type": "shifted", "shift": str(tmp_path / "shift.txt")}}
    first = train(tmp_path / "first", modalities=given, fusion=None)
    (tmp_path / "shift.txt").unlink()
    modalities: dict[str, Any] = {"a": {"type": "shifted", "encoder": {"from": str(first.folder)}}}
    second = train(tmp_path / "second", modalities=modalities, fusion=None)
    assert isinstance(second.modalities["a"], Shifted)
    assert second.modalities["a"].shift == 0.5
    (tmp_path / "same.txt").write_text("0.5")
    modalities["a"]["shift"] = str(tmp_path / "same.txt")
    train(tmp_path / "third", modalities=modalities, fusion=None)
    (tmp_path / "same.txt").write_text("0.75")
    with pytest.raises(RecipeError, match=r"modalities\.a\.shift: must be .* was trained with it"):
        train(tmp_path / "fourth", modalities=modalities, fusion=None)


def test_token_numbers_of_another_modality_are_refused(pictures: Path, tmp_path: Path) -> None:
    from mmreg_text.modality import Text

    class Sentence(Text):
        __doc__ = Text.__doc__

    mmreg.registry.register("modality", "sentence", Sentence)
    recipe = {
        "table": str(pictures / "table.csv"),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"title": {"type": "sentence", "encoder": {"from": str(pictures / "run")}}},
    }
    with pytest.raises(RecipeError, match="another modality, whose token numbers mean something else"):
        mmreg.train(recipe, tmp_path / "run", device="cpu")


def test_compare_trains_its_variants_from_the_run(before: Path, tmp_path: Path) -> None:
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toys.rows(80)))
    run_grid(
        toys.recipe(str(tmp_path / "table.jsonl"), modalities=begun(before, freeze=True)),
        tmp_path / "out",
        fusions=["concat"],
        encoders={"b": ["linear", {"name": "linear", "features": 3}]},
        seeds=[0],
        singles=False,
        device="cpu",
    )
    folders = sorted((tmp_path / "out").glob("runs/*/seed-0"))
    assert len(folders) == 2
    for folder in folders:
        assert all(torch.equal(encoder_weights(folder)[key], each) for key, each in encoder_weights(before).items())


def test_a_run_that_is_begun_from_is_not_replaced(before: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "run", tmp_path / "several" / "seed-0", tmp_path / "several" / "fold-1"):
        shutil.copytree(before, folder)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run, several, table = tmp_path / "run", tmp_path / "several", toys.rows()
    kept: dict[Path, Any] = {
        run: partial(mmreg.train, out=tmp_path / "link"),
        tmp_path / "link": partial(mmreg.train, out=run),
        several / "seed-0": partial(train_seeds, out=several, seeds=[1, 2]),
        several / "fold-1": partial(cross_validate, out=several, folds=2),
    }
    for source, again in kept.items():
        with pytest.raises(RunError, match=f"the encoder of 'a' begins with .* {source}, which --overwrite"):
            again(toys.recipe(table, modalities=begun(source)), overwrite=True, device="cpu")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there
    assert train(run, modalities=begun(several / "seed-0"), overwrite=True).report["epochs"] == 3
