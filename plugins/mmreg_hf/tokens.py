"""From the numbers of the text modality to those of a model's own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmreg.errors import OptionError
from mmreg.messages import one_line
from mmreg_hf.folders import CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_settings
from mmreg_hf.settings import Bounds

PADDING_NAMES = ("<pad>", "[PAD]", "<PAD>", "<|pad|>")
USUAL_TOKENS = 256
"""How many tokens the text modality keeps where nothing says it."""
LARGEST_LENGTH = 1_000_000
"""Above it a tokenizer's greatest length means that there is none."""
LATER_POSITIONS = ("roberta", "camembert", "mpnet", "data2vec-text", "longformer", "clap")
"""In the types of models whose positions begin after the number of their padding token."""


def read_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """How a folder's tokenizer numbers tokens, and how the text modality numbers them.

    Args:
        folder: of a model.
        config: the model's.

    Returns:
        `shift`: what the modality adds to the tokenizer's numbers; `size`: how many numbers the tokenizer has;
        `vocabulary_size`: how many the modality has; `unknown` and `padding`: the model's numbers of an unknown token
        and of padding.

    Raises:
        OptionError: the file is no tokenizer, or not of this model, or its padding token is none of the model's.
    """
    path = folder / TOKENIZER
    facts = dict(_numbering(str(path), path.stat().st_mtime_ns, path.stat().st_size))
    own_padding = facts.pop("own_padding")
    most = config.get("vocab_size")
    if isinstance(most, int) and facts["size"] > most:
        raise OptionError(f"model: {path} numbers {facts['size']:,} tokens, but the model knows {most:,}")
    padding = config.get("pad_token_id")
    if padding is None:
        padding = own_padding if own_padding is not None else 0
    numbers = Bounds(0, (most if isinstance(most, int) else max(facts["size"], own_padding or 0)) - 1)
    if padding not in numbers:
        raise OptionError(f"model: {folder / CONFIG} has {padding!r} as pad_token_id, where {numbers} is needed")
    unknown = padding if facts["unknown"] is None else facts["unknown"]
    return {**facts, "unknown": unknown, "padding": padding}


@lru_cache(maxsize=8)
def _numbering(path: str, changed: int, size: int) -> Mapping[str, Any]:
    """See `read_tokens`; time of the last change and size keep a changed file from being taken for the former one."""
    from tokenizers import Tokenizer

    try:
        definition = Path(path).read_text("utf-8")
        tokenizer = Tokenizer.from_str(definition)
        tokenizer.no_padding()
        empty = tokenizer.encode("").ids
        data = json.loads(definition)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library panics, too
        raise OptionError(f"model: {path} is no tokenizer: {one_line(error)}") from error
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    names = [(data.get("padding") or {}).get("pad_token"), *PADDING_NAMES]
    padding = next((vocabulary[name] for name in names if name in vocabulary), None)
    unknown = vocabulary.get(data["model"].get("unk_token"), data["model"].get("unk_id"))
    if padding in empty and unknown != padding:
        raise OptionError(f"model: {path} ends each text by its padding token, which then cannot be told from padding")
    shift = 0 if padding == 0 else 1
    count = max(vocabulary.values(), default=-1) + 1
    known = count + shift + (1 if unknown is None else 0)
    return {"shift": shift, "size": count, "vocabulary_size": known, "unknown": unknown, "own_padding": padding}


def usual_tokens(folder: Path, config: Mapping[str, Any]) -> int:
    """How many tokens a text should keep: as many as usual, or as the model has positions."""
    most = [USUAL_TOKENS]
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    if isinstance(positions, int) and positions > 0:
        later = any(name in str(config.get("model_type")) for name in LATER_POSITIONS)
        most.append(positions - (int(config.get("pad_token_id") or 0) + 1 if later else 0))
    if (folder / TOKENIZER_CONFIG).is_file():
        length = read_settings(folder / TOKENIZER_CONFIG).get("model_max_length")
        if isinstance(length, int) and 0 < length < LARGEST_LENGTH:
            most.append(length)
    return min(most)
