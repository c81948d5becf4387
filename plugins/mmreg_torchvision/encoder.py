"""The networks of torchvision as an encoder of pictures and clips.

Axes: B batch, C channels, T time, H W height and width, N positions of the last feature map, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from mmreg import GRID, Encoder, EncoderSuggestion, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import SpecError
from mmreg.messages import byte_size
from mmreg.pretrained import load_weights, small_pictures, weights_at_hand

# Torchvision takes a second to import, which `mmreg init` would wait for to no avail where no weights are at hand: so
# what needs it is imported where it is used.

CLIP = "TCHW"
SUGGESTED = {
    "convnext_tiny": "convnext_tiny-983f1562.pth",
    "resnet50": "resnet50-11ad3fa6.pth",
    "efficientnet_b0": "efficientnet_b0_rwightman-7f5810bc.pth",
    "mobilenet_v3_large": "mobilenet_v3_large-5c1a4163.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "mobilenet_v3_small": "mobilenet_v3_small-047dcff4.pth",
}
"""Networks of moderate size, the most accurate on ImageNet first, and the files of their default weights."""


class TorchvisionEncoder(Encoder):
    """Any of torchvision's networks for pictures (CHW) or clips of a fixed number of frames (TCHW), pretrained.

    Pooled are the features that its last layer would get; tokens are the positions of the last feature map, row by row,
    or a transformer's patches. Height and width are free but for transformers, of which `vit_*` take squares of whole
    patches (their position embedding is interpolated), `maxvit_t` multiples of 224 and `mvit_*` 16 frames of 224 x 224.

    Args:
        model: its name in torchvision, such as resnet18, convnext_tiny, vit_b_16, or for clips r3d_18.
        weights: "default" or another name of torchvision's, such as IMAGENET1K_V2; the path of a file with the state
            dict of such a network, of whatever classes; or "none" to begin at random.
        checkpoint_gradients: compute each stage a second time in the backward pass, instead of keeping all that is in
            it: a third more time, for much less memory.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        model: str = "resnet18",
        weights: WeightsAsset = "default",
        checkpoint_gradients: bool = False,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        from mmreg_torchvision.backbones import make_backbone, make_network
        from mmreg_torchvision.weights import AUXILIARY, check_model, load

        check_model(model)
        if reason := self.accepts(spec, {"model": model}):
            raise SpecError(f"torchvision does not take {spec}: {reason}")
        sizes = [size for size in spec.shape[-2:] if size is not None]
        pretrained = weights != "none" and not restored
        given, source = load(model, weights) if pretrained else ({}, "")
        network = make_network(model, sizes, initialized=not (pretrained or restored))
        whole = set(network.state_dict())
        self.backbone = make_backbone(network, outputs == "tokens", checkpoint_gradients)
        self.out_features = self.backbone.out_features
        if pretrained:
            left_out = whole - set(self.backbone.state_dict())
            given = {k: v for k, v in given.items() if k not in left_out and not k.startswith(AUXILIARY)}
            if model.startswith("vit_"):
                given = _interpolated(given, sizes[0], int(model.rpartition("_")[2]))
            load_weights(self.backbone, given, source)
        self.is_clip = spec.axes == CLIP
        self.has_batch_norm = any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d) for m in self.modules())

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """Refuse what is no picture in color, or clip, of one size that the network makes something of."""
        from mmreg_torchvision.weights import clips, least_sizes, pictures

        model = options.get("model", "resnet18")
        if model not in [*pictures(), *clips()]:
            return None  # the constructor tells of it
        axes = CLIP if model in clips() else GRID
        if spec.axes != axes or not spec.dtype.startswith(("float", "bfloat")):
            what = "clips" if axes == CLIP else "pictures"
            return f"{model} takes {what} ({axes}, floating point)"
        if spec.size("C") != 3:
            return f"{model} takes 3 channels"
        if None in spec.shape:
            varying = "; per_step encodes clips that vary in length by a network for pictures" if axes == CLIP else ""
            return f"{model} takes values of one size alone{varying}"
        frames, least = least_sizes(model)
        height, width = spec.shape[-2], spec.shape[-1]
        assert height is not None
        assert width is not None
        if model.startswith("vit_"):
            patch = int(model.rpartition("_")[2])
            fits = height == width and height % patch == 0
            return None if fits else f"{model} takes squares whose side is a multiple of {patch} pixels"
        if model.startswith("maxvit"):
            return None if height % 224 == width % 224 == 0 else f"{model} takes multiples of 224 pixels each way"
        if model.startswith("mvit"):
            fits = spec.shape == (frames, 3, least, least)
            return None if fits else f"{model} takes {frames} frames of {least} x {least} pixels"
        if min(height, width) < least:
            return f"{model} takes at least {least} pixels each way"
        if axes == CLIP and (spec.shape[0] or 0) < frames:
            return f"{model} takes at least {frames} frames"
        return None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Three channels, normalised as for the weights if these are torchvision's own."""
        from mmreg_torchvision.weights import is_name

        needed = {"channels": 3}
        if is_name(options["weights"]):
            needed |= {key: value for key, value in cls._preprocessing(options).items() if key == "normalize"}
        return needed

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The size and resizing that the weights were trained with, and of a file its model's normalisation."""
        return {} if options["weights"] == "none" else cls._preprocessing(options)

    @classmethod
    def _preprocessing(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        from mmreg.errors import OptionError
        from mmreg_torchvision.weights import preprocessing

        try:
            return preprocessing(options["model"], options["weights"])
        except OptionError:  # the constructor tells of it
            return {}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """The best network of moderate size whose weights are at hand, frozen."""
        if modality != "image" or small_pictures(options):
            return None
        for model, name in SUGGESTED.items():
            file = weights_at_hand(name)
            if file is not None:
                reason = f"pretrained weights at hand ({byte_size(file.stat().st_size)}), frozen"
                return EncoderSuggestion({"model": model, "freeze": True}, reason)
        return None

    @classmethod
    def conformance_material(cls) -> Mapping[str, Any]:
        """A small network at random."""
        return {
            "options": {"model": "shufflenet_v2_x0_5", "weights": "none"},
            "specs": [Spec(GRID, (3, 40, 33))],
        }

    def stages(self) -> Sequence[nn.Module]:
        """The network's own stages, or a transformer's embedding of patches and its layers."""
        return self.backbone.stages()

    def forward(self, signal: Signal) -> Features:
        """Encode (B, 3, H, W) or (B, T, 3, H, W) to pooled (B, D), or to tokens (B, N, D)."""
        values = signal.values.transpose(1, 2) if self.is_clip else signal.values
        # A batch norm takes no single value of a channel, which a small picture alone may come to: it is there twice.
        alone = self.training and self.has_batch_norm and len(values) == 1
        result = self.backbone(values.expand(2, *values.shape[1:]) if alone else values)[: values.shape[0]]
        return Features(tokens=result) if self.backbone.tokens else Features(pooled=result)


def _interpolated(weights: Mapping[str, Any], image_size: int, patch_size: int) -> dict[str, Any]:
    """Weights of a vision transformer whose position embedding is that of pictures of a size."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    if "encoder.pos_embedding" not in weights:
        return dict(weights)  # loading them tells what is missing
    return dict(interpolate_embeddings(image_size, patch_size, dict(weights)))
