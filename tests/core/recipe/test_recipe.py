"""A recipe says what is wrong with it, where, and what would be right: all of it at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmreg import Encoder, Features, Recipe, Signal, Spec, registry
from mmreg.errors import RecipeError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.recipe.yaml import read_yaml

GOOD = """\
table: manifest.csv
split: split
target: {column: label, task: classification}
modalities:
  image: {column: image, size: 28, channels: 1, encoder: image_cnn}
  title: {type: text, column: name, encoder: {name: text_rnn, cell: gru}}
  audio: {column: audio, sample_rate: 8000, encoder: audio_cnn}
fusion: {name: concat, hidden: [128]}
training: {epochs: 20, batch_size: 64, optimizer: {name: Adam, lr: 1e-3}, schedule: cosine, seed: 0}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve(read_recipe(write(folder, text)))
    return str(caught.value)


def test_the_contract_is_read(tmp_path: Path) -> None:
    plan = resolve(read_recipe(write(tmp_path, GOOD)))
    assert list(plan.inputs) == ["image", "title", "audio"]
    assert plan.inputs["title"].modality.name == "text"
    assert plan.inputs["title"].columns == ("name",)
    assert plan.inputs["title"].encoder.options["cell"] == "gru"
    assert plan.fusion is not None
    assert plan.fusion.of == ("image", "title", "audio")
    assert plan.recipe.form.training.optimizer.options == {"lr": 0.001}


