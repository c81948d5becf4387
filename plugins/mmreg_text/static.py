"""The static encoder: every token has one pretrained vector, and a text is their mean."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Gt
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from torch.nn import functional

from mmreg import TOKENS, Asset, Encoder, EncoderSuggestion, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import SpecError
from mmreg.layers import length_mask
from mmreg_text.bag import weighted_tokens
from mmreg_text.table import (
    TableShape,
    find_table,
    read_table,
    size_refusal,
    table_at_hand,
    table_options,
    tokenizer_path,
)

LENGTH = 8.0
"""Of a vector, from which a head learns better at the usual rate of 0.001 than from one as long as 1."""


class StaticEmbedding(Encoder):
    """A table of pretrained vectors, one for each token of a tokenizer, and their mean over a text's tokens.

    For the tables of model2vec and wordllama, and of word vectors that were converted. A text costs a look-up, and a
    frozen one leaves nothing to learn but the head.

    Args:
        spec: tokens "T" with a vocabulary size, or them by the name `tokens` and by `weights` what each counts.
        weights: a safetensors file with the table (V, D), a folder with model.safetensors (or the only safetensors
            file in it), or `wordllama` for the one that this package brings. Of several tensors, the table is the one
            that is called embedding.weight, embeddings, embedding, vectors or weight, or else the only one with two
            axes. Beside it, `weights` (V,) multiply its rows and `mapping` (V,) says which row a token has, as
            model2vec writes them.
        tokenizer: the tokenizer.json whose numbers are the table's rows. Without it: the one beside `weights`.
        pooling: `mean`, or `sif`, in which a token counts a / (a + p), where p is its share of the tokens of the
            training texts and a is 0.001 (Arora et al. 2017, without their removal of a common direction).
        normalize: whether the mean is divided by its Euclidean length, as model2vec and sentence encoders do.
        scale: what the result is multiplied by; 8 if it is not given and the mean is divided by its length, as a head
            learns better from such vectors at the usual rate, else 1.
        skip_unknown: whether unknown tokens are left out of the mean, as model2vec does; a text of nothing else is 0.
        outputs: "pooled", or "tokens" for one vector a token.

    Raises:
        OptionError: no such file, or no table that goes with the tokenizer.
        SpecError: from a spec that `accepts` refuses.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})
    multiple_arrays: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec | Mapping[str, Spec],
        *,
        weights: WeightsAsset,
        tokenizer: Asset | None = None,
        pooling: Literal["mean", "sif"] = "mean",
        normalize: bool = True,
        scale: Annotated[float, Gt(0)] | None = None,
        skip_unknown: bool = False,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {"pooling": pooling}):
            raise SpecError(f"static_embedding does not take {spec}: {reason}")
        self.normalize = normalize
        self._given_scale = scale
        self.scale = scale or (LENGTH if normalize and outputs == "pooled" else 1.0)
        self.skip_unknown = skip_unknown
        self.outputs = outputs
        if not restored:
            tokens = spec if isinstance(spec, Spec) else spec["tokens"]
            assert tokens.vocabulary_size is not None
            rows, unknown = read_table(find_table(weights), tokenizer_path(weights, tokenizer), tokens.vocabulary_size)
            self._make(TableShape(len(rows), rows.shape[1], unknown))
            with torch.no_grad():
                self.embedding.weight.copy_(rows)

    def _make(self, shape: TableShape) -> None:
        self.shape = shape
        self.embedding = nn.Embedding(shape.rows, shape.size, padding_idx=0)
        self.out_features = shape.size

    def state(self) -> dict[str, Any]:
        """The table's shape, the number of the unknown token, and what vectors of which outputs are multiplied by."""
        return {**self.shape._asdict(), "scale": self.scale, "outputs": self.outputs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Make the table that `state` describes; its rows are loaded afterwards."""
        shape = dict(state)
        scale = shape.pop("scale", 1.0)  # which was the default when states did not say it
        if shape.pop("outputs", self.outputs) == self.outputs:  # else begun from an encoder that gave the other
            self.scale = self._given_scale or scale
        self._make(TableShape(**shape))

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        """It takes the tokens of its tokenizer, if that is at hand; with weights exactly where it pools by them."""
        tokens, weights = weighted_tokens(spec)
        if tokens is None or (weights is None) != (options.get("pooling", "mean") == "mean"):
            return f'it takes tokens "{TOKENS}" below a known vocabulary size, and with `pooling: sif` their weights'
        if "weights" in options and tokens.vocabulary_size is not None:
            return size_refusal(options["weights"], options["tokenizer"], tokens.vocabulary_size)
        return None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The table's tokenizer, which adds no tokens of its own."""
        needs = table_options(options["weights"], options["tokenizer"])
        return {**needs, "weighting": "sif"} if options["pooling"] == "sif" else needs

    @classmethod
    def conformance_material(cls) -> Mapping[str, Any]:
        """A small table and its tokenizer, for the checks of plugins."""
        folder = Path(tempfile.mkdtemp(prefix="mmreg-static-"))
        vocabulary = {"<pad>": 0, "<unk>": 1, **{f"w{number}": number for number in range(2, 20)}}
        definition = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
        definition.save(str(folder / "tokenizer.json"))
        save_file({"embeddings": torch.randn(20, 8)}, folder / "model.safetensors")
        return {"options": {"weights": str(folder)}, "specs": [Spec(TOKENS, (None,), "int64", 20)]}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """For texts that look English, the first table that an installed package brings."""
        name, suits = (table_at_hand(values) if modality == "text" else None) or ("", False)
        if not suits:
            return None
        size = f"{find_table(name).stat().st_size / 1e6:.0f} MB"
        return EncoderSuggestion(
            {"weights": name, "freeze": True},
            f"pretrained, at hand: {name}, {size}, frozen, for English; else text_bag",
            rank=2,
        )

    def stages(self) -> Sequence[nn.Module]:
        """The table."""
        return (self.embedding,)

    def forward(self, signal: Signal[Any]) -> Features:
        """Look up tokens (B, T): pooled (B, D), or tokens (B, T, D) with their mask."""
        values = signal.values
        tokens: Tensor = values if isinstance(values, Tensor) else values["tokens"]
        mask = torch.ones_like(tokens, dtype=torch.bool)
        if signal.lengths is not None:
            mask = length_mask(signal.lengths, tokens.shape[1])
        tokens = tokens.masked_fill(~mask, 0)
        if self.outputs == "tokens":
            return Features(tokens=self.embedding(tokens) * self.scale, mask=mask)
        counted = mask & (tokens != self.shape.unknown) if self.skip_unknown else mask
        shares = counted.to(self.embedding.weight.dtype)
        if not isinstance(values, Tensor):
            shares = values["weights"].to(shares.dtype).masked_fill(~counted, 0.0)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
        if torch.compiler.is_exporting():  # a bag would be traced for several rows alone
            pooled = (self.embedding(tokens) * shares[..., None]).sum(1)
        else:
            pooled = functional.embedding_bag(
                tokens, self.embedding.weight, mode="sum", per_sample_weights=shares, padding_idx=0
            )
        return Features(pooled=(functional.normalize(pooled, dim=1) if self.normalize else pooled) * self.scale)
