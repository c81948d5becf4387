"""Pretrained models of pictures: vision transformers and convolutional networks, the image towers of CLIP and SigLIP.

Axes: B batch, C channels, H W height and width, T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mmreg import GRID, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg_hf.encoder import HuggingFaceEncoder
from mmreg_hf.folders import PROCESSORS, read_processor
from mmreg_hf.models import TOWERS, takes
from mmreg_hf.pixels import pixels
from mmreg_hf.reading import reads_folder

CLASS_TOKENS = ("cls_token", "class_embedding")
"""What models call the token that stands for the whole picture."""


class HuggingFaceImage(HuggingFaceEncoder):
    """A picture model of Hugging Face's transformers.

    The modality gets mean, deviation and channels as the model's preprocessor has them, and its size where the recipe
    says none. Of CLIP and SigLIP the image tower alone is taken. Weights are read from safetensors files alone, and
    nothing that comes with a model is run. What a run needs of the model is in the run.

    Args:
        spec: pictures "CHW" of one size.
        model: the model's name on the hub, such as facebook/dinov2-small, or a folder with its config.json,
            preprocessor_config.json and model.safetensors.
        pooling: what becomes of a picture's patches: their `mean`, the class token (`cls`), what the `model` makes of
            them itself, or that after the `projection` into the space that CLIP's towers share. If it is not given:
            `cls` where there is a class token and no tower, else `model`. Not used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a patch, after those that stand for the whole.

    Raises:
        OptionError: the model cannot be had, or is none that gives features of pictures.
        SpecError: from a spec that `accepts` refuses.
    """

    kind = "image"
    tower = "vision"
    wanted = (PROCESSORS,)

    def __init__(
        self,
        spec: Spec,
        *,
        pooling: Literal["mean", "cls", "model", "projection"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spec, pooling=pooling, **options)

    @classmethod
    @reads_folder
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes pictures of one size with the model's channels and at least one patch, if the model is at hand."""
        sized = spec.axes == GRID and "float" in spec.dtype and None not in spec.shape
        if not sized:
            return f'it takes pictures "{GRID}" of floating-point numbers, all of one size'
        known = cls.known_config(options) if "model" in options else None
        if known is None:
            return None
        channels, patch = known[1].get("num_channels", 3), _patch(known[1])
        height, width = int(spec.shape[1] or 0), int(spec.shape[2] or 0)
        if spec.shape[0] != channels:
            return f"the model takes pictures of {channels} channels"
        if min(height, width) < patch:
            return f"the model takes pictures of at least {patch} pixels each way"
        return None

    @classmethod
    @reads_folder
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Channels, mean and deviation of the model's preprocessor."""
        needed = cls.needed_config(options)
        return {} if needed is None else pixels(read_processor(needed[0], "image_processor"), needed[1])[0]

    @classmethod
    @reads_folder
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The size that the model was trained at, and how pictures came to it."""
        needed = cls.needed_config(options)
        return {} if needed is None else pixels(read_processor(needed[0], "image_processor"), needed[1])[1]

    @reads_folder
    def read(self, folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing: the modality makes the inputs."""
        return {}

    def usual_pooling(self) -> str:
        """The class token, which features are mostly read from; what else there is pools by itself."""
        names = {name.rpartition(".")[2] for name, _ in self.network.named_parameters()}
        has_class = not names.isdisjoint(CLASS_TOKENS)
        return "cls" if has_class and self.config.model_type not in TOWERS else "model"

    def smallest(self) -> Signal:
        """A single black picture."""
        return Signal(torch.zeros(1, *(size or 1 for size in self.spec.shape)))

    def forward(self, signal: Signal) -> Features:
        """Encode (B, C, H, W) to pooled (B, D), or to tokens (B, T, D)."""
        size = list(signal.values.shape[2:])
        trained = getattr(self.config, "image_size", None)
        others = trained is not None and size != ([trained] * 2 if isinstance(trained, int) else list(trained))
        further = {}
        if others and takes(self.network, "interpolate_pos_encoding"):
            further["interpolate_pos_encoding"] = True
        elif others and not _takes_any_size(self.network):
            told = f"pictures of {size[0]} x {size[1]} pixels, where the model takes {trained}: leave out the size"
            raise SpecError(f"hf_image: {told}")
        output = self.network(pixel_values=signal.values, **further)
        tokens = output.last_hidden_state
        if tokens.dim() == 4:  # a map (B, D, H', W')
            return self.features(output, tokens.flatten(2).transpose(1, 2), None)
        return self.features(output, tokens, None, max(0, tokens.shape[1] - self._num_patches(size)))

    def _num_patches(self, size: list[int]) -> int:
        patch = _patch(self.config.to_dict())
        return (size[0] // patch) * (size[1] // patch)


def _patch(config: Mapping[str, Any]) -> int:
    """The side of a patch."""
    patch = config.get("patch_size", 1)
    if isinstance(patch, list | tuple) and patch:
        patch = max(patch)
    return patch if isinstance(patch, int) and patch > 0 else 1


def _takes_any_size(network: nn.Module) -> bool:
    """Whether a model has no learned positions, or fits them to a picture by itself."""
    positions = any("position_embedding" in name for name, _ in network.named_parameters())
    return not positions or any(hasattr(part, "interpolate_pos_encoding") for part in network.modules())
