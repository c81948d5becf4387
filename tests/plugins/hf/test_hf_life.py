"""From a folder to a run: trained in part or by adapters, and restored where neither folder nor network is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import nn

import mmreg
from mmreg import Recipe, Signal, Spec
from mmreg.errors import OptionError, RecipeError
from mmreg.experiment import build_model
from mmreg.recipe.resolve import resolve
from mmreg.training.parameters import parameter_groups, trained_weights
from mmreg_hf.text import HuggingFaceText

SPEC = Spec("T", (None,), "int64", 91)
GOOD, BAD = ["the cat ran", "a dog sat on the mat"], ["birds sing near the tree", "it rains; nobody is outside"]
ROWS = [
    {
        "text": f"{(GOOD if number % 2 else BAD)[number % 4 // 2]}, the old {number}",
        "label": "ab"[number % 2],
        "split": "train" if number < 24 else "validation" if number < 32 else "test",
    }
    for number in range(40)
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.roberta(tmp_path_factory.mktemp("model") / "roberta")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A model's folder of a test's own."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def recipe(folder: Path, **options: Any) -> dict[str, Any]:
    encoder = {"name": "hf_text", "model": str(folder), **options}
    return {
        "table": ROWS,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"text": {"column": "text", "encoder": encoder}},
        "training": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "AdamW", "lr": 0.01}},
    }


def weights(run: mmreg.Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def signal() -> Signal:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 9, 3])
    return Signal(torch.randint(2, 90, (3, 9), generator=generator), lengths, lengths)


def built(folder: Path, **options: Any) -> HuggingFaceText:
    torch.manual_seed(0)
    return HuggingFaceText(SPEC, model=str(folder), **options)


@pytest.fixture
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of a model may be looked for, and no network be used."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model's files or the network were asked for")

    monkeypatch.setattr("mmreg_hf.encoder.find_folder", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


def predictions(run: mmreg.Run) -> list[dict[str, Any]]:
    return run.predict([{"text": row["text"]} for row in ROWS[:6]])


@pytest.mark.parametrize(
    "options",
    [
        {"freeze": True},
        {"pooling": "model", "checkpoint_gradients": True},
        {"lora": {"rank": 2, "alpha": 8.0, "dropout": 0.1, "targets": ["query", "value"]}},
    ],
)
def test_the_runs_folder_alone_is_enough(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest, options: dict[str, Any]
) -> None:
    run = mmreg.train(recipe(folder, **options), out=tmp_path / "run")
    before = predictions(run)
    shutil.rmtree(folder)
    moved = Path(shutil.move(tmp_path / "run", tmp_path / "elsewhere"))
    request.getfixturevalue("nothing_at_hand")
    restored = mmreg.load(moved)
    assert predictions(restored) == before
    trained, again = weights(run), weights(restored)
    assert trained.keys() == again.keys()
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    assert str(folder) not in json.dumps(json.loads((moved / "components.json").read_text())["states"])


def test_runs_are_combined_where_the_folder_is_gone(folder: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        mmreg.train(recipe(folder, freeze=True, lr=1.0 + number), out=tmp_path / f"run{number}")
    shutil.rmtree(folder)
    fused = mmreg.fuse([tmp_path / "run0", tmp_path / "run1"], "mean", tmp_path / "fused")
    assert predictions(mmreg.load(tmp_path / "fused")) == predictions(fused)


def test_the_same_seed_trains_the_same_run(folder: Path, tmp_path: Path) -> None:
    first, second = (mmreg.train(recipe(folder, lora=2), out=tmp_path / name) for name in ("first", "second"))
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())


def test_a_copy_of_the_tokenizer_is_as_good_and_another_one_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(folder / "tokenizer.json", tmp_path / "copy.json")
    given = recipe(folder)
    given["modalities"]["text"]["tokenizer_file"] = "copy.json"
    plan = resolve(Recipe(given, folder=tmp_path))
    assert plan.inputs["text"].modality.options["tokenizer_file"] == str(tmp_path / "copy.json")
    (tmp_path / "copy.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"tokenizer_file: must be .* as encoder 'hf_text' needs it, found 'copy"):
        resolve(Recipe(given, folder=tmp_path))


def test_the_first_stages_stay_and_the_others_move_less_the_nearer_they_are(folder: Path, tmp_path: Path) -> None:
    plan = resolve(Recipe(recipe(folder, freeze=2, layer_decay=0.5)))
    model = build_model(plan.recipe)
    encoder: Any = model.encoder_of("text")
    assert [len(list(stage.parameters())) for stage in encoder.stages()] == [5, 16, 16]
    rates = {id(p): group.lr for group in parameter_groups(model, trained_weights(plan)) for p in group.parameters}
    assert {rates.get(id(parameter)) for parameter in encoder.stages()[2].parameters()} == {0.5}
    run = mmreg.train(recipe(folder, freeze=2), out=tmp_path / "run")
    start, end = model.state_dict(), weights(run)
    moved = {name for name, tensor in end.items() if not tensor.equal(start[name]) and name.startswith("encoders")}
    assert moved
    assert all(name.startswith("encoders.text.network.encoder.layer.1.") for name in moved)


def test_adapters_alone_are_trained(folder: Path, tmp_path: Path) -> None:
    start = build_model(Recipe(recipe(folder, lora=2))).state_dict()
    run = mmreg.train(recipe(folder, lora=2), out=tmp_path / "run")
    moved = {name for name, tensor in weights(run).items() if not tensor.equal(start[name])}
    assert {name.split(".")[-3] for name in moved if name.startswith("encoders")} == {"lora_A", "lora_B"}


def test_adapters_begin_as_nothing(folder: Path) -> None:
    given = signal()
    plain, adapted = built(folder).eval(), built(folder, lora=3).eval()
    torch.testing.assert_close(adapted(given).pooled, plain(given).pooled, atol=1e-6, rtol=1e-6)


def test_each_parameter_that_is_trained_gets_a_gradient(folder: Path) -> None:
    for options in ({}, {"lora": 2}, {"checkpoint_gradients": True}, {"pooling": "model"}):
        encoder = built(folder, **options).train()
        encoder(signal()).pooled.square().sum().backward()
        left = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
        assert not left, options


def test_layers_that_are_computed_again_give_the_same_gradients(folder: Path) -> None:
    gradients = []
    for checkpoint in (False, True):
        encoder = built(folder, checkpoint_gradients=checkpoint).train()
        for part in encoder.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        assert getattr(encoder.network.encoder.layer[0], "gradient_checkpointing", False) is checkpoint
        encoder.network.config.attention_probs_dropout_prob = 0.0
        encoder(signal()).pooled.square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-5)


def test_no_gradient_flows_through_what_is_frozen(folder: Path) -> None:
    encoder = built(folder, checkpoint_gradients=True).requires_grad_(False).train()
    assert not encoder(signal()).pooled.requires_grad


def test_a_model_may_begin_with_random_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    given = signal()
    first, second = (built(folder, weights="none").eval()(given).pooled for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(OptionError, match=r"has no model\.safetensors"):
        built(folder)


def test_a_folder_that_is_not_there_is_told_with_the_recipes_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no file .*/gone"):
        mmreg.train(recipe(tmp_path / "gone"), out=tmp_path / "run")


def test_what_a_folder_lacks_is_told_before_a_file_is_decoded(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match=r"encoder: model: .* has no tokenizer\.json\. Write one where"):
        resolve(Recipe(recipe(folder)))
