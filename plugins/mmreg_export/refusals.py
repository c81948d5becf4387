"""What cannot be exported, by name and with the reason, known before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg import Run
from mmreg.messages import byte_size
from mmreg_export.arrays import PRESENT
from mmreg_export.decoding import BUNDLED

MOST_BYTES = 1_900_000_000
"""Of the weights in one ONNX file, whose format ends at 2 GB."""
HOST = "it computes its features outside of torch, in host memory"
REFUSED: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("encoder", "hf_audio"): {"torch-export": HOST, "onnx": HOST},
    ("fusion", "borda"): {"onnx": "it ranks scores by a search in sorted ones, for which ONNX has no operator"},
    ("fusion", "evidential"): {"onnx": "torch's exporter cannot write its evidence in ONNX's operators"},
    ("fusion", "mcb"): {"onnx": "it multiplies spectra, which are complex numbers, and ONNX has none"},
}
"""For some components, by kind and name, why they cannot be written in a format."""


def refusals(run: Run, form: str) -> list[str]:
    """Each reason why a run cannot be written in a format; none if none is known."""
    reasons = [
        f"modality {name}: its cells hold any number of values, for which a file has no input"
        for name in run.model.modalities
        if run.model.pooling_of(name) is not None
    ]
    reasons += [
        f"modality {PRESENT}{name}: the input that tells which rows have {name} is called so; rename the modality"
        for name in run.model.modalities
        if PRESENT + name in run.model.modalities
    ]
    size = sum(weight.numel() * weight.element_size() for weight in run.model.state_dict().values())
    if form == "onnx" and size > MOST_BYTES:
        reasons.append(f"its weights take {byte_size(size)}, and one ONNX file holds 2 GB")
    for kind, name in components(run.recipe):
        reason = REFUSED.get((kind, name), {}).get(form)
        if reason is not None:
            reasons.append(f"{kind} {name}: {reason}")
    return reasons


def components(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The kind and name of each encoder and operator that a recipe names, those within others included."""
    found: dict[tuple[str, str], None] = {}

    def look(data: Any, kind: str = "") -> None:
        """Look for components in what stands in the place of one of this kind, or anywhere else."""
        if isinstance(data, Mapping):
            look(data.get("name"), kind)
            for key, value in data.items():
                look(value, key if key in ("encoder", "fusion") else "")
        elif isinstance(data, list):
            for each in data:
                look(each, kind)
        elif kind and isinstance(data, str):
            found[kind, data.removeprefix(BUNDLED)] = None

    look(recipe)
    return list(found)
