"""Well-known models that are at hand, for `mmreg init`."""

from __future__ import annotations

from importlib.util import find_spec

from mmreg import EncoderSuggestion
from mmreg_hf.folders import CONFIG, WEIGHTS, find_folder
from mmreg_hf.known import KNOWN


def suggestion(encoder: str, modality: str) -> EncoderSuggestion | None:
    """The first well-known model of an encoder that is in Hugging Face's cache; imports nothing of transformers.

    Args:
        encoder: its name.
        modality: the name of the modality that it is for.
    """
    if find_spec("huggingface_hub") is None or find_spec("transformers") is None:
        return None
    for known in KNOWN:
        fits = known.encoder == encoder and known.modality == modality
        if fits and find_folder(known.name, None, ((CONFIG,), WEIGHTS), local=True) is not None:
            reason = f"pretrained weights at hand ({known.size}), frozen"
            return EncoderSuggestion({"model": known.name, "freeze": True}, reason)
    return None
