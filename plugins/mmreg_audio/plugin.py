"""Declares the audio components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The audio modality and its convolutional encoder."""
    return [
        ComponentSpec("modality", "audio", "mmreg_audio.modality:Audio", "Sounds as spectrograms or waveforms."),
        ComponentSpec("encoder", "audio_cnn", "mmreg_audio.cnn:AudioCNN", "Convolutional network for spectrograms."),
    ]
