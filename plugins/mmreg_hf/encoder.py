"""What the encoders of texts, pictures and sounds have in common: how a model is built, saved, restored and trained.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import Encoder, EncoderSuggestion, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import OptionError, SpecError
from mmreg.layers import masked_mean
from mmreg.messages import listed
from mmreg.pretrained import Lora, add_lora, small_pictures
from mmreg_hf.fit import check_complete
from mmreg_hf.folders import CONFIG, WEIGHTS, Wanted, commit_of, find_folder
from mmreg_hf.models import (
    Tower,
    compute_layers_again,
    layer_stages,
    load_model,
    make_config,
    make_model,
    plain_config,
    read_config,
    unused_parameters,
)

Weights = Literal["default", "none"]


class HuggingFaceEncoder(Encoder):
    """A model of transformers; a subclass says what its inputs are.

    The state holds the model's configuration and `facts`, what else was read beside it, so that a run is restored
    without the folder, the cache or the hub.

    Args:
        spec: what the modality gives.
        model: the model's name on the hub, or a folder.
        revision: a branch, tag or commit on the hub; what the cache has of its main branch, or the latest.
        weights: `default` for the pretrained ones, `none` for random ones.
        pooling: how tokens become one vector.
        lora: the rank of adapters that are trained instead of the weights (LoRA, Hu et al. 2022), or {rank, alpha,
            dropout, targets}: alpha is twice the rank, targets are the ends of linear layers' names, all by default.
        checkpoint_gradients: whether to compute each layer again for its gradients instead of keeping what it
            computed: less memory, about a third more time.
        outputs: "pooled", or "tokens" for a sequence of vectors.
        restored: whether state and weights come from a run.

    Attributes:
        kind: what its inputs are: text, image or audio.
        tower: the part that is taken of a model that has several.
        wanted: the files that it needs besides the weights.
        network: the model.
        config: its configuration.
        facts: what `read` gave.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})
    kind: ClassVar[str]
    tower: ClassVar[Tower]
    wanted: ClassVar[Wanted]

    def __init__(
        self,
        spec: Spec,
        *,
        model: WeightsAsset,
        revision: str | None = None,
        weights: Weights = "default",
        pooling: str | None = None,
        lora: Annotated[int, Ge(1)] | Lora | None = None,
        checkpoint_gradients: bool = False,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.outputs, self.lora = spec, outputs, lora
        self.checkpoint_gradients = checkpoint_gradients
        self.pooling = pooling or ""
        if not restored:
            given = {"model": model, "revision": revision}
            if reason := self.accepts(spec, given):
                raise SpecError(f"it does not take {spec}: {reason}")
            self._build(model, revision, weights)

    def _build(self, model: str, revision: str | None, weights: Weights) -> None:
        loads = weights == "default"
        folder = find_folder(model, revision, (*self.wanted, (CONFIG,), *([WEIGHTS] if loads else ())))
        assert folder is not None
        config = read_config(folder, self.tower)
        self._take(config, self.read(folder, config))
        self.source = {"model": model, "commit": commit_of(folder)} if commit_of(folder) else {}
        missing: set[str] = set()
        if loads:
            self.network, missing = load_model(self.config, self._projected, folder)
        else:
            self.network = make_model(self.config, self._projected)
        self.prepare()
        self.pooling = self.pooling or self.usual_pooling()
        self.out_features, unused = self._try(folder)
        check_complete(self.network, missing, unused, folder)
        if self.lora is not None:
            add_lora(self.network, self.lora)
            _, unused = self._try(folder)
        self.unused = sorted(unused)
        self._finish()

    def _take(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.config, self.facts = make_config(config), dict(facts)
        self.adapt(self.config)

    def _try(self, folder: Path) -> tuple[int, set[str]]:
        """The size of the features, and the parameters that they do not depend on, by encoding a single row.

        Raises:
            OptionError: the features are not finite.
        """
        was_training = self.training
        with torch.enable_grad():
            found = self.eval()(self.smallest())
        self.train(was_training)
        features: Tensor = found.pooled if found.tokens is None else found.tokens
        if not bool(features.isfinite().all()):
            files = listed(name for names in (*self.wanted, (CONFIG,)) for name in names if (folder / name).is_file())
            raise OptionError(
                f"model: what the model in {folder} makes of a single row is not finite; the likely cause is a wrong "
                f"number in its settings ({files})"
            )
        return features.shape[-1], unused_parameters(self.network, features)

    def _finish(self) -> None:
        """What holds of a model whether it is built or restored; its mode is that of a module that begins to learn."""
        for name in self.unused:
            self.network.get_parameter(name).requires_grad_(False)
        if self.checkpoint_gradients:
            compute_layers_again(self.network)
        self.train()

    @property
    def _projected(self) -> bool:
        return self.pooling == "projection" and self.outputs == "pooled"

    def state(self) -> dict[str, Any]:
        """The model's configuration, where it came from, and what was found out of it."""
        return {
            "config": plain_config(self.config.to_dict()),
            "facts": self.facts,
            "pooling": self.pooling,
            "out_features": self.out_features,
            "unused": self.unused,
            "source": self.source,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Make the model with random weights; a run's own are loaded afterwards."""
        self._take(state["config"], state["facts"])
        self.pooling, self.source = state["pooling"], dict(state["source"])
        self.out_features, self.unused = state["out_features"], list(state["unused"])
        self.network = make_model(self.config, self._projected)
        self.prepare()
        if self.lora is not None:
            add_lora(self.network, self.lora)
        self._finish()

    def stages(self) -> Sequence[nn.Module]:
        """What comes before the model's layers (embeddings, convolutions), then each layer."""
        return layer_stages(self.network)

    def features(self, output: Any, tokens: Tensor, mask: Tensor | None, first: int = 0) -> Features:
        """What is asked for of a model's output.

        Args:
            output: the model's.
            tokens: (B, T, D), its last layer's.
            mask: (B, T), the valid ones; None for all.
            first: how many tokens at the beginning stand for the whole, and are left out of a mean.
        """
        if self.outputs == "tokens":
            return Features(tokens=tokens, mask=mask)
        if self.pooling == "mean":
            pooled = masked_mean(tokens[:, first:], None if mask is None else mask[:, first:])
        elif self.pooling == "cls":
            pooled = tokens[:, 0]
        else:
            projected = ("text_embeds", "image_embeds", "audio_embeds")
            names = projected if self.pooling == "projection" else ("pooler_output",)
            own = [output[name] for name in names if output.get(name) is not None]
            if not own:
                raise OptionError(f"pooling: a {self.config.model_type} has no pooling of its own; choose mean or cls")
            pooled = own[0].flatten(1)
        return Features(pooled=pooled)

    @classmethod
    def known_config(cls, options: Mapping[str, Any]) -> tuple[Path, dict[str, Any]] | None:
        """The folder and configuration of a model that is at hand, with all files but the weights; else None."""
        folder = find_folder(options["model"], options.get("revision"), (*cls.wanted, (CONFIG,)), local=True)
        return None if folder is None else (folder, read_config(folder, cls.tower))

    @classmethod
    def needed_config(cls, options: Mapping[str, Any]) -> tuple[Path, dict[str, Any]] | None:
        """The same, from the hub if it is not at hand; None for a folder that is not there, which is told elsewhere."""
        if Path(options["model"]).is_absolute() and not Path(options["model"]).exists():
            return None
        folder = find_folder(options["model"], options.get("revision"), (*cls.wanted, (CONFIG,)))
        assert folder is not None
        return folder, read_config(folder, cls.tower)

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """A well-known model of Hugging Face's cache, frozen, if one is there."""
        from mmreg_hf.at_hand import suggestion

        if cls.kind == "image" and small_pictures(options):
            return None
        return suggestion(f"hf_{cls.kind}", modality)

    def adapt(self, config: Any) -> None:
        """Change a configuration before the model is made; mostly not at all."""

    def prepare(self) -> None:
        """Change a model that was made, before anything is computed; mostly not at all."""

    @abstractmethod
    def read(self, folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is to be known of a folder besides the configuration, as plain JSON data.

        Raises:
            OptionError: the model's inputs cannot be made.
        """

    @abstractmethod
    def usual_pooling(self) -> str:
        """How tokens are pooled where no option says it."""

    @abstractmethod
    def smallest(self) -> Signal:
        """A signal of one row."""
