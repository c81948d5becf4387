"""Tables of pretrained vectors: the files of one, at hand or named, and its rows by the text modality's numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mmreg.errors import OptionError
from mmreg.messages import listed
from mmreg.pretrained import read_weights
from mmreg_text.language import looks_english
from mmreg_text.tokenizers import SubwordTokenizer, read_definition, refusals

NAMES = ("embedding.weight", "embeddings", "embedding", "vectors", "weight")
"""What files call their table: wordllama, model2vec, others."""


class Packaged(NamedTuple):
    """A table that a package brings: the import name, its files, and what to say of it."""

    package: str
    weights: str
    tokenizer: str
    install: str


PACKAGED: Mapping[str, Packaged] = {
    "wordllama": Packaged(
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "tokenizers/l2_supercat_tokenizer_config.json",
        "pip install wordllama",
    )
}
"""Tables by the name that a recipe may give instead of a file."""


class TableShape(NamedTuple):
    """What a table is, without its rows.

    Attributes:
        rows: V, one for each of the modality's numbers.
        size: D, the values of a vector.
        unknown: the number of the unknown token.
    """

    rows: int
    size: int
    unknown: int


def find_table(weights: str) -> Path:
    """The file of a table; of a name, in the package that brings it, which is not imported.

    Raises:
        OptionError: there is no such file, folder or name, or its package is not installed.
    """
    path = Path(weights)
    if path.is_absolute() or weights not in PACKAGED:
        if path.is_dir():
            files = sorted(path.glob("*.safetensors"))
            chosen = path / "model.safetensors" if path / "model.safetensors" in files else None
            if chosen is None and len(files) != 1:
                raise OptionError(
                    f"weights: {path} should hold model.safetensors, or one such file; it has {len(files)}"
                )
            return chosen or files[0]
        if not path.is_file():
            names = listed(list(PACKAGED))
            raise OptionError(f"weights: {weights!r} is no file or folder, and no name of a table (there is {names})")
        return path
    found = packaged(weights)
    if found is None:
        named = PACKAGED[weights]
        raise OptionError(
            f"weights: {weights} is a table that the package {named.package} brings, which is not installed, or lacks "
            f"{named.weights}: {named.install}, or name a file"
        )
    return found[0]


def packaged(name: str) -> tuple[Path, Path] | None:
    """The table and the tokenizer that an installed package brings, if both are there."""
    named = PACKAGED[name]
    try:
        spec = importlib.util.find_spec(named.package)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        files = Path(place, named.weights), Path(place, named.tokenizer)
        if all(file.is_file() for file in files):
            return files
    return None


def table_at_hand(values: Sequence[Any]) -> tuple[str, bool] | None:
    """The name of the first table that an installed package brings, and whether texts look English.

    Args:
        values: some of a column; those that are no texts do not count.
    """
    for name in PACKAGED:
        if (found := packaged(name)) is not None:
            texts = (value for value in values if isinstance(value, str))
            return name, looks_english(texts, tokens_of(found[1]))
    return None


@lru_cache(maxsize=1)
def tokens_of(tokenizer: Path) -> Collection[str]:
    """The tokens of an installed tokenizer's file as they are spelled; none if it cannot be read."""
    try:
        with refusals():
            tokens: Collection[str] = Tokenizer.from_str(read_definition(tokenizer)).get_vocab()
    except (OSError, ValueError):
        return ()
    return tokens


def tokenizer_at_hand(weights: str, tokenizer: str | None) -> Path | None:
    """The tokenizer that goes with a table; None if that is a name whose package is not there."""
    if tokenizer is not None:
        return Path(tokenizer)
    if weights in PACKAGED:
        found = packaged(weights)
        return None if found is None else found[1]
    path = Path(weights)
    return (path.parent if path.suffix else path) / "tokenizer.json"


