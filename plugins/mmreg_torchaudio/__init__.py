"""Bundled plugin: pretrained networks of speech that torchaudio has, as encoders of waveforms."""
