"""Declares the encoders of Hugging Face models; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1

NEEDS = ("transformers", "huggingface_hub")
HINT = "pip install 'mmreg[hf]'"


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """Encoders of texts, pictures and sounds."""
    return [
        ComponentSpec(
            "encoder",
            f"hf_{what}",
            f"mmreg_hf.{what}:HuggingFace{what.capitalize()}",
            f"A pretrained model for {inputs} from Hugging Face.",
            install_hint=HINT,
            requires=NEEDS,
        )
        for what, inputs in (("text", "texts"), ("image", "pictures"), ("audio", "sounds"))
    ]
