"""Small random models of transformers, saved as folders like those of the hub, with tokenizers of a few words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from mmreg_hf.models import quiet

SENTENCES = [
    "a small cat sat on the mat",
    "the dog ran after the cat, and the cat ran away!",
    "Two birds sing in the old tree near the river.",
    "it rains; nobody is outside",
    "unknowable",
]
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = {**SIZES, "image_size": 16, "patch_size": 8}


def tokenizer(padding: int, method: str = "wordpiece") -> Tokenizer:
    """A tokenizer trained on the sentences that puts [CLS] before and [SEP] behind a text.

    Args:
        padding: the number of its padding token.
        method: `wordpiece`, or `byte` for one that knows no unknown token.
    """
    if method == "byte":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            SENTENCES, trainers.BpeTrainer(vocab_size=300, show_progress=False, initial_alphabet=alphabet)
        )
        return made
    special = ["[UNK]", "[CLS]", "[SEP]"]
    special.insert(padding, "[PAD]")
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        SENTENCES[:4], trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    )
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def save_tokenizer(folder: Path, made: Tokenizer, **settings: Any) -> None:
    """Write a tokenizer as transformers does."""
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = {key: name for key, name in names.items() if made.token_to_id(name) is not None}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names, **settings).save_pretrained(folder)


def save_text(folder: Path, config: Any, padding: int = 0, method: str = "wordpiece", **settings: Any) -> Path:
    """Save a random text model of a configuration's type, and a tokenizer of at most 90 words (300 bytes)."""
    save_tokenizer(folder, tokenizer(padding, method), **settings)
    return save_model(folder, transformers.AutoModel.from_config(config))


def save_model(folder: Path, model: Any, processor: Any = None) -> Path:
    """Save a model, whose biases and norms are no longer at their start, and what makes its inputs."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    with quiet():
        model.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
    return folder


def bert(folder: Path, **changes: Any) -> Path:
    """Padding 0; the last layer's own pooling."""
    return save_text(folder, transformers.BertConfig(vocab_size=90, max_position_embeddings=40, **SIZES, **changes))


def roberta(folder: Path) -> Path:
    """Padding 1; positions that begin after it, of which there are 40."""
    config = transformers.XLMRobertaConfig(
        vocab_size=90, max_position_embeddings=42, pad_token_id=1, bos_token_id=1, eos_token_id=3, **SIZES
    )
    return save_text(folder, config, padding=1)


def distilbert(folder: Path) -> Path:
    """No pooling of its own."""
    config = transformers.DistilBertConfig(
        vocab_size=90, max_position_embeddings=40, dim=16, hidden_dim=24, n_layers=2, n_heads=2
    )
    return save_text(folder, config)


def gpt2(folder: Path) -> Path:
    """Causal; no special tokens at all, not even for padding or what is unknown."""
    config = transformers.GPT2Config(
        vocab_size=300, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return save_text(folder, config, method="byte")


def clip(folder: Path, **vision: Any) -> Path:
    """Two towers; texts are pooled at their end, number 3."""
    text = {"vocab_size": 90, "max_position_embeddings": 40, "eos_token_id": 3, "bos_token_id": 2, **SIZES}
    config = transformers.CLIPConfig(text_config=text, vision_config={**PICTURES, **vision}, projection_dim=12)
    save_tokenizer(folder, tokenizer(0))
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return save_model(folder, transformers.CLIPModel(config), processor)


def siglip(folder: Path) -> Path:
    """Two towers; texts are padded to all 20 positions, and their last token is taken."""
    text = {"vocab_size": 90, "max_position_embeddings": 20, "bos_token_id": 2, "eos_token_id": 3, **SIZES}
    config = transformers.SiglipConfig(text_config=text, vision_config=PICTURES)
    save_tokenizer(folder, tokenizer(1))
    processor = transformers.SiglipImageProcessor(size={"height": 16, "width": 16})
    return save_model(folder, transformers.SiglipModel(config), processor)


def clap(folder: Path) -> Path:
    """Two towers; sounds of at most a second, shorter ones repeated."""
    text = {"vocab_size": 90, "max_position_embeddings": 42, "pad_token_id": 1, **SIZES}
    audio = {
        "num_mel_bins": 16,
        "spec_size": 32,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "patch_embeds_hidden_size": 8,
        "window_size": 2,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    save_tokenizer(folder, tokenizer(1))
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=4000,
        truncation="rand_trunc",
    )
    return save_model(folder, transformers.ClapModel(config), extractor)


def ast(folder: Path) -> Path:
    """Spectrograms of at most 40 frames."""
    config = transformers.ASTConfig(
        **SIZES, patch_size=8, frequency_stride=8, time_stride=8, max_length=40, num_mel_bins=16
    )
    extractor = transformers.ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=40)
    return save_model(folder, transformers.ASTModel(config), extractor)


def whisper(folder: Path) -> Path:
    """An encoder of a second, with a decoder that is not taken."""
    config = transformers.WhisperConfig(
        vocab_size=90,
        num_mel_bins=16,
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=24,
        max_source_positions=25,
        max_target_positions=20,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
    )
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=16, sampling_rate=16000, hop_length=320, chunk_length=1, n_fft=1024
    )
    return save_model(folder, transformers.WhisperModel(config), extractor)


def vit(folder: Path, **changes: Any) -> Path:
    """Pictures of 16 pixels in 4 patches."""
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.4] * 3)
    return save_model(folder, transformers.ViTModel(transformers.ViTConfig(**PICTURES, **changes)), processor)


def convnext(folder: Path) -> Path:
    """Convolutional; its features are a map, and its own pooling is a mean."""
    config = transformers.ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1], patch_size=2)
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=1.0)
    return save_model(folder, transformers.ConvNextModel(config), processor)


def sounds(folder: Path, config: Any, normalized: bool = True) -> Path:
    """A model of waveforms of a configuration's type."""
    processor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=normalized)
    return save_model(folder, transformers.AutoModel.from_config(config), processor)


WAVES: Mapping[str, Any] = {
    **SIZES,
    "conv_dim": [8, 8],
    "conv_kernel": [3, 2],
    "conv_stride": [2, 1],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