def table_options(weights: str | None, tokenizer: str | None) -> dict[str, Any]:
    """What the text modality has to be for a table: its tokenizer, which adds no tokens of its own. Reads no file."""
    if weights is None:
        return {}
    path = tokenizer_at_hand(weights, tokenizer)
    return {**({} if path is None else {"tokenizer_file": str(path)}), "special_tokens": False}


def tokenizer_path(weights: str, tokenizer: str | None) -> Path:
    """The file of the tokenizer that goes with a table that was found.

    Raises:
        OptionError: there is none.
    """
    path = tokenizer_at_hand(weights, tokenizer)
    if path is None or not path.is_file():
        raise OptionError(f"tokenizer: there is no file {path}; name the tokenizer.json that the table was made for")
    return path


def size_refusal(weights: str, tokenizer: str | None, size: int) -> str | None:
    """Why so many tokens are not those of a table's tokenizer; None if they are, or if it is not at hand."""
    path = tokenizer_at_hand(weights, tokenizer)
    if path is None or not path.is_file():
        return None
    try:
        own = _parsed(read_definition(path)).size
    except (OSError, ValueError):
        return None  # building says what is wrong with it
    return None if own == size else f"its tokenizer {path} has {own:,} tokens"


@lru_cache(maxsize=2)
def _parsed(definition: str) -> SubwordTokenizer:
    """A tokenizer for its numbers alone; to parse a large one takes a tenth of a second, and every input asks."""
    return SubwordTokenizer(definition, 1 << 20)


def read_table(path: Path, tokenizer: Path, size: int) -> tuple[Tensor, int]:
    """The rows of a table by the numbers that the text modality gives the tokenizer's tokens, and the unknown one.

    Padding, and an unknown token that the tokenizer itself does not have, are zeros.

    Args:
        path: of the table.
        tokenizer: of its tokenizer.json.
        size: how many numbers the modality has.

    Returns:
        (size, D) float32, and the unknown token's number.

    Raises:
        OptionError: the file holds no table, or one for another tokenizer or with values that are no numbers.
    """
    try:
        cut = _parsed(read_definition(tokenizer))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"tokenizer: {tokenizer} cannot be used: {error}; name a Hugging Face tokenizer.json"
        ) from error
    if cut.size != size:
        raise OptionError(f"tokenizer: {tokenizer} has {cut.size:,} tokens, but the text modality gives {size:,}")
    table = _rows(path)
    if len(table) < cut.own_size:
        raise OptionError(
            f"weights: {path} has {len(table):,} rows for the {cut.own_size:,} tokens of {tokenizer}: "
            "it was made for another tokenizer"
        )
    rows = torch.zeros(size, table.shape[1])
    rows[cut.shift : cut.shift + cut.own_size] = table[: cut.own_size]
    rows[0] = 0.0
    return rows, cut.unknown


def _rows(path: Path) -> Tensor:
    """(V, D) float32, as the file means it: its weights multiplied in, its mapping followed."""
    tensors = read_weights(path)
    flat = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    name = next((name for name in NAMES if name in flat), flat[0] if len(flat) == 1 else None)
    if name is None:
        named = [f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
        raise OptionError(
            f"weights: {path} holds no table, or several: {listed(named, 5)}; a table has two axes, and if there are "
            f"several it is called {NAMES[0]}"
        )
    table = tensors[name]
    if not table.is_floating_point():
        raise OptionError(f"weights: {name} of {path} is {table.dtype}, where floating-point vectors are needed")
    table = table.float()
    mapping, weights = tensors.get("mapping"), tensors.get("weights")
    if mapping is not None and mapping.ndim == 1:
        if mapping.is_floating_point() or not bool(((mapping >= 0) & (mapping < len(table))).all()):
            raise OptionError(f"weights: mapping of {path} should be numbers of the table's {len(table):,} rows")
        table = table[mapping.long()]
    if weights is not None and weights.ndim == 1:
        if len(weights) != len(table):
            raise OptionError(f"weights: {path} has {len(weights):,} weights for {len(table):,} rows")
        table = table * weights.float().unsqueeze(1)
    return table
