"""Pretrained models of texts: BERT and its kin, sentence transformers, the text towers of CLIP, SigLIP and CLAP.

Axes: B batch, T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg import TOKENS, Features, Signal, Spec
from mmreg.errors import OptionError
from mmreg.layers import length_mask
from mmreg_hf.encoder import HuggingFaceEncoder
from mmreg_hf.folders import TOKENIZER
from mmreg_hf.models import TOWERS
from mmreg_hf.reading import reads_folder
from mmreg_hf.tokens import read_tokens, usual_tokens


class HuggingFaceText(HuggingFaceEncoder):
    """A text model of Hugging Face's transformers, with its own tokenizer.

    The modality gets the model's tokenizer.json, and so the very numbers that transformers gives, the tokens that it
    adds among them. Of CLIP, SigLIP and CLAP the text tower alone is taken. Weights are read from safetensors files
    alone, and nothing that comes with a model is run. What a run needs of the model is in the run.

    Args:
        spec: tokens "T" by the model's tokenizer.
        model: the model's name on the hub, such as sentence-transformers/all-MiniLM-L6-v2, or a folder with its
            config.json, tokenizer.json and model.safetensors.
        pooling: what becomes of a text's tokens: their `mean`, the first one (`cls`), what the `model` makes of them
            itself, or that after the `projection` into the space that CLIP's or CLAP's towers share. If it is not
            given: `model` for towers, else `mean`. Not used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a token.

    Raises:
        OptionError: the model cannot be had, or is none that gives features of texts.
        SpecError: from a spec that `accepts` refuses.
    """

    kind = "text"
    tower = "text"
    wanted = ((TOKENIZER,),)

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
        """It takes tokens numbered by its own tokenizer; whose they are can only be told of a model that is at hand."""
        if spec.axes != TOKENS or spec.vocabulary_size is None or not spec.dtype.startswith(("int", "uint")):
            return f'it takes tokens "{TOKENS}" (such as text) that are integers below a known vocabulary size'
        known = cls.known_config(options) if "model" in options else None
        size = None if known is None else read_tokens(*known)["vocabulary_size"]
        if size in (None, spec.vocabulary_size):
            return None
        return f"the model's tokenizer makes a vocabulary of {size:,}; leave the modality's tokenizer to the encoder"

    @classmethod
    @reads_folder
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's tokenizer; no token is replaced, as a model has its own means against learning by heart."""
        needed = cls.needed_config(options)
        return {} if needed is None else {"tokenizer_file": str(needed[0] / TOKENIZER), "token_dropout": 0.0}

    @classmethod
    @reads_folder
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """No more tokens than the model has positions."""
        needed = cls.needed_config(options)
        return {} if needed is None else {"max_tokens": usual_tokens(*needed)}

    @reads_folder
    def read(self, folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """How tokens are numbered."""
        return read_tokens(folder, config)

    def usual_pooling(self) -> str:
        """Towers pool as they were trained to; others mostly by a mean."""
        return "model" if self.config.model_type in TOWERS else "mean"

    def smallest(self) -> Signal:
        """A single token."""
        return Signal(torch.full((1, self.spec.shape[0] or 1), self.facts["shift"] + 1))

    def forward(self, signal: Signal) -> Features:
        """Encode tokens (B, T) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        size = signal.values.shape[1]
        mask = None if signal.lengths is None else length_mask(signal.lengths, size)
        ids = self._ids(signal.values, mask)
        most = num_positions(self.network)
        if most is not None and size > most:
            raise OptionError(f"a text of {size} tokens, where the model has {most} positions: set max_tokens: {most}")
        if self.config.model_type == "siglip_text_model":
            # It has learned from texts that padding, which it sees, makes as long as there are positions.
            assert most is not None
            output = self.network(input_ids=functional.pad(ids, (0, most - size), value=self.facts["padding"]))
        else:
            attended = torch.ones_like(ids) if mask is None else mask.long()
            output = self.network(input_ids=ids, attention_mask=attended)
        return self.features(output, output.last_hidden_state[:, :size], mask)

    def _ids(self, numbers: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T) of the model's own numbers."""
        shift, size = self.facts["shift"], self.facts["size"]
        numbers = numbers.long()
        ids = torch.where(numbers < size + shift, numbers - shift, self.facts["unknown"])
        padding = ids < 0 if mask is None else ~mask | (ids < 0)
        return torch.where(padding, self.facts["padding"], ids)


def num_positions(network: nn.Module) -> int | None:
    """How many tokens a model has learned positions for; None if that is not limited."""
    for name, part in network.named_modules():
        last = name.rpartition(".")[2]
        if last in ("position_embeddings", "position_embedding", "wpe") and isinstance(part, nn.Embedding):
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    return None
