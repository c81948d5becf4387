"""The encoder `torchvision`: its weights from files and by name, what it takes, and runs that do without the file."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import OptionError, RecipeError, SpecError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg_torchvision.encoder import SUGGESTED, TorchvisionEncoder
from mmreg_torchvision.weights import load

PICTURES = Spec("CHW", (3, 40, 40))
SHUFFLENET = "shufflenet_v2_x0_5"


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, *_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("MMREG_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)


def network(name: str = SHUFFLENET, seed: int = 1, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return models.get_model(name, weights=None, **options).eval()


def encoder(spec: Spec = PICTURES, **options: object) -> TorchvisionEncoder:
    return TorchvisionEncoder(spec, **{"model": SHUFFLENET, "weights": "none", **options}).eval()


def test_a_file_of_other_classes_is_read_without_its_last_layer(tmp_path):
    reference = network(num_classes=7)
    save_file(reference.state_dict(), tmp_path / "seven.safetensors")
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "seven.pth")
    reference.fc = nn.Identity()
    values = torch.randn(3, 3, 40, 40)
    for name in ("seven.safetensors", "seven.pth"):
        pooled = encoder(weights=str(tmp_path / name))(Signal(values)).pooled
        torch.testing.assert_close(pooled, reference(values), rtol=1e-5, atol=1e-5)


def test_a_file_with_auxiliary_classifiers_is_read_without_them(tmp_path):
    reference = network("googlenet", aux_logits=True, init_weights=False)
    torch.save(reference.state_dict(), tmp_path / "googlenet.pth")
    reference.fc, reference.transform_input = nn.Identity(), True
    values = torch.randn(2, 3, 40, 40)
    given = encoder(model="googlenet", weights=str(tmp_path / "googlenet.pth"))
    torch.testing.assert_close(given(Signal(values)).pooled, reference(values), rtol=1e-5, atol=1e-5)


def test_names_of_older_releases_are_known(tmp_path):
    torch.save({"features.denseblock1.denselayer2.norm.1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    torch.save({"encoder.layers.encoder_layer_0.mlp.linear_2.bias": torch.zeros(1)}, tmp_path / "b.pth")
    assert list(load("densenet121", str(tmp_path / "a.pth"))[0]) == ["features.denseblock1.denselayer2.norm1.weight"]
    assert list(load("vit_b_16", str(tmp_path / "b.pth"))[0]) == ["encoder.layers.encoder_layer_0.mlp.3.bias"]


@pytest.mark.slow
def test_the_position_embedding_of_a_transformer_is_interpolated_to_the_size_of_the_pictures(tmp_path):
    torch.save(network("vit_b_32", image_size=96).state_dict(), tmp_path / "vit.pth")
    reference = network("vit_b_32", seed=2, image_size=64)
    stored = torch.load(tmp_path / "vit.pth", weights_only=True)
    reference.load_state_dict(interpolate_embeddings(64, 32, stored))
    reference.heads = nn.Identity()
    spec = Spec("CHW", (3, 64, 64))
    given = encoder(spec, model="vit_b_32", weights=str(tmp_path / "vit.pth"))
    values = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(given(Signal(values)).pooled, reference(values), rtol=1e-5, atol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(network("squeezenet1_1").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(OptionError, match=r"other.safetensors is not of this network: it lacks conv1\.0\.weight"):
        encoder(weights=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V1"])
def test_named_weights_are_taken_from_the_folder_of_those_at_hand(weights, tmp_path):
    reference = network()
    (tmp_path / "weights").mkdir()
    torch.save(reference.state_dict(), tmp_path / "weights" / "shufflenetv2_x0.5-f707e7126e.pth")
    reference.fc = nn.Identity()
    values = torch.randn(2, 3, 40, 40)
    pooled = encoder(weights=weights)(Signal(values)).pooled
    torch.testing.assert_close(pooled, reference(values), rtol=1e-5, atol=1e-5)


def test_without_a_network_the_message_names_the_file_its_size_and_where_to_put_it(tmp_path):
    with pytest.raises(OptionError) as caught:
        encoder(model="resnet18", weights="default")
    told = str(caught.value)
    assert "resnet18-f37072fd.pth (45 MB) are not at hand and cannot be downloaded: " in told
    assert f"fetch {models.ResNet18_Weights.IMAGENET1K_V1.url} elsewhere" in told
    assert f"put it into {tmp_path / 'weights'} as resnet18-f37072fd.pth" in told


def test_unknown_names_are_told_with_those_that_there_are():
    with pytest.raises(OptionError, match=r"model: torchvision has no 'resnet19'.*did you mean 'resnet18'.*alexnet"):
        encoder(model="resnet19")
    with pytest.raises(OptionError, match=r"weights: resnet50 has no 'IMAGENET1K_V3'.*none, default, IMAGENET1K_V1"):
        encoder(model="resnet50", weights="IMAGENET1K_V3")


@pytest.mark.parametrize(
    ("model", "spec", "told"),
    [
        ("resnet18", Spec("CHW", (1, 64, 64)), "resnet18 takes 3 channels"),
        ("resnet18", Spec("CHW", (3, 64, None)), "resnet18 takes values of one size alone"),
        ("resnet18", Spec("TCHW", (4, 3, 64, 64)), r"resnet18 takes pictures \(CHW"),
        ("r3d_18", Spec("TCHW", (None, 3, 64, 64)), "per_step encodes clips that vary in length"),
        ("r3d_18", Spec("CHW", (3, 64, 64)), r"r3d_18 takes clips \(TCHW"),
        ("vit_b_16", Spec("CHW", (3, 64, 80)), "vit_b_16 takes squares whose side is a multiple of 16 pixels"),
        ("maxvit_t", Spec("CHW", (3, 64, 64)), "maxvit_t takes multiples of 224 pixels"),
        ("mvit_v2_s", Spec("TCHW", (8, 3, 224, 224)), "mvit_v2_s takes 16 frames of 224 x 224 pixels"),
        ("s3d", Spec("TCHW", (8, 3, 224, 224)), "s3d takes at least 14 frames"),
        ("inception_v3", Spec("CHW", (3, 64, 64)), "inception_v3 takes at least 75 pixels"),
    ],
)
def test_what_a_network_makes_nothing_of_is_refused(model, spec, told):
    with pytest.raises(SpecError, match=told):
        encoder(spec, model=model)


def test_clips_are_encoded():
    spec = Spec("TCHW", (3, 3, 16, 24))
    reference = network("mc3_18", seed=0)
    torch.manual_seed(0)
    given = encoder(spec, model="mc3_18")
    reference.fc = nn.Identity()
    values = torch.randn(2, 3, 3, 16, 24)
    pooled = given(Signal(values)).pooled
    torch.testing.assert_close(pooled, reference(values.transpose(1, 2)), rtol=1e-5, atol=1e-5)


def test_a_row_that_is_alone_in_training_is_encoded_and_others_change_no_row():
    given = encoder(Spec("CHW", (3, 32, 32)))
    values = torch.randn(3, 3, 32, 32)
    together = given(Signal(values)).pooled
    torch.testing.assert_close(given(Signal(values[[2, 0]])).pooled, together[[2, 0]], rtol=1e-5, atol=1e-5)
    assert given.train()(Signal(values[:1])).pooled.isfinite().all()
    assert given(Signal(values[:1])).pooled.shape == (1, given.out_features)


def test_half_precision_is_near():
    given, values = encoder(), torch.randn(2, 3, 40, 40)
    exact = given(Signal(values)).pooled
    with torch.autocast("cpu", torch.bfloat16):
        rough = given(Signal(values)).pooled
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def write_recipe(folder: Path, encoder: dict[str, object], **image: object) -> Path:
    generator = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(generator.integers(0, 255, (40, 50), np.uint8)).save(folder / f"{number}.png")
    lines = [f"{number}.png,{'ab'[number % 2]},{'train' if number < 16 else 'test'}" for number in range(24)]
    (folder / "table.csv").write_text("\n".join(["picture,label,split", *lines]))
    recipe = {
        "table": "table.csv",
        "target": {"column": "label"},
        "split": "split",
        "modalities": {"picture": {"type": "image", "column": "picture", "encoder": encoder, **image}},
        "training": {"epochs": 1, "batch_size": 8},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def image_options(recipe: Path) -> dict[str, object]:
    return resolve(read_recipe(recipe)).inputs["picture"].modality.options


def test_a_recipe_gets_the_size_the_resizing_and_the_normalisation_of_the_weights(tmp_path):
    recipe = write_recipe(tmp_path, {"name": "torchvision", "model": "efficientnet_b0"})
    image = image_options(recipe)
    assert image["size"] == 224
    assert image["resize"] == "crop"
    assert image["interpolation"] == "bicubic"
    assert image["channels"] == 3
    assert image["normalize"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def test_a_recipe_may_choose_another_size_but_no_other_normalisation_of_named_weights(tmp_path):
    chosen = {"name": "torchvision", "model": "resnet18"}
    recipe = write_recipe(tmp_path, chosen, size=96, resize="pad")
    image = image_options(recipe)
    assert (image["size"], image["resize"]) == (96, "pad")
    recipe = write_recipe(tmp_path, chosen, normalize="fitted")
    with pytest.raises(RecipeError, match=r"normalize: must be .* as encoder 'torchvision' needs it"):
        image_options(recipe)
    recipe = write_recipe(tmp_path, {**chosen, "weights": "own.pth"}, normalize="fitted")
    assert image_options(recipe)["normalize"] == "fitted"


def test_a_run_is_enough_without_the_file_and_what_is_frozen_stays(tmp_path):
    reference = network()
    save_file(reference.state_dict(), tmp_path / "own.safetensors")
    chosen = {"name": "torchvision", "model": SHUFFLENET, "weights": "own.safetensors", "freeze": 3, "layer_decay": 0.5}
    recipe = write_recipe(tmp_path, chosen, size=40)
    run = mmreg.train(recipe, tmp_path / "run")
    before = run.predict(tmp_path / "table.csv")
    trained = run.model.encoders["picture"].backbone
    kept = {name for name, tensor in trained.state_dict().items() if torch.equal(tensor, reference.state_dict()[name])}
    counts = {name for name in trained.state_dict() if name.endswith("num_batches_tracked")}
    frozen = {name for name in trained.state_dict() if name.startswith(("conv1", "stage2", "stage3"))}
    assert kept - counts == frozen - counts
    (tmp_path / "own.safetensors").unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    after = mmreg.load(tmp_path / "moved").predict(tmp_path / "table.csv")
    assert before == after


def test_the_files_of_what_is_suggested_are_torchvisions_default_ones():
    urls = {model: models.get_model_weights(model).DEFAULT.url for model in SUGGESTED}
    assert {model: url.rpartition("/")[2] for model, url in urls.items()} == SUGGESTED


def test_the_best_network_at_hand_is_suggested_frozen_with_its_size(tmp_path):
    assert TorchvisionEncoder.suggest("image", [], 100) is None
    (tmp_path / "weights").mkdir()
    for model in ("resnet18", "efficientnet_b0"):
        (tmp_path / "weights" / SUGGESTED[model]).write_bytes(bytes(2_000_000))
    suggested = TorchvisionEncoder.suggest("image", [], 100)
    assert suggested.options == {"model": "efficientnet_b0", "freeze": True}
    assert suggested.reason == "pretrained weights at hand (2.0 MB), frozen"
    assert TorchvisionEncoder.suggest("audio", [], 100) is None


def test_to_suggest_does_not_import_torchvision():
    code = (
        "import sys, mmreg_torchvision.encoder as e; e.TorchvisionEncoder.suggest('image', [], 9);"
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
