"""The picture networks of timm as an encoder.

Axes: B batch, C channels, H W height and width, N positions of the last feature map, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from mmreg import GRID, Encoder, EncoderSuggestion, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import OptionError, SpecError
from mmreg.messages import byte_size, one_line
from mmreg.pretrained import read_weights, small_pictures, weights_folder

# Timm takes seconds to import, which `mmreg init` would wait for to no avail where no weights are at hand: so what
# needs it is imported where it is used.

LEAST = 32
"""Pixels each way; most networks see a 32nd of them in the end."""
SUGGESTED = {
    "convnext_tiny": "in12k_ft_in1k",
    "resnet50": "a1_in1k",
    "mobilenetv3_large_100": "ra_in1k",
    "efficientnet_lite0": "ra_in1k",
    "resnet18": "a1_in1k",
}
"""Networks of moderate size, the most accurate on ImageNet first, and the tags of their default weights."""


class TimmEncoder(Encoder):
    """Any of timm's networks for pictures, pretrained.

    Pooled is what timm's own pooling gives; tokens are the positions of the last feature map, row by row, or a
    transformer's patches.

    Args:
        model: its name in timm, such as efficientnet_lite0, or with the tag of one of several pretrained weights, as in
            vit_small_patch16_224.augreg_in1k.
        weights: "default" for timm's own; the path of a file with the state dict of such a network, of whatever
            classes; or "none" to begin at random.
        checkpoint_gradients: compute each part a second time in the backward pass, instead of keeping all that is in
            it: a third more time, for much less memory. Running statistics of batch norms then move twice a step.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        model: str,
        weights: WeightsAsset = "default",
        checkpoint_gradients: bool = False,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        from mmreg_timm.network import make_network, try_network
        from mmreg_timm.weights import default_weights, pretrained_config

        pretrained_config(model)
        if reason := self.accepts(spec, {"model": model}):
            raise SpecError(f"timm does not take {spec}: {reason}")
        _, height, width = spec.shape
        assert height is not None
        assert width is not None
        source = None
        if weights != "none" and not restored:
            source = default_weights(model) if weights == "default" else _file(weights)
        given = None if source is None else read_weights(source)
        self.tokens = outputs == "tokens"
        try:
            self.network = make_network(model, (height, width), given, str(source))
            self.out_features = try_network(self.network, (height, width), self.tokens)
        except OptionError:
            raise
        except Exception as error:  # networks raise several kinds
            raise SpecError(f"timm does not take {spec}: {model} fails at this size: {one_line(error)}") from error
        if checkpoint_gradients:
            try:
                self.network.set_grad_checkpointing(True)
            except (AssertionError, AttributeError) as error:
                raise OptionError(f"checkpoint_gradients: {model} does not support it; leave it out") from error
        self.has_batch_norm = any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in self.modules())

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """Refuse what is no picture in color of one size; the constructor finds out about the size itself."""
        if spec.axes != GRID or not spec.dtype.startswith(("float", "bfloat")) or spec.size("C") != 3:
            return f"it takes pictures ({GRID}, floating point) with 3 channels"
        if any(size is None or size < LEAST for size in spec.shape[1:]):
            return f"it takes pictures all of one size of at least {LEAST} pixels each way"
        return None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Three channels, normalised as for the weights if these are timm's own."""
        needed: dict[str, Any] = {"channels": 3}
        if options["weights"] == "default":
            needed |= {key: value for key, value in cls._preprocessing(options).items() if key == "normalize"}
        return needed

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The size and resizing that the weights were trained with, and of a file its model's normalisation."""
        return {} if options["weights"] == "none" else cls._preprocessing(options)

    @classmethod
    def _preprocessing(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        from mmreg_timm.weights import preprocessing

        try:
            return preprocessing(options["model"])
        except OptionError:  # the constructor tells of it
            return {}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """The best network of moderate size whose weights are in the folder of those at hand, frozen."""
        if modality != "image" or small_pictures(options) or not weights_folder().is_dir():
            return None
        files = {path.name: path for path in weights_folder().iterdir() if path.suffix == ".safetensors"}
        for model, tag in SUGGESTED.items():
            file = files.get(f"{model}.{tag}.safetensors", files.get(f"{model}.safetensors"))
            if file is not None:
                reason = f"pretrained weights at hand ({byte_size(file.stat().st_size)}), frozen"
                return EncoderSuggestion({"model": model, "weights": file.name, "freeze": True}, reason)
        return None

    @classmethod
    def conformance_material(cls) -> Mapping[str, Any]:
        """A tiny network at random."""
        return {"options": {"model": "test_resnet", "weights": "none"}, "specs": [Spec(GRID, (3, 40, 33))]}

    def stages(self) -> Sequence[nn.Module]:
        """The groups in which timm sees the network's parameters: its stem, its stages or layers, and its end."""
        from mmreg_timm.network import network_stages

        return network_stages(self.network)

    def forward(self, signal: Signal) -> Features:
        """Encode (B, 3, H, W) to pooled (B, D), or to tokens (B, N, D)."""
        from mmreg_timm.network import network_tokens

        values = signal.values
        # A batch norm takes no single value of a channel, which a small picture alone may come to: it is there twice.
        alone = self.training and self.has_batch_norm and len(values) == 1
        given = values.expand(2, *values.shape[1:]) if alone else values
        if self.tokens:
            return Features(tokens=network_tokens(self.network, given)[: values.shape[0]])
        return Features(pooled=self.network(given)[: values.shape[0]])


def _file(weights: str) -> str:
    if not Path(weights).is_absolute():
        raise OptionError(f'weights: there is no file {weights}; give the path of one, "default", or "none"')
    return weights
