"""What cannot be exported, by name and with the reason, known before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg import Run
from mmreg.messages import byte_size
from mmreg_export.arrays import PRESENT

MOST_BYTES = 1_900_000_000
"""Of the weights in one ONNX file, whose format ends at 2 GB."""
OWN = "mmreg:"
"""What a recipe that spells everything out has before the names of bundled components."""
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
    found: list[tuple[str, str]] = []

    def look(kind: str, data: Any) -> None:
        if isinstance(data, str):
            found.append((kind, data.removeprefix(OWN)))
        elif isinstance(data, Mapping):
            if "name" in data:
                found.append((kind, str(data["name"]).removeprefix(OWN)))
            for key, value in data.items():
                if key in ("encoder", "fusion"):
                    look(key, value)
                elif isinstance(value, Mapping | list):
                    look_within(value)
        elif isinstance(data, list):
            for each in data:
                look(kind, each)

    def look_within(data: Any) -> None:
        for value in data.values() if isinstance(data, Mapping) else data:
            if isinstance(value, Mapping | list):
                look_within(value)
        if isinstance(data, Mapping):
            for key in ("encoder", "fusion"):
                if key in data:
                    look(key, data[key])

    look_within(recipe)
    return list(dict.fromkeys(found))
