"""Bundled plugin: pretrained models of Hugging Face's transformers as encoders of texts, pictures and sounds."""