class Picky(Encoder):
    """Has opinions of its modality."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"channels": 3}

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"size": 100, "channels": 1, "flavour": "sweet"}

    def forward(self, signal: Signal[Any]) -> Features:
        return Features(pooled=signal.values.mean((2, 3)))


@pytest.mark.parametrize(("given", "size"), [("", 100), ("size: 28, ", 28)])
def test_what_an_encoder_would_have_its_modality_be_is_its_default(tmp_path: Path, given: str, size: int) -> None:
    registry.register("encoder", "picky")(Picky)
    text = GOOD.replace("size: 28, channels: 1, encoder: image_cnn", f"{given}encoder: picky")
    options = resolve(read_recipe(write(tmp_path, text))).inputs["image"].modality.options
    assert (options["size"], options["channels"]) == (size, 3)
    assert "flavour" not in options


def test_a_dict_is_the_same_as_yaml(tmp_path: Path) -> None:
    data, _ = read_yaml(GOOD, "recipe")
    before = copy.deepcopy(data)
    assert resolve(Recipe(data)).to_data() == resolve(Recipe(**data)).to_data()
    assert data == before


def test_the_resolved_recipe_resolves_to_itself(tmp_path: Path) -> None:
    plan = resolve(read_recipe(write(tmp_path, GOOD)))
    assert resolve(Recipe(plan.to_data())).to_data() == plan.to_data()
    assert plan.to_data()["table"] == str(tmp_path / "manifest.csv")


def test_the_resolved_recipe_spells_out_defaults_and_distributions(tmp_path: Path) -> None:
    data = resolve(read_recipe(write(tmp_path, GOOD))).to_data()
    assert data["modalities"]["image"]["encoder"]["name"] == "mmreg:image_cnn"
    assert data["modalities"]["image"]["resize"] == "stretch"
    assert data["training"]["accumulate"] == 1


def test_every_problem_is_reported_with_its_line(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        GOOD.replace("size: 28", "sise: 28")
        .replace("cell: gru", "cell: gruu")
        .replace("epochs: 20", "epochs: 0")
        .replace("concat", "concatt")
        .replace("seed: 0", "sead: 0"),
    )
    assert text.startswith(f"{tmp_path / 'recipe.yaml'}: 5 problems")
    for expected in [
        "line 5, modalities.image.sise: is no option here; did you mean 'size'",
        "line 6, modalities.title.encoder.cell: must be",
        "line 8, fusion.name: there is no fusion 'concatt'; did you mean 'concat'",
        "line 9, training.epochs: must be greater than or equal to 1, found 0",
        "line 9, training.sead: is no option here; did you mean 'seed'",
    ]:
        assert expected in text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("modalities.image.encodr", "did you mean 'encoder'?"),
        ("modalities.image.onbad", "did you mean 'on_bad'?"),
        ("modalities.title.encoder.freze", "did you mean 'freeze'?"),
        ("modalities.title.encoder.shar", "did you mean 'share'?"),
        ("fusion.frezze", "did you mean 'freeze'?"),
        ("fusion.own_los", "did you mean 'own_loss'"),
        ("target.colum", "did you mean 'column'"),
        ("target.wieght", "did you mean 'weight'"),
        ("trainig.epochs", "did you mean 'training'?"),
    ],
)
def test_the_nearest_key_is_told_also_where_it_is_no_option_of_a_component(
    tmp_path: Path, key: str, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(read_recipe(write(tmp_path, GOOD), [f"{key}=1"]))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key.removesuffix('.epochs')}: is no option here; {message}")  # no line of the file


def test_the_problems_are_there_one_by_one_as_well(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(read_recipe(write(tmp_path, GOOD.replace("concat", "concatt").replace("cell: gru", "cell: gruu"))))
    cell, fusion = caught.value.problems
    assert cell.startswith("line 6, modalities.title.encoder.cell: must be")
    assert fusion.startswith("line 8, fusion.name: there is no fusion 'concatt'")
    assert str(caught.value) == "\n  ".join([f"{tmp_path / 'recipe.yaml'}: 2 problems", cell, fusion])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table: manifest.csv\n", "", "table: is missing"),
        ("task: classification", "task: clasification", "did you mean 'classification'"),
        ("image: {column", "picture: {column", "an input whose name is no modality needs a type: audio, image, "),
        ("encoder: image_cnn", "encoder: image_cn", "did you mean 'image_cnn'"),
        ("column: image,", "columns: [image],", "this modality reads one column"),
        ("{name: concat, hidden: [128]}", "{name: concat, of: [image, text]}", "there is no modality 'text'"),
        ("{name: concat, hidden: [128]}", "{name: concat, of: [image, title]}", "'audio' is used by no operator"),
        ("{name: concat, hidden: [128]}", "{name: concat, of: [image, image, title, audio]}", "'image' is fused twice"),
        ("{name: concat, hidden: [128]}", "{name: concat, joint_loss: true}", "is for model-level fusion"),
        ("{name: concat, hidden: [128]}", "{name: mean, own_loss: false}", "leaves the parts untrained"),
        ("{name: concat, hidden: [128]}", "{name: mean, own_loss: {text: 1}}", "is no part of mean"),
        ("name: Adam", "name: Adm", "there is no optimizer 'Adm'; did you mean 'Adam'"),
        ("lr: 1e-3", "lr: -1", "training.optimizer.lr: must be greater than or equal to 0, found -1"),
        ("lr: 1e-3", "learning: 1", "training.optimizer.learning: is no option here (there are lr,"),
        ("schedule: cosine", "schedule: cosin", "there is no schedule 'cosin'; did you mean 'cosine'"),
        ("seed: 0", "metric: acuracy", "has no metric 'acuracy'; did you mean 'accuracy'"),
        ("seed: 0", "modality_dropout: {txt: 0.1}", "is no modality; there are image, title, audio"),
        ("task: classification", "task: regression", None),
    ],
)
def test_a_wrong_recipe_says_what_would_be_right(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    assert old in GOOD
    if message is None:
        resolve(read_recipe(write(tmp_path, GOOD.replace(old, new))))
    else:
        assert message in problems(tmp_path, GOOD.replace(old, new))


def test_a_task_that_an_operator_cannot_combine_is_refused_with_those_that_can(tmp_path: Path) -> None:
    text = problems(
        tmp_path, GOOD.replace("classification", "regression").replace("{name: concat, hidden: [128]}", "product")
    )
    assert "product cannot combine predictions of the task 'regression'; these can:" in text
    assert "mean" in text


def test_fusions_nest(tmp_path: Path) -> None:
    nested = "{name: product, of: [{name: concat, of: [image, title]}, audio]}"
    plan = resolve(read_recipe(write(tmp_path, GOOD.replace("{name: concat, hidden: [128]}", nested))))
    assert plan.fusion is not None
    assert [node.name for node in plan.fusion.nodes()] == ["product", "concat"]
    assert plan.fusion.own_losses == {"concat": 1.0, "audio": 1.0}


def test_overrides_are_checked_alike_and_name_no_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = read_recipe(path, ["training.epochs=3", "modalities.image.encoder.dropout=0.1", "fusion=sum"])
    assert recipe.form.training.epochs == 3
    assert recipe.form.modalities["image"].encoder is not None
    assert recipe.form.modalities["image"].encoder.options == {"dropout": 0.1}
    assert recipe.form.modalities["image"].encoder.name == "image_cnn"
    with pytest.raises(RecipeError, match=r"\n  training.epochs: must be a valid integer, found 'many'"):
        read_recipe(path, ["training.epochs=many"])
    with pytest.raises(RecipeError, match=r"\n  modalities.image.encoder.dropout: must be"):
        resolve(read_recipe(path, ["modalities.image.encoder={name: image_cnn, dropout: 2}"]))
    with pytest.raises(RecipeError, match=r"\n  modalities.title.encoder.cell: must be"):
        resolve(read_recipe(path, ["modalities.title.encoder={name: text_rnn, cell: gruu}"]))
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        read_recipe(path, ["training.epochs"])
    with pytest.raises(RecipeError, match="holds no keys"):
        read_recipe(path, ["training.epochs.more=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found nothing"),
        ("- a\n- b\n", "found a list"),
        ("a: [1, 2\n", "line 2: this is no valid YAML"),
        ("a: 1\na: 2\n", "line 2: the key 'a' stands here twice, first in line 1"),
        ("a: !!python/object/apply:os.system ['true']\n", "is refused; a recipe holds plain data only"),
        ("a: !mine 3\n", "the tag '!mine' is refused"),
        ("a: &x [*x]\n", "nested too deeply"),
        ("a: \x00\n", "no valid YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(tmp_path, text))
    assert message in str(caught.value)


def test_yaml_reads_numbers_and_words_as_people_write_them() -> None:
    data, lines = read_yaml("a: 1e-3\nb: no\nc: [on, 1.5, true]\nd: 2020-01-01\n", "x")
    assert data == {"a": 0.001, "b": "no", "c": ["on", 1.5, True], "d": "2020-01-01"}
    assert lines["c", 1] == 3


def test_a_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match=r"did you mean 'recipe\.yaml'"):
        read_recipe(tmp_path / "recpe.yaml")


def test_tables_may_be_objects_and_are_kept_apart() -> None:
    data, _ = read_yaml(GOOD, "x")
    rows = [{"label": "a"}]
    assert Recipe(data, table=rows).tables == {"": rows}
    recipe = Recipe({**data, "split": None}, table={"train": rows, "test": "t.csv"})
    assert recipe.tables == {"train": rows}
    assert recipe.replace({"training.seed": 3}).tables == {"train": rows}


def test_a_recipe_is_checked_before_components_are_built(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"table": "x.csv", "target": {"column": "y"}, "modalities": {}}
    with pytest.raises(RecipeError, match="modalities"):
        Recipe(wrong)
