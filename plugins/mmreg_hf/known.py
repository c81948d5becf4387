"""Models that are well known: small, of use as they are, and with weights as safetensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub.

    Attributes:
        encoder: the encoder that takes it.
        modality: the modality that it is for.
        name: on the hub.
        size: of its weights.
    """

    encoder: str
    modality: str
    name: str
    size: str


KNOWN = (
    KnownModel("hf_text", "text", "sentence-transformers/all-MiniLM-L6-v2", "91 MB"),
    KnownModel("hf_text", "text", "sentence-transformers/all-mpnet-base-v2", "438 MB"),
    KnownModel("hf_text", "text", "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "471 MB"),
    KnownModel("hf_text", "text", "BAAI/bge-small-en-v1.5", "133 MB"),
    KnownModel("hf_text", "text", "distilbert/distilbert-base-uncased", "268 MB"),
    KnownModel("hf_image", "image", "facebook/dinov2-small", "88 MB"),
    KnownModel("hf_image", "image", "openai/clip-vit-base-patch32", "605 MB"),
    KnownModel("hf_image", "image", "google/siglip-base-patch16-224", "813 MB"),
    KnownModel("hf_image", "image", "google/vit-base-patch16-224", "346 MB"),
    KnownModel("hf_audio", "audio", "facebook/wav2vec2-base-960h", "378 MB"),
)
"""In the order in which they are proposed."""
