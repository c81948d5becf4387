"""Declares the video components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The modality `video`."""
    return [
        ComponentSpec(
            "modality",
            "video",
            "mmreg_video.modality:Video",
            "Videos from MP4, WebM and other files, GIFs, folders of frames and arrays.",
            install_hint='pip install "mmreg[video]"',
        ),
    ]
