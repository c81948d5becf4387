"""Picture models give what transformers gives for the same pictures, as its own preprocessors make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from transformers import AutoImageProcessor, AutoModel

from mmreg import Signal, Spec, registry
from mmreg.errors import OptionError, SpecError
from mmreg.testing import run_checks
from mmreg_hf.image import HuggingFaceImage
from mmreg_hf.models import quiet
from mmreg_hf.pixels import pixels

SPEC = Spec("CHW", (3, 16, 16))
FAMILIES = ["vit", "clip", "siglip", "convnext"]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pictures")
    return {name: getattr(tiny_models, name)(place / name) for name in FAMILIES}


def signal(folder: Path, pictures: Any = PICTURES) -> Signal:
    """Pictures as the modality gives them to the encoder."""
    options = HuggingFaceImage.modality_options({"model": str(folder)})
    modality: Any = registry.get("modality", "image")(size=list(pictures.shape[2:]), augment="none", **options)
    return modality.transform(Signal(torch.from_numpy(pictures)), training=False)


def built(folder: Path, spec: Spec = SPEC, **options: Any) -> HuggingFaceImage:
    torch.manual_seed(0)
    return HuggingFaceImage(spec, model=str(folder), **options).eval()


def reference(folder: Path, **further: Any) -> tuple[Any, Any]:
    """The model of transformers, and what it makes of the pictures that its own preprocessor made."""
    with quiet(), torch.no_grad():
        model = AutoModel.from_pretrained(folder).eval()
        processor = AutoImageProcessor.from_pretrained(folder)
        values = processor(images=list(PICTURES), return_tensors="pt")["pixel_values"]
        return model, getattr(model, "vision_model", model)(pixel_values=values, **further)


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_are_what_the_models_own_preprocessor_makes(folders: dict[str, Path], name: str) -> None:
    with quiet():
        processor = AutoImageProcessor.from_pretrained(folders[name])
    expected = processor(images=list(PICTURES), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(signal(folders[name]).values, expected, atol=1e-5, rtol=1e-5)
    assert HuggingFaceImage.modality_defaults({"model": str(folders[name])})["size"] == 16


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_the_model_of_transformers(folders: dict[str, Path], name: str) -> None:
    _, output = reference(folders[name])
    tokens = output.last_hidden_state
    if name == "convnext":
        tokens = tokens.flatten(2).transpose(1, 2)
    found = built(folders[name], outputs="tokens")(signal(folders[name]))
    torch.testing.assert_close(found.tokens, tokens, atol=1e-5, rtol=1e-5)
    assert found.mask is None
    patches = tokens[:, 1:] if name in ("vit", "clip") else tokens
    expected = {"mean": patches.mean(1), "cls": tokens[:, 0], "model": output.pooler_output}
    for pooling, pooled in expected.items():
        encoder = built(folders[name], pooling=pooling)
        torch.testing.assert_close(encoder(signal(folders[name])).pooled, pooled.flatten(1), atol=1e-5, rtol=1e-5)
        assert encoder.out_features == 16


def test_a_projection_leads_into_the_space_of_both_towers(folders: dict[str, Path]) -> None:
    model, output = reference(folders["clip"])
    encoder = built(folders["clip"], pooling="projection")
    expected = model.visual_projection(output.pooler_output)
    torch.testing.assert_close(encoder(signal(folders["clip"])).pooled, expected, atol=1e-5, rtol=1e-5)
    assert encoder.out_features == 12


def test_each_model_pools_as_its_kind_does(folders: dict[str, Path]) -> None:
    found = {name: built(folder).pooling for name, folder in folders.items()}
    assert found == {"vit": "cls", "clip": "model", "siglip": "model", "convnext": "model"}


@pytest.mark.parametrize("name", ["vit", "clip", "siglip"])
def test_positions_are_interpolated_for_another_size(folders: dict[str, Path], name: str) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, 24, 16), np.uint8)
    given = signal(folders[name], pictures)
    with quiet(), torch.no_grad():
        model = AutoModel.from_pretrained(folders[name]).eval()
        tower = getattr(model, "vision_model", model)
        expected = tower(pixel_values=given.values, interpolate_pos_encoding=True).last_hidden_state
    found = built(folders[name], Spec("CHW", (3, 24, 16)), outputs="tokens")(given)
    torch.testing.assert_close(found.tokens, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
def test_what_has_no_part_in_the_features_is_not_trained(folders: dict[str, Path], name: str, outputs: Any) -> None:
    encoder = built(folders[name], outputs=outputs).train()
    found = encoder(signal(folders[name]))
    (found.pooled if outputs == "pooled" else found.tokens).square().sum().backward()
    left = {name for name, parameter in encoder.network.named_parameters() if parameter.grad is None}
    assert left == set(encoder.unused)
    starts = ("pooler.", "head.", "post_layernorm.", "layernorm.")
    assert all(name.startswith(starts) for name in left), left


def test_channels_and_sizes_that_do_not_fit_are_refused(folders: dict[str, Path]) -> None:
    options = {"model": str(folders["vit"])}
    assert HuggingFaceImage.accepts(Spec("CHW", (1, 16, 16)), options) == "the model takes pictures of 3 channels"
    assert "at least 8 pixels each way" in (HuggingFaceImage.accepts(Spec("CHW", (3, 4, 16)), options) or "")
    assert "all of one size" in (HuggingFaceImage.accepts(Spec("CHW", (3, None, 16)), options) or "")
    with pytest.raises(SpecError, match="of 3 channels"):
        built(folders["vit"], Spec("CHW", (1, 16, 16)))


@pytest.mark.parametrize(
    ("processor", "needed", "suitable"),
    [
        ({"do_normalize": False, "size": 32}, "none", {"size": 32, "resize": "stretch"}),
        (
            {"rescale_factor": 1 / 127.5, "offset": True, "do_normalize": False, "size": {"shortest_edge": 20}},
            {"mean": [0.5] * 3, "std": [0.5] * 3},
            {"size": 20, "resize": "crop"},
        ),
        (
            {
                "do_center_crop": True,
                "crop_size": {"height": 20, "width": 24},
                "size": {"shortest_edge": 30},
                "resample": 3,
            },
            {"mean": [0.5] * 3, "std": [0.5] * 3},
            {"size": [20, 24], "resize": "crop", "interpolation": "bicubic"},
        ),
    ],
)
def test_preprocessors_become_options_of_the_modality(processor: Any, needed: Any, suitable: Any) -> None:
    found = pixels(processor, {"num_channels": 3})
    assert found[0]["channels"] == 3
    assert found[1] == suitable
    if needed == "none":
        assert found[0]["normalize"] == needed
    else:
        assert {key: pytest.approx(numbers) for key, numbers in found[0]["normalize"].items()} == needed


def test_a_mean_of_other_channels_is_refused() -> None:
    with pytest.raises(OptionError, match=r"image_mean of its preprocessor is \[0.5\], where 3 numbers are needed"):
        pixels({"image_mean": [0.5]}, {})


def test_it_conforms(folders: dict[str, Path]) -> None:
    report = run_checks("encoder/hf_image", options={"model": str(folders["clip"])}, specs=[SPEC])
    assert report.ok, str(report)
    assert {result.check for result in report.of("skipped")} <= {"devices", "padding", "shortest_length"}
