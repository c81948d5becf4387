"""Declares the encoder; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoder of waveforms."""
    return [
        ComponentSpec(
            "encoder", "wav2vec2", "mmreg_torchaudio.encoder:Wav2Vec2", "Pretrained wav2vec 2.0, HuBERT or WavLM."
        ),
    ]
